"""THE decode boundary: bytes -> Radiograph, or ImageRejected with one sentence.

No file that a user gives is decoded anywhere else. The kind of a file is told by its first bytes,
never by its name. What the header says is checked against the limits before any pixel is decoded,
because 20 KiB of PNG can hold 13,000 x 13,000 pixels. Damaged files are refused: half a picture
that looks like a whole one is the worst thing this module could return.

Pillow decodes the common formats. It was measured against OpenCV (3000 x 2500 pixels): equally
fast for PNG, JPEG and TIFF, slower for WebP, and it refuses a truncated JPEG that OpenCV fills
with grey without a word. Its plugin classes are opened directly instead of through
``Image.open``: that decides by our own signature, and keeps Pillow's process-wide bomb warning
out of a program with several threads.
"""

from __future__ import annotations

import hashlib
import io
import logging
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from core import structure
from core.errors import ImageRejected, where
from core.grey import (
    CAST_SIDE,
    Decoded,
    Grey,
    cast_of,
    check_size,
    luminance,
    over_black,
    scaled_to_16_bit,
)
from core.settings import ImageLimits
from core.types import DicomHeader, Radiograph

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

log = logging.getLogger(__name__)
_T = TypeVar("_T")

SUPPORTED = "DICOM, PNG, JPEG, TIFF or WebP"

_PLUGINS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "TIFF": TiffImageFile,
    "WEBP": WebPImageFile,
}
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_OTHER_KINDS = (
    (0, b"%PDF", "a PDF document"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"BM", "a BMP picture"),
    (0, b"PK\x03\x04", "a ZIP archive or an Office document"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (4, b"jP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (4, b"ftyp", "a HEIC photograph or a video"),
    (0, b"\x08\x00", "perhaps DICOM without its file header"),
)
# EXIF 2.32: orientation; the block of what a camera writes; exposure time, f-number, sensitivity,
# focal length. A scanner names itself too, but has none of these.
_ORIENTATION, _EXIF = 0x0112, 0x8769
_EXPOSURE = {0x829A, 0x829D, 0x8827, 0x920A}
# TIFF 6.0: tags, and the values of two of them that are asked for.
_BITS, _PHOTOMETRIC, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 258, 262, 338, 339
_UNASSOCIATED, _SIGNED = 2, 2
# How Pillow and pydicom say that a file ends too early.
_INCOMPLETE = ("truncated", "less than expected", "Unexpected end")


def sha256(data: bytes) -> str:
    """SHA-256 of the encoded bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def read(path: str | Path, limits: ImageLimits) -> Radiograph:
    """Read and decode one file; raises ImageRejected, also for a folder or a missing file."""
    return decode(load(path, limits), Path(path).name, limits)


def load(path: str | Path, limits: ImageLimits) -> bytes:
    """The bytes of one file; the size is checked before the content is read.

    Raises ImageRejected, also for a folder and for a file that is missing or unreadable.
    """
    try:
        path = Path(path)
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not an ordinary file"
            raise ImageRejected(f"This is {kind}, so there is no picture to read.")
        if status.st_size > limits.max_bytes:
            _check_bytes(status.st_size, limits)
        with path.open("rb") as file:
            return file.read(limits.max_bytes + 1)
    except FileNotFoundError as error:
        raise ImageRejected("The file does not exist.") from error
    except PermissionError as error:
        raise ImageRejected("The file may not be read: permission was denied.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        # The path is left out of the log: file names can hold a patient's name.
        log.info("A file could not be read: %s", type(error).__name__)
        raise ImageRejected("The file could not be read from the disk.") from error


def decode(
    data: bytes, name: str, limits: ImageLimits, frame: int = 1, digest: str = ""
) -> Radiograph:
    """Decode one encoded picture.

    data: a whole file. name: for display only. frame: which picture of a DICOM file with several,
    from 1. digest: of ``data`` by ``sha256`` where it is known: that of an uncompressed radiograph
    takes a third as long as its decoding. Returns pixels as `Radiograph` describes them:
    HxW, uint16 where the file holds more than 8 bits of grey and uint8 otherwise, read-only.
    Raises ImageRejected and nothing else; the cause is chained and logged with its trace, under
    the first digits of the SHA-256 where that is known, and never under the name. What is refused
    is not hashed: a large bomb would take longer for that than for the refusal. Thread-safe.
    """
    _check_bytes(len(data), limits)
    which = digest[:12] or f"a file of {len(data)} bytes"
    kind = "image"
    try:
        kind = _kind(data)
        if kind == "DICOM":
            decoded = _decode_dicom(data, limits, frame)
        else:
            decoded = _decode(data, kind, limits)
    except ImageRejected as refusal:
        log.info("Refused %s: %s", which, refusal.reason)
        raise
    except Exception as error:
        reason = _sentence(kind, error)
        log.info("Refused %s: %s %s", which, reason, where(error))
        raise ImageRejected(reason) from error
    pixels = np.ascontiguousarray(decoded.pixels)
    pixels.setflags(write=False)
    return Radiograph(
        pixels,
        name,
        digest or sha256(data),
        kind,
        decoded.pixel_spacing,
        decoded.notes,
        decoded.header,
        decoded.exposed,
        decoded.cast,
        cautions=decoded.cautions,
        stored=decoded.stored,
    )


def dicom_header(data: bytes, limits: ImageLimits, pixels: bool = False) -> Dataset:
    """The header of a DICOM file as pydicom gives it, for the replies that are put beside it.

    pixels: with the encoded pixels. It holds the patient's identity. Raises ImageRejected and
    nothing else.
    """
    _check_bytes(len(data), limits)
    if _kind(data) != "DICOM":
        raise ImageRejected("The file is no DICOM file, so there is no study to reply to.")
    from core import dicom

    try:
        header = dicom.header_dataset(data, limits)
        return dicom.whole(data) if pixels else header
    except ImageRejected:
        raise
    except Exception as error:
        log.info("A header could not be read: %s", where(error))
        raise ImageRejected(_sentence("DICOM", error)) from error


def peek(data: bytes, limits: ImageLimits) -> DicomHeader | None:
    """What a DICOM picture says of itself, also where its pixels are refused: whose it is, and of
    which study. None for other files, for what holds no picture and for what cannot be parsed."""
    found = peek_with_uid(data, limits)
    return found[0] if found else None


def peek_with_uid(data: bytes, limits: ImageLimits) -> tuple[DicomHeader, str] | None:
    """``peek``, and the Study Instance UID as it stands there: where that is none by the standard
    it may be any text, which belongs into no log."""

    def told(header: Dataset) -> tuple[DicomHeader, str] | None:
        from core.header import header_of

        if "Rows" not in header:
            return None
        return header_of(header), str(header.get("StudyInstanceUID") or "")

    return _peeked(data, limits, told)


def is_beside(data: bytes, limits: ImageLimits) -> bool:
    """Whether a file is what studies hold beside their radiographs: a DICOM report, a presentation
    state and the like, or a picture that this program made."""

    def told(header: Dataset) -> str:
        from core.dicom import no_radiograph

        return no_radiograph(header)

    return bool(_peeked(data, limits, told))


def _peeked(data: bytes, limits: ImageLimits, told: Callable[[Dataset], _T]) -> _T | None:
    """What the header of a DICOM file tells; None for other files and what cannot be parsed."""
    if data[128:132] != b"DICM":
        return None
    from pydicom import dcmread

    from core import dicom

    try:
        _check_bytes(len(data), limits)
        dicom.check_elements(data, limits)
        return told(dcmread(io.BytesIO(data), stop_before_pixels=True))
    except ImageRejected:
        return None
    except Exception as error:  # noqa: BLE001 (whatever pydicom raises; decode says it to the reader)
        log.info("A header could not be read: %s", where(error))
        return None


def _check_bytes(size: int, limits: ImageLimits) -> None:
    if size == 0:
        raise ImageRejected("The file is empty.")
    if size > limits.max_bytes:
        raise ImageRejected(
            f"The file has {size / 2**20:.1f} MB, more than the {limits.max_bytes / 2**20:g} MB "
            "that are accepted."
        )


def _kind(data: bytes) -> str:
    # DICOM first: its preamble may legally look like a TIFF (DICOM PS3.10 section 7.1).
    if data[128:132] == b"DICM":
        return "DICOM"
    for signature, kind in _SIGNATURES:
        if data.startswith(signature):
            return kind
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    for offset, signature, noun in _OTHER_KINDS:
        if data.startswith(signature, offset):
            raise ImageRejected(f"The file is {noun}; please export the radiograph as {SUPPORTED}.")
    raise ImageRejected(f"The file is not a picture in one of the formats {SUPPORTED}.")


def _sentence(kind: str, error: Exception) -> str:
    """One sentence for a failure in the libraries below."""
    if isinstance(error, MemoryError):
        return "The picture needs more memory than there is on this computer."
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return "The picture is larger than this program accepts."
    if isinstance(error, EOFError) or any(word in str(error) for word in _INCOMPLETE):
        return f"The {kind} file is incomplete; please copy or export it again."
    return f"The {kind} file is damaged or of an unusual kind and cannot be read."


def _decode_dicom(data: bytes, limits: ImageLimits, frame: int) -> Decoded:
    # Imported here because pydicom takes half a second, and most first pictures are not DICOM.
    from core import dicom

    structure.check(data, "DICOM")
    return dicom.decode(data, limits, frame)


def _decode(data: bytes, kind: str, limits: ImageLimits) -> Decoded:
    """PNG, JPEG, TIFF or WebP -> grey picture, upright; the first of several pages or frames."""
    said = structure.size(data, kind)
    if said:  # before Pillow opens it: libwebp allocates two canvases then
        check_size(*said, limits)
    structure.check(data, kind)
    with _PLUGINS[kind](io.BytesIO(data)) as image:
        check_size(*image.size, limits)
        if isinstance(image, TiffImageFile):
            _check_samples(image)
        cautions = (_FIRST_ONLY[kind],) if getattr(image, "is_animated", False) else ()
        deep = _is_deep_colour(image, data)
        coloured = kind == "JPEG" and image.mode != "L"
        if kind == "JPEG":
            image.draft("L", image.size)  # decodes only the luminance
        image.load()
        orientation = image.getexif().get(_ORIENTATION, 1)
        pixels, notes = _deep_colour(data, _has_alpha(image)) if deep else _grey(image)
        cast = _cast(image, data if coloured else b"")
    if orientation in _UPRIGHT:
        pixels = _UPRIGHT[orientation](pixels)
        notes = ["The picture was turned upright, as the file asks for.", *notes]
    exposed = _exposed(image)
    return Decoded(pixels, notes=tuple(notes), exposed=exposed, cast=cast, cautions=cautions)


def _exposed(image: Image.Image) -> bool:
    """See ``Radiograph.exposed``; a header that cannot be read says nothing."""
    try:
        return not _EXPOSURE.isdisjoint(image.getexif().get_ifd(_EXIF))
    except (OSError, ValueError, LookupError, TypeError, SyntaxError, struct.error):
        return False


def _cast(image: Image.Image, jpeg: bytes) -> float:
    """See ``Radiograph.cast``. jpeg: of a coloured one, whose colours were not decoded before."""
    if jpeg:
        with JpegImageFile(io.BytesIO(jpeg)) as again:
            again.draft("RGB", (CAST_SIDE, CAST_SIDE))
            return cast_of(np.asarray(again.convert("RGB")))
    if image.mode not in ("RGB", "RGBA", "YCbCr", "LAB"):
        return 0.0
    factor = max(1, max(image.size) // CAST_SIDE)
    width, height = (max(1, side // factor) for side in image.size)
    # Not averaged: a mean of two colours is not the colour of the mean grey.
    picked = image.resize((width, height), Image.Resampling.NEAREST)
    return cast_of(np.asarray(picked.convert("RGB")))


_FIRST_ONLY = {
    "PNG": "The file is animated: only its first frame is read.",
    "TIFF": "The file has several pages: only the first is read.",
    "WEBP": "The file is animated: only its first frame is read.",
}

# EXIF 2.32, tag 0x0112: what to do with the stored rows and columns. 1 is upright already.
_UPRIGHT: dict[int, Callable[[Grey], Grey]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a[::-1].T,
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: a.T[::-1],
}


def _grey(image: Image.Image) -> tuple[Grey, list[str]]:
    """A loaded Pillow image -> HxW uint8 or uint16, and remarks."""
    if image.mode.startswith("I;16"):
        return _sixteen_bit(image), []
    if image.mode in ("I", "F"):
        return _wide(image)
    if image.mode != "1" and image.has_transparency_data:
        both = np.asarray(image.convert("RGBA").convert("LA"))
        return over_black(both[..., 0], both[..., 1]), []
    if image.mode == "LAB":
        return np.asarray(image.getchannel("L")), []
    if image.mode not in ("1", "L", "P", "RGB", "YCbCr"):
        image = image.convert("RGB")
    return np.asarray(image.convert("L")), []


def _check_samples(image: TiffImageFile) -> None:
    """Refuse signed bytes, which Pillow reads as unsigned ones."""
    if _SIGNED in image.tag_v2.get(_SAMPLE_FORMAT, ()) and 8 in image.tag_v2.get(_BITS, ()):
        raise ImageRejected("The TIFF file holds signed 8-bit values, which cannot be read.")


def _is_white_zero(image: Image.Image) -> bool:
    """TIFF 6.0, PhotometricInterpretation 0: Pillow inverts it for 8 bits only."""
    return isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0


def _sixteen_bit(image: Image.Image) -> NDArray[np.uint16]:
    pixels = np.asarray(image).astype(np.uint16)
    return np.invert(pixels) if _is_white_zero(image) else pixels


def _is_unsigned_32(image: TiffImageFile) -> bool:
    tags = image.tag_v2
    return tags.get(_BITS) == (32,) and tags.get(_SAMPLE_FORMAT, (1,)) == (1,)


def _wide(image: Image.Image) -> tuple[Grey, list[str]]:
    """32-bit integers or floats -> uint16, as they are where they fit."""
    values = np.asarray(image)
    if isinstance(image, TiffImageFile) and _is_unsigned_32(image):
        values = values.view(np.uint32)  # Pillow has no unsigned ones, and keeps their bits
    if values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= 65535:
        return values.astype(np.uint16), []
    if values.dtype.kind == "f" and _is_white_zero(image):  # Pillow reads no integers of that kind
        values = -values  # before "not a number" becomes black
    return scaled_to_16_bit(values), ["The grey values were scaled to 16 bit."]


def _is_deep_colour(image: ImageFile.ImageFile, data: bytes) -> bool:
    """Whether this is 16-bit colour or grey with alpha, which Pillow cuts down to 8 bits."""
    if isinstance(image, PngImageFile):
        return data[24] == 16 and image.mode != "I;16"
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(_BITS, (1,))
        return len(bits) in (3, 4) and bits[0] == 16 and image.mode in ("RGB", "RGBA", "RGBX")
    return False


def _has_alpha(image: ImageFile.ImageFile) -> bool:
    """Whether a fourth channel says how much of a colour is to be seen.

    In a TIFF it may be of no meaning, or its colours are multiplied by it already (tag 338).
    """
    if isinstance(image, TiffImageFile):
        return image.tag_v2.get(_EXTRA_SAMPLES, ())[:1] == (_UNASSOCIATED,)
    return True


def _deep_colour(data: bytes, alpha: bool) -> tuple[Grey, list[str]]:
    """16-bit colour by OpenCV -> HxW uint16. Pillow has found the file complete before."""
    colour = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if colour is None or colour.dtype != np.uint16 or colour.ndim != 3:
        raise ImageRejected("The picture has 16-bit colours of a kind that cannot be read.")
    grey = luminance(colour[..., 2::-1])  # OpenCV's order is blue, green, red, alpha
    if alpha and colour.shape[2] == 4:
        grey = over_black(grey, colour[..., 3])
    return grey, []
