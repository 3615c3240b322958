"""What a picture file says about itself, read before a decoder sees it.

Called by `core.imaging` and `core.dicom` only. Decoders are made for honest files: Pillow unpacks
64 MB of PNG comments, walks millions of empty chunks, and lets PNG checksums and a hundred JPEG
scans pass; pydicom takes 20 microseconds for each empty element. Here a file is refused by its own
bookkeeping, in a few milliseconds and without unpacking pixels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

from core.errors import ImageRejected

_Unpack = Callable[[bytes, int], tuple[Any, ...]]

# A picture of 64 megapixels in the smallest blocks that encoders write has about 10,000.
_MAX_BLOCKS = 30_000
# Profiles, EXIF, comments and thumbnails of cameras and editors stay below this.
_MAX_METADATA = 8 * 2**20
# What the packed comments and profiles of a PNG may unpack to.
_MAX_UNPACKED = 4 * 2**20
# Each scan of a progressive JPEG passes over the whole picture; encoders write about ten.
_MAX_SCANS = 100
_MAX_SCANNED_PIXELS = 1_000_000_000
# A TIFF directory of a camera or an editor has about a hundred entries (TIFF 6.0 section 2).
_MAX_ENTRIES = 1_000
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TIFF_SIZES |= {16: 8, 17: 8, 18: 8}  # of BigTIFF
_EXIF = 0x8769
# Radiographs have a few hundred elements, enhanced ones of a hundred frames a few thousand.
_MAX_ELEMENTS = 20_000
_UNDEFINED = 0xFFFFFFFF
_FORMS = ("HHI", "HH", "H", "I")  # of an item's tag and length, a tag, and two lengths
_ITEM_GROUP, _ITEM, _ITEM_ENDS = 0xFFFE, 0xE000, 0xE00D
_PIXELS = 0x7FE0
_SHOWN = {_PIXELS, *range(0x6000, 0x6100)}  # an overlay belongs to the picture (PS3.3 C.9.2)
# Those with four bytes of length, and the others (PS3.5 table 7.1-1).
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
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
    elif kind == "TIFF":
        _check_tiff(data)


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


def _check_tiff(data: bytes) -> None:
    """Refuse a TIFF with too much in the directories that Pillow reads (TIFF 6.0 section 2)."""
    order, big = "<" if data.startswith(b"II") else ">", 43 in data[2:4]
    (page,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    beside = 0
    for _ in range(2):  # that there is a second page, Pillow knows when it has read that, too
        size, exif, page = _directory(data, page, order, big)
        beside += size + _directory(data, exif, order, big)[0]
        if beside > _MAX_METADATA:
            raise ImageRejected(_LADEN.format("TIFF"))


def _directory(data: bytes, position: int, order: str, big: bool) -> tuple[int, int, int]:
    """Bytes of all values, and where what a camera wrote and the next page are; 0 for nowhere.

    What is cut off or damaged is left for Pillow to say.
    """
    count, entry, offset = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    head, step = struct.calcsize(count), struct.calcsize(order + entry + offset)
    try:
        (n,) = struct.unpack_from(order + count, data, position) if position else (0,)
        if n > _MAX_ENTRIES:
            raise ImageRejected("The TIFF file is built in an abnormal way, from too many entries.")
        at = range(position + head, position + head + n * step, step)
        found = [struct.unpack_from(order + entry + offset, data, p) for p in at]
        following = struct.unpack_from(order + offset, data, at.stop)[0] if position else 0
    except (struct.error, OverflowError):
        return 0, 0, 0
    size = sum(values * _TIFF_SIZES.get(kind, 0) for _, kind, values, _ in found)
    return size, next((where for tag, _, _, where in found if tag == _EXIF), 0), following


def check_elements(
    data: bytes, start: int, implicit: bool = False, little: bool = True, meta: bool = False
) -> None:
    """Refuse a DICOM data set of too many elements, or with too much beside its picture.

    It is walked in one line (PS3.5 section 7): sequences and their items are stepped into, so
    their elements count as all others, and the values of others are skipped. What does not hold
    together ends the walk; pydicom says what is wrong with it.

    start: the byte of the first element. implicit, little: how its transfer syntax writes elements.
    meta: only the file meta information (group 2). Raises ImageRejected.
    """
    order = "<" if little else ">"
    head, tag, short, long = (struct.Struct(order + f).unpack_from for f in _FORMS)
    position, end, count, picture, planes = start, len(data), 0, 0, 0
    # The data set and the items that the walk is in: where each ends, and whether it is implicit.
    within = [(end, _is_implicit(data, start, implicit))]
    while position + 8 <= end:
        group, element, length = head(data, position)  # as of an item and without a VR
        if meta and group != 2:
            break
        count += 1
        if count > _MAX_ELEMENTS:
            raise ImageRejected(
                "The DICOM file is built in an abnormal way, from too many elements."
            )
        implicit = _within(within, position) if len(within) > 1 else within[0][1]
        if group == _ITEM_GROUP:
            position += 8
            _step(data, position, element, length, within)
            continue
        if not implicit and data[position + 4 : position + 6] in _VRS and group not in _SHOWN:
            position += 8 + short(data, position + 6)[0]  # nearly all of them
            continue
        if position + 12 > end:
            break
        vr, value = b"", position + 8
        if not implicit:
            vr, length, value = _announced(data, position, short, long)
        if length and group != _PIXELS and _is_sequence(data, value, vr, group, length, tag):
            position = value
            continue
        behind, pieces = value + length, 0
        if length == _UNDEFINED:
            behind, pieces = _behind_fragments(data, value, tag, long, _MAX_ELEMENTS - count)
        elif behind > end and group != _PIXELS:
            break  # cut off: pydicom says so
        position, count = behind, count + pieces
        if group in _SHOWN:
            shown = min(position, end) - value
            picture = max(picture, shown * (group == _PIXELS))  # the small one of an icon is none
            planes += shown * (group != _PIXELS and element == 0x3000)
    if min(position, end) - start - picture - planes > _MAX_METADATA:
        raise ImageRejected(_LADEN.format("DICOM"))


def _step(
    data: bytes, position: int, element: int, length: int, within: list[tuple[int, bool]]
) -> None:
    """Into an item that begins at ``position``, or out of one."""
    if element == _ITEM and length:
        ends = len(data) if length == _UNDEFINED else position + length
        implicit = within[-1][1]
        within.append((ends, implicit or _is_implicit(data, position, implicit)))
    elif element == _ITEM_ENDS and len(within) > 1:
        within.pop()


def _within(items: list[tuple[int, bool]], position: int) -> bool:
    """Whether the elements here are implicit; items that have ended are left."""
    while len(items) > 1 and items[-1][0] <= position:
        items.pop()
    return items[-1][1]


def _is_implicit(data: bytes, position: int, otherwise: bool) -> bool:
    """Whether the elements of a data set or item have no VR, by its first one, as pydicom sees it:
    some write implicit items into a file of explicit ones, and archives do in what they keep as UN.
    """
    vr = data[position + 4 : position + 6]
    return otherwise if len(vr) < 2 else not (vr.isalpha() and vr.isupper())


def _announced(data: bytes, position: int, short: _Unpack, long: _Unpack) -> tuple[bytes, int, int]:
    """VR, length and first byte of the value of an explicit element (PS3.5 7.1); b"" for one that
    has no VR among others that have, as pydicom finds it."""
    vr = data[position + 4 : position + 6]
    if vr in _LONG_VRS:
        return vr, long(data, position + 8)[0], position + 12
    if vr in _VRS or b"AA" <= vr <= b"ZZ":
        return vr, short(data, position + 6)[0], position + 8
    return b"", long(data, position + 4)[0], position + 8


def _is_sequence(data: bytes, value: int, vr: bytes, group: int, length: int, tag: _Unpack) -> bool:
    """Whether pydicom takes a value for a sequence; where no VR says it, its first item does."""
    if vr == b"SQ":
        return True
    # The private ones of a length stay as they are.
    if vr not in (b"", b"UN") or (length != _UNDEFINED and group % 2):
        return False
    return value + 8 <= len(data) and bool(tag(data, value)[0] == _ITEM_GROUP)


def _behind_fragments(
    data: bytes, position: int, tag: _Unpack, long: _Unpack, most: int
) -> tuple[int, int]:
    """Where an encapsulated picture (PS3.5 A.4) ends, and how many fragments it has, up to one more
    than ``most``; the end of the data where it does not hold together."""
    for pieces in range(most + 1):
        if position + 8 > len(data) or tag(data, position)[0] != _ITEM_GROUP:
            return len(data), pieces
        if tag(data, position)[1] != _ITEM:
            return position + 8, pieces
        position += 8 + long(data, position + 4)[0]
    return position, most + 1
