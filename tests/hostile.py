"""Files that somebody made to hurt: mutations, bombs, masquerades. Used by the quick tests and by
tests/stress/, which differ in how many they take.
"""

from __future__ import annotations

import ctypes
import functools
import io
import resource
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import thread_time
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageFile
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from core import imaging
from core.errors import ImageRejected
from core.settings import ImageLimits
from tests.simulated import damaged, dataset, dicom, encoded, part10, phantom

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
LIMITS = ImageLimits()
SLOWEST = 2.0
STATUS = Path("/proc/self/status")


def kilobytes_from_now() -> int:
    """What the process holds in memory; on Linux its peak is counted anew from here on."""
    if not STATUS.exists():
        return kilobytes_at_most()
    if hasattr(ctypes.CDLL(None), "malloc_trim"):  # of what is free already nothing would be seen
        ctypes.CDLL(None).malloc_trim(0)
    STATUS.with_name("clear_refs").write_text("5")
    return _status("VmRSS")


def kilobytes_at_most() -> int:
    """The most that the process has held, on Linux since ``kilobytes_from_now``."""
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = (line.split() for line in STATUS.read_text().splitlines())
    return next(int(words[1]) for words in lines if words[0] == f"{name}:")


def png_chunk(name: bytes, body: bytes) -> bytes:
    """A PNG chunk with its length and a CRC that is right."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_with(*chunks: bytes) -> bytes:
    """A small PNG with chunks behind its header."""
    data = encoded(phantom(), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    """A small JPEG with (marker, body) segments behind its start."""
    data = encoded(phantom(), "JPEG")
    packed = (struct.pack(">BBH", 0xFF, m, len(body) + 2) + body for m, body in segments)
    return data[:2] + b"".join(packed) + data[2:]


def pictures() -> list[bytes]:
    """One of each way in which PNG, JPEG, TIFF and WebP are written."""
    grey, deep = phantom(), phantom(bits=16)
    colour = Image.fromarray(grey).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        encoded(grey, "PNG"),
        encoded(deep, "PNG"),
        encoded(colour.convert("P"), "PNG", exif=exif),
        encoded(grey, "JPEG", exif=exif),
        encoded(colour, "JPEG", progressive=True),
        encoded(colour.convert("CMYK"), "JPEG"),
        encoded(grey, "TIFF"),
        encoded(deep, "TIFF", compression="tiff_lzw"),
        encoded(colour, "TIFF", compression="jpeg"),
        encoded(grey, "TIFF", compression="tiff_adobe_deflate"),
        encoded(colour, "WEBP", exif=exif),
        encoded(colour, "WEBP", lossless=True),
    ]


def dicoms() -> list[bytes]:
    """One of each transfer syntax that is read."""
    deep = phantom(bits=12)
    twelve = {"BitsStored": 12, "WindowCenter": 2000, "WindowWidth": 3000}
    bundled = ("MR_small_RLE", "MR_small_jpeg_ls_lossless", "MR_small_jp2klossless")
    return [
        dicom(deep, **twelve),
        part10(dataset(deep, **twelve), ImplicitVRLittleEndian),
        part10(dataset(deep, **twelve), DeflatedExplicitVRLittleEndian),
        part10(dataset(phantom()), JPEGBaseline8Bit, encoded(phantom(), "JPEG")),
        (BUNDLED / "SC_rgb_jpeg_gdcm.dcm").read_bytes(),
        *((BUNDLED / f"{name}.dcm").read_bytes() for name in bundled),
    ]


def mutated(data: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """Damage of one kind of five; of a PNG with its checksums made right again, or they end it."""
    kind = rng.integers(5)
    if kind < 2:
        broken = damaged(data, rng)
    elif kind == 2:  # a number in the first kilobyte becomes an extreme one
        at = int(rng.integers(8, max(9, min(1024, len(data) - 8))))
        value = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0"])
        broken = data[:at] + bytes(value).ljust(4, b"\0") + data[at + 4 :]
    elif kind == 3:  # the end of another file
        other = others[int(rng.integers(len(others)))]
        broken = data[: int(rng.integers(len(data)))] + other[int(rng.integers(len(other))) :]
    else:  # a piece twice
        start, stop = sorted(int(n) for n in rng.integers(0, len(data), 2))
        broken = data[:stop] + data[start:]
    return checksummed(broken) if broken.startswith(b"\x89PNG") else broken


def checksummed(data: bytes) -> bytes:
    """A PNG with the CRC of each chunk made right, as far as its chunks can be followed."""
    out, position = bytearray(data), 8
    while position + 12 <= len(out):
        end = position + 8 + int.from_bytes(out[position : position + 4])
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[position + 4 : end]).to_bytes(4)
        position = end + 4
    return bytes(out)


@dataclass
class Toll:
    """What came of many attacks."""

    n: int = 0
    decoded: int = 0
    refused: int = 0
    slowest: float = 0.0
    seed: int = 0

    def __str__(self) -> str:
        return (
            f"n={self.n}: 0 other exceptions, {self.decoded} decoded, {self.refused} refused, "
            f"slowest {self.slowest:.2f} s, seed {self.seed}"
        )


def attack(files: list[bytes], n: int, seed: int) -> Toll:
    """Decode ``n`` mutations; whatever is raised beside ImageRejected comes with its number."""
    rng, toll = np.random.default_rng(seed), Toll(seed=seed)
    for number in range(n):
        data = mutated(files[number % len(files)], files, rng)
        try:
            strike(data, toll)
        except Exception as error:
            error.add_note(f"mutation {number} of seed {seed}")
            raise
    return toll


def strike(data: bytes, toll: Toll) -> None:
    """Decode one file; raises what is not ImageRejected, and AssertionError for a bad picture."""
    start = thread_time()
    try:
        radiograph = imaging.decode(data, "x", LIMITS)
    except ImageRejected as refusal:
        toll.refused += 1
        assert refusal.reason.endswith(".") and "\n" not in refusal.reason
    else:
        toll.decoded += 1
        assert radiograph.pixels.ndim == 2 and radiograph.pixels.dtype in (np.uint8, np.uint16)
        assert min(radiograph.pixels.shape) >= LIMITS.min_side
    toll.n += 1
    toll.slowest = max(toll.slowest, thread_time() - start)


# Bombs: small files that unpack to much, or large ones that are all bookkeeping


@functools.cache
def zeros(megabytes: int) -> bytes:
    """That many megabytes of zeros, packed."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(megabytes)) + packer.flush()


def many_scans() -> bytes:
    """A progressive JPEG of 36 megapixels whose last scan comes ninety times."""
    data = encoded(Image.new("L", (6000, 6000)), "JPEG", progressive=True)
    return data[:-2] + data[data.rfind(b"\xff\xda") : -2] * 90 + data[-2:]


# Name -> what makes the file. Each would take hundreds of megabytes or seconds if it were believed.
BOMBS: dict[str, Callable[[], bytes]] = {
    "pixels, PNG": lambda: encoded(Image.new("1", (13_000, 13_000)), "PNG"),
    "pixels, TIFF": lambda: encoded(Image.new("1", (13_000, 13_000)), "TIFF", compression="group4"),
    "pixels, JPEG": lambda: encoded(Image.new("L", (13_000, 13_000)), "JPEG"),
    "pixels, WEBP": lambda: (
        b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (16382).to_bytes(3, "little") * 2
    ),
    "pixels, DICOM": lambda: dicom(phantom(), Rows=60_000, Columns=60_000),
    "one comment, PNG": lambda: png_with(png_chunk(b"zTXt", b"k\0\0" + zeros(200))),
    "international comment, PNG": lambda: png_with(png_chunk(b"iTXt", b"k\0\1\0\0\0" + zeros(200))),
    "60 comments, PNG": lambda: png_with(*[png_chunk(b"zTXt", b"k\0\0" + zeros(1))] * 60),
    "plain comment, PNG": lambda: png_with(png_chunk(b"tEXt", b"k\0" + bytes(12 * 2**20))),
    "profile, PNG": lambda: png_with(png_chunk(b"iCCP", b"k\0\0" + zeros(200))),
    "EXIF, PNG": lambda: png_with(png_chunk(b"eXIf", b"II*\0\x08\0\0\0" + bytes(12 * 2**20))),
    "empty chunks, PNG": lambda: png_with(*[png_chunk(b"prVt", b"")] * 500_000),
    "EXIF, JPEG": lambda: jpeg_with(*[(0xE1, b"Exif\0\0" + bytes(60_000))] * 200),
    "profile, JPEG": lambda: jpeg_with(*[(0xE2, b"ICC_PROFILE\0\1\xff" + bytes(60_000))] * 200),
    "empty comments, JPEG": lambda: jpeg_with(*[(0xFE, b"")] * 500_000),
    "scans, JPEG": many_scans,
    "profile, WEBP": lambda: webp_with(b"ICCP", bytes(12 * 2**20)),
    "private tag, TIFF": lambda: tiff_with((65_000, 7, 12 * 2**20)),
    "empty tags, TIFF": lambda: tiff_with(*[(1_000 + n, 7, 0) for n in range(60_000)]),
    "empty elements, DICOM": lambda: dicom_with(ELEMENT * 100_000),
    "empty elements, deflated DICOM": lambda: dicom_with(
        ELEMENT * 100_000, DeflatedExplicitVRLittleEndian
    ),
    "empty elements of the file, DICOM": lambda: dicom_with(
        b"\2\0\xf0\0LO\0\0" * 100_000, in_meta=True
    ),
    "nested elements, DICOM": lambda: dicom_with(SEQUENCE + ITEM + ELEMENT * 100_000 + ENDS),
    "elements in a sequence of known length, DICOM": lambda: dicom_with(
        SEQUENCE[:-4]
        + struct.pack("<I", 800_008)
        + ITEM[:-4]
        + struct.pack("<I", 800_000)
        + ELEMENT * 100_000
    ),
    "empty items, DICOM": lambda: dicom_with(SEQUENCE + (ITEM[:-4] + bytes(4)) * 100_000 + ENDS),
    "implicit elements, DICOM": lambda: dicom_with(
        (ELEMENT[:4] + bytes(4)) * 100_000, ImplicitVRLittleEndian
    ),
    # The length of the second has the letters of a VR; its value begins with a length of its own.
    "implicit elements behind a value, DICOM": lambda: dicom_with(
        implicit(b"") + implicit(b"\0\0\0\x7f" + bytes(0x4144 - 4)) + implicit(b"") * 30_000,
        ImplicitVRLittleEndian,
    ),
    "private value, DICOM": lambda: dicom_with(
        b"\x09\0\1\x10OB\0\0" + struct.pack("<I", 12 * 2**20) + bytes(12 * 2**20)
    ),
    "empty fragments, DICOM": lambda: (
        part10(dataset(phantom()), JPEGBaseline8Bit, b"\xff\xd8\xff\xd9")[:-8]
        + (ITEM[:-4] + bytes(4)) * 100_000
        + ENDS[-8:]
    ),
    "ZIP": lambda: zipped(zeros(200)),
}
ELEMENT = b"\x09\0\2\x10LO\0\0"
SEQUENCE = b"\x28\0\x10\x30SQ\0\0\xff\xff\xff\xff"  # VOI LUT Sequence, which is looked into
ITEM = b"\xfe\xff\0\xe0\xff\xff\xff\xff"
ENDS = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"


def implicit(value: bytes) -> bytes:
    """A private element without a VR."""
    return struct.pack("<HHI", 0x0009, 0x1002, len(value)) + value


def dicom_with(
    elements: bytes,
    syntax: str = ExplicitVRLittleEndian,
    in_meta: bool = False,
    pixels: NDArray[Any] | None = None,
) -> bytes:
    """A small DICOM file with more elements, as ``syntax`` writes them, before its others.

    pixels: its picture, by default a small one.
    """
    data = part10(dataset(phantom() if pixels is None else pixels), syntax)
    start = 144 if in_meta else 144 + int.from_bytes(data[140:144], "little")
    if syntax != DeflatedExplicitVRLittleEndian:
        return data[:start] + elements + data[start:]
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    whole = elements + zlib.decompress(data[start:], -zlib.MAX_WBITS)
    return data[:start] + packer.compress(whole) + packer.flush()


def tiff_with(*entries: tuple[int, int, int]) -> bytes:
    """A small TIFF with more (tag, type, count) in its directory; their values lie behind it."""
    data = encoded(phantom(), "TIFF")
    (at,) = struct.unpack_from("<I", data, 4)
    (n,) = struct.unpack_from("<H", data, at)
    size = 2 + 12 * (n + len(entries)) + 4
    values = len(data) + size
    more = b"".join(struct.pack("<HHII", *e, values if e[2] else 0) for e in entries)
    directory = struct.pack("<H", n + len(entries)) + data[at + 2 : at + 2 + 12 * n] + more
    head = data[:4] + struct.pack("<I", len(data)) + data[8:]
    return head + directory + bytes(4) + bytes(sum(count for _, _, count in entries))


def webp_with(chunk: bytes, body: bytes) -> bytes:
    """A small WebP with one more chunk at its end."""
    data = encoded(phantom(), "WEBP") + chunk + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(data) - 8) + data[8:]


def zipped(*contents: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"{number}.png", content)
    return file.getvalue()


# Files that are something else than their name says, and files that are two things at once

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(x) print\n%%EOF\n"
PSD = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 64, 64, 8, 3) + bytes(64)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!DOCTYPE html><script>alert(1)</script>"


def _pillows(form: str) -> bytes:
    return encoded(Image.fromarray(phantom()).convert("RGB"), form)


def masquerades() -> dict[str, bytes]:
    """Name -> a file that calls itself .png."""
    others = {form: _pillows(form) for form in ("GIF", "BMP", "TGA", "PPM", "ICO", "PCX", "SGI")}
    return {
        "EPS": EPS,
        "EPS with preview": b"\xc5\xd0\xd3\xc6"
        + struct.pack("<II", 32, len(EPS))
        + bytes(20)
        + EPS,
        "PSD": PSD,
        "SVG": SVG,
        "HTML": HTML,
        "ZIP": zipped(b"x"),
        "PDF": _pillows("PDF"),
        "ELF": b"\x7fELF\2\1\1" + bytes(200),
        "script": b"#!/bin/sh\ntouch owned\n",
        "pickle": b"\x80\x04cposix\nsystem\n(S'touch owned'\ntR.",
        "FITS": b"SIMPLE  =                    T" + bytes(2880),
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(200),
        **others,
    }


def polyglots() -> dict[str, bytes]:
    """Name -> a picture that something else would be glad to read."""
    png, jpeg = encoded(phantom(), "PNG"), encoded(phantom(), "JPEG")
    pdf, native = _pillows("PDF"), dicom(phantom())
    return {
        "PNG and ZIP": png + zipped(b"x"),
        "JPEG and ZIP": jpeg + zipped(b"x"),
        "WEBP and ZIP": encoded(phantom(), "WEBP") + zipped(b"x"),
        "TIFF and ZIP": encoded(phantom(), "TIFF") + zipped(b"x"),
        "DICOM and ZIP": native + zipped(b"x"),
        "PNG and PDF": png_with(png_chunk(b"prVt", pdf)),
        "JPEG and PDF": jpeg_with((0xFE, pdf[:60_000])),
        "PNG and HTML": png + HTML,
        "DICOM and program": b"MZ" + native[2:],
        "DICOM and script": b"#!/bin/sh\ntouch owned\nexit\n".ljust(128, b"\0") + native[128:],
    }


def disguised_frames() -> dict[str, bytes]:
    """Name -> DICOM whose JPEG frame is of another format behind a JPEG's marker.

    pydicom hands a frame to ``Image.open``, which asks every plugin there is.
    """
    grey = phantom()
    height, width = grey.shape
    sof = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\1\x11\0" + bytes(200)
    frames = {
        "BMP": b"BM" + sof,
        "PPM": b"P6" + sof,
        "no plugin's": b"\0\0" + sof,
        "a broken JPEG": b"\xff\xd8" + sof,
    }
    return {name: part10(dataset(grey), JPEGBaseline8Bit, f) for name, f in frames.items()}


ALLOWED = {"PngImageFile", "JpegImageFile", "TiffImageFile", "WebPImageFile"}
# What Pillow imports with its first ``Image.open``, and asks for the signatures that they know.
IMPORTED = {"Bmp", "Gif", "Jpeg", "Png", "Ppm", "Tiff", "WebP"}


def watched(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Read each file under an audit hook: (name -> refusal or "decoded", what they did besides).

    To be called in a process of its own that has imported no plugin yet: an audit hook stays.
    """
    seen: list[str] = []
    opened = ImageFile.ImageFile.__init__

    def noted(self: ImageFile.ImageFile, *args: object, **options: object) -> None:
        seen.extend({type(self).__name__} - ALLOWED)
        opened(self, *args, **options)

    ImageFile.ImageFile.__init__ = noted  # type: ignore[method-assign]
    paths = sorted(folder.iterdir())
    imaging.read(paths[0], LIMITS)  # the decoders' own imports
    sys.addaudithook(lambda event, facts: seen.extend(_told(event, facts)))
    told = {}
    for path in paths[1:]:
        try:
            imaging.read(path, LIMITS)
            told[path.name] = "decoded"
        except ImageRejected as refusal:
            told[path.name] = refusal.reason
    return told, seen


def _told(event: str, facts: tuple[object, ...]) -> Iterator[str]:
    if event.startswith(
        ("subprocess.", "socket.", "os.system", "os.exec", "os.posix_spawn", "ctypes.")
    ):
        yield f"{event} {facts}"
    if event == "open" and isinstance(facts[1], str) and set(facts[1]) & set("wax+"):
        yield f"{event} {facts}"
    if event == "import" and str(facts[0]).endswith("ImagePlugin"):
        plugin = str(facts[0]).removeprefix("PIL.").removesuffix("ImagePlugin")
        if plugin not in IMPORTED:
            yield f"import {facts[0]}"


SUITES: dict[str, Callable[[], dict[str, bytes]]] = {
    "masquerades": masquerades,
    "polyglots": polyglots,
    "disguised frames": disguised_frames,
}


def main(what: str, n: str, seed: str) -> None:
    """``python -m tests.hostile pictures|dicoms N SEED``: one line of what came of it."""
    warnings.simplefilter("ignore")
    files = {"pictures": pictures, "dicoms": dicoms}[what]()
    toll = attack(files, int(n), int(seed))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.write(f"{what}: {toll}, {peak} MB at most in the whole process\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
