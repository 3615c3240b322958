"""What a picture file says about itself, read before a decoder sees it.

Called by `core.imaging` only. Decoders are made for honest files: Pillow unpacks 64 MB of PNG
comments, walks millions of empty chunks, and lets PNG checksums and a hundred JPEG scans pass.
Here a file is refused by its own bookkeeping, in a few milliseconds and without unpacking pixels.
"""

from __future__ import annotations

import struct
import zlib

from core.errors import ImageRejected

# A picture of 64 megapixels in the smallest blocks that encoders write has about 10,000.
_MAX_BLOCKS = 30_000
# Profiles, EXIF, comments and thumbnails of cameras and editors stay below this.
_MAX_METADATA = 8 * 2**20
# What the packed comments and profiles of a PNG may unpack to.
_MAX_UNPACKED = 4 * 2**20
# Each scan of a progressive JPEG passes over the whole picture; encoders write about ten.
_MAX_SCANS = 100
_MAX_SCANNED_PIXELS = 1_000_000_000
_ZIP_END = 22 + 0xFFFF  # the longest end record of a ZIP archive, with its comment (APPNOTE 4.3.16)
_PROGRAMS = (
    b"MZ",
    b"\x7fELF",
    b"#!",
    b"PK",
    b"%PDF",
    b"<",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
)

_PACKED = (b"zTXt", b"iCCP", b"iTXt")

_LADEN = "The {} file carries more beside its picture than this program accepts."
_DAMAGED = "The PNG file is damaged or incomplete: its checksums do not match."


def size(data: bytes, kind: str) -> tuple[int, int] | None:
    """(width, height) of a PNG or WEBP; None for what Pillow opens without allocating.

    Raises ImageRejected or struct.error where there is no such header.
    """
    if kind == "PNG":
        width, height = struct.unpack_from(">II", data, 16)
        return width, height
    return _webp_size(data) if kind == "WEBP" else None


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height in a WebP header (RFC 9649, sections 2.5 to 2.7)."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ImageRejected("The WEBP file is damaged: it has no picture header.")


def check(data: bytes, kind: str) -> None:
    """Refuse a file whose blocks do not hold together or hold too much, or that is two files.

    kind: PNG, JPEG, TIFF, WEBP or DICOM. Raises ImageRejected.
    """
    _check_alone(data, kind)
    if kind == "PNG":
        _check_png(data)
    elif kind == "JPEG":
        _check_jpeg(data)
    elif kind == "WEBP":
        _check_webp(data)


def _check_alone(data: bytes, kind: str) -> None:
    """Refuse a picture that another program would take for an archive, a document or a program."""
    also = ""
    end = data.rfind(b"PK\x05\x06", max(0, len(data) - _ZIP_END))
    if end >= 0 and end + 22 + int.from_bytes(data[end + 20 : end + 22], "little") == len(data):
        also = "a ZIP archive"
    elif b"%PDF-" in data[:1024]:
        also = "a PDF document"
    elif kind == "DICOM" and data.startswith(_PROGRAMS):  # in the preamble (PS3.10 7.1)
        also = "a program or a document"
    if also:
        raise ImageRejected(f"The file is a {kind} picture and {also} at once, so it is refused.")


def _check_png(data: bytes) -> None:
    """Refuse a PNG whose critical chunks are cut or fail their CRC (PNG 5.3), and a laden one."""
    view, position, unpacked, beside = memoryview(data), 8, 0, 0
    for _ in range(_MAX_BLOCKS):
        if position + 12 > len(data):
            raise ImageRejected(_DAMAGED)
        length, chunk = struct.unpack_from(">I4s", data, position)
        body, end = position + 8, position + 8 + length
        if end + 4 > len(data):
            raise ImageRejected(_DAMAGED)
        if chunk[0] & 0x20:  # ancillary
            beside += length
            if chunk in _PACKED:
                unpacked += _unpacked(chunk, view[body:end], _MAX_UNPACKED + 1 - unpacked)
            if beside > _MAX_METADATA or unpacked > _MAX_UNPACKED:
                raise ImageRejected(_LADEN.format("PNG"))
        elif zlib.crc32(view[position + 4 : end]) != int.from_bytes(view[end : end + 4]):
            raise ImageRejected(_DAMAGED)
        position = end + 4
        if chunk == b"IEND":
            if data[position:].strip(b"\0\r\n\x1a "):
                raise ImageRejected("The PNG file goes on behind its end mark, so it is refused.")
            return
    raise ImageRejected("The PNG file is built in an abnormal way, from too many blocks.")


def _unpacked(chunk: bytes, body: memoryview, most: int) -> int:
    """Bytes that a packed comment or profile takes, counted up to ``most`` (PNG 11.3)."""
    keyword = bytes(body[:81]).find(b"\0")
    if keyword < 0:
        return 0
    if chunk == b"iTXt":  # keyword, packed or not, method, language, translated keyword, text
        if len(body) < keyword + 3 or body[keyword + 1] != 1:
            return 0
        fields = bytes(body[keyword + 3 :]).split(b"\0", 2)
        packed = fields[2] if len(fields) == 3 else b""
    else:
        packed = bytes(body[keyword + 2 :])
    try:
        return len(zlib.decompressobj().decompress(packed, most))
    except zlib.error:  # Pillow leaves such a comment out, or refuses the file
        return 0


def _check_jpeg(data: bytes) -> None:
    """Refuse a JPEG with too much before its picture (T.81 B.1.1.4), or with too many scans."""
    position, pixels, progressive, blocks = 2, 0, False, 0
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xDA:
            break
        blocks += 1
        if position > _MAX_METADATA or blocks > _MAX_BLOCKS // 30:
            raise ImageRejected(_LADEN.format("JPEG"))
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8:  # no length follows
            position += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, position + 5)
            pixels, progressive = height * width, marker not in (0xC0, 0xC1)
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    if progressive:
        scans = data.count(b"\xff\xda")
        if scans > _MAX_SCANS or scans * pixels > _MAX_SCANNED_PIXELS:
            raise ImageRejected("The JPEG file is built in an abnormal way, from too many scans.")


def _check_webp(data: bytes) -> None:
    """Refuse a WebP with too much beside its picture, or with something behind it (RFC 9649 2)."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if data[end + end % 2 :].strip(b"\0"):
        raise ImageRejected("The WEBP file goes on behind its end, so it is refused.")
    position, beside = 12, 0
    for _ in range(_MAX_BLOCKS):
        if position + 8 > len(data):
            return
        chunk, length = struct.unpack_from("<4sI", data, position)
        if chunk in (b"ICCP", b"EXIF", b"XMP "):
            beside += length
        if beside > _MAX_METADATA:
            raise ImageRejected(_LADEN.format("WEBP"))
        position += 8 + length + length % 2
    raise ImageRejected("The WEBP file is built in an abnormal way, from too many blocks.")
