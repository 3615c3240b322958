"""DICOM files -> grey pictures. Called by `core.imaging` only, which maps every exception.

This module reads the file, checks the header before the pixels and undoes the compression;
`core.lut` turns stored values into what a viewer shows, `core.spacing` makes pixels square.

No attribute that identifies a patient is read or returned.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.filereader import read_dataset, read_preamble
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    HTJ2K,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from core import structure
from core.errors import ImageRejected
from core.grey import CAST_SIDE, Decoded, cast_of, check_size, luminance
from core.header import cautions, header_of, is_own, remarks
from core.lut import displayed
from core.settings import ImageLimits
from core.spacing import squared

_STORAGE = "1.2.840.10008.5.1.4.1.1."
# Storage classes (PS3.4 annex B.5) and families of them that are no radiographs at all.
_NOT_PICTURES = (
    ("1.2.840.10008.1.3.10", "the index of a disc (DICOMDIR; choose the pictures beside it)"),
    (_STORAGE + "104.1", "a PDF document"),
    (_STORAGE + "104", "an enclosed document"),
    (_STORAGE + "88", "a written report (structured report)"),
    (_STORAGE + "11", "a presentation state"),
    (_STORAGE + "9", "a waveform such as an ECG"),
    (_STORAGE + "30", "a map of measured values"),
    (_STORAGE + "66", "a segmentation, a registration or raw data"),
    (_STORAGE + "481.2", "a radiotherapy dose"),
    (_STORAGE + "481.3", "a radiotherapy structure set"),
    (_STORAGE + "481.5", "a radiotherapy plan"),
)
_INTERPRETATIONS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB")
_COLOUR = "The file is in colour: only its brightness is used."
# Where multi-frame objects keep what describes one frame (PS3.3 C.7.6.16).
_FRAME_GROUPS = ("FrameVOILUTSequence", "PixelValueTransformationSequence", "PixelMeasuresSequence")
# One decoder for each compression: pydicom by itself tries all that are installed, so that a
# damaged file would run through three libraries. GDCM is never used: on damaged lossless JPEG it
# ends the whole process (3.2.6: about once in 3,000 mutated files).
_PREFERRED_PLUGINS = ("pydicom", "pyjpegls", "pylibjpeg", "pillow")
_JPEG_2000 = (*JPEG2000TransferSyntaxes, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL)
_LOSSLESS_JPEG = (JPEGLossless, JPEGLosslessSV1)


def decode(data: bytes, limits: ImageLimits, frame: int = 1) -> Decoded:
    """A DICOM file (PS3.10) -> HxW uint8 (up to 8 bits stored) or uint16 over the full range.

    frame: which picture of a file with several, from 1.
    Raises ImageRejected with a sentence for what is known to go wrong, and whatever pydicom and
    its decoders raise (AttributeError, ValueError, NotImplementedError, ...) for damaged files.
    """
    frames = int(header_dataset(data, limits).get("NumberOfFrames") or 1)
    if not 1 <= frame <= frames:
        raise ImageRejected(f"The file has {frames:,} frames and no frame {frame:,}.")
    dataset = dcmread(io.BytesIO(data))
    described = header_of(dataset, frame)
    stored = _stored_values(dataset, frame)
    _take_frame_groups(dataset, frame)
    if stored.ndim == 3 or dataset.PhotometricInterpretation == "PALETTE COLOR":
        colour = _rgb(stored, dataset)
        pixels, notes, cast = luminance(colour), [_COLOUR], _cast(colour)
    else:
        (pixels, notes), cast = displayed(stored, dataset), 0.0
    shown, spacing, measured = squared(pixels, dataset, limits)
    said = (*notes, *measured, *remarks(described, dataset))
    warned = tuple(cautions(described, dataset))
    return Decoded(shown, spacing, said, described, cast=cast, cautions=warned, stored=pixels.shape)


def header_dataset(data: bytes, limits: ImageLimits) -> Dataset:
    """The header of a DICOM file, without its pixels; raises as ``decode`` does."""
    check_elements(data, limits)
    header = dcmread(io.BytesIO(data), stop_before_pixels=True)
    _check_header(header, limits)
    return header


def whole(data: bytes) -> Dataset:
    """A file that was checked before, with its pixels as they are encoded."""
    return dcmread(io.BytesIO(data))


def check_elements(data: bytes, limits: ImageLimits) -> None:
    """Refuse what takes too long to read, and a deflated data set (PS3.5 A.5) that unpacks to more
    than a file may have; raises what pydicom raises for the file meta information."""
    file = io.BytesIO(data)
    read_preamble(file, force=False)
    structure.check_elements(data, file.tell(), meta=True)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    syntax, start = meta.get("TransferSyntaxUID"), file.tell()
    if syntax == DeflatedExplicitVRLittleEndian:
        most = limits.max_bytes + 1
        data, start = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[start:], most), 0
        if len(data) == most:
            raise ImageRejected("The DICOM file unpacks to more than this program accepts.")
    implicit, little = syntax in (None, ImplicitVRLittleEndian), syntax != ExplicitVRBigEndian
    structure.check_elements(data, start, implicit, little)


def _check_header(header: Dataset, limits: ImageLimits) -> None:
    """Refuse what is no picture, is too large or cannot be decoded."""
    reason = no_radiograph(header)
    if reason:
        raise ImageRejected(reason)
    if not header.get("Rows") or not header.get("Columns"):
        raise ImageRejected("The DICOM file holds no picture.")
    interpretation = str(header.get("PhotometricInterpretation") or "none")
    if interpretation not in _INTERPRETATIONS and not interpretation.startswith("YBR_"):
        raise ImageRejected(
            f"The grey values or colours of the DICOM file are of an unknown kind "
            f"({interpretation[:16]})."
        )
    frames = int(header.get("NumberOfFrames") or 1)
    if frames < 1:
        raise ImageRejected("The DICOM file is damaged: its number of frames is negative.")
    check_size(int(header.Columns), int(header.Rows), limits, frames)
    _check_decoder(header)


def no_radiograph(header: Dataset) -> str:
    """Why an object is none by its class or its maker, one sentence; "" where it may be one."""
    sop_class = str(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID"))
    for family, noun in _NOT_PICTURES:
        if sop_class == family or sop_class.startswith(family + "."):
            return f"The DICOM file holds {noun}, not a radiograph."
    return "This picture was made by this program and is no radiograph." if is_own(header) else ""


def _check_decoder(header: Dataset) -> None:
    """Refuse a transfer syntax (PS3.5 section 10) for which no decoder is installed."""
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise ImageRejected("The DICOM file does not say how its picture is encoded.")
    try:
        native = not syntax.is_encapsulated
        known = native or _needs_imagecodecs(header, syntax) or bool(_plugin(syntax))
    except (NotImplementedError, ValueError):  # video, or a private encoding
        known = False
    if not known or (_needs_imagecodecs(header, syntax) and not find_spec("imagecodecs")):
        raise ImageRejected(
            f"The picture is compressed with {syntax.name}, which this installation cannot read."
        )


def _needs_imagecodecs(dataset: Dataset, syntax: UID) -> bool:
    """Lossless JPEG and 12-bit JPEG, for which pydicom has only GDCM and a GPL library."""
    deep = int(dataset.get("BitsStored") or 0) > 8
    return syntax in _LOSSLESS_JPEG or (syntax == JPEGExtended12Bit and deep)


def _plugin(syntax: UID) -> str:
    available = get_decoder(syntax).available_plugins
    return next((name for name in _PREFERRED_PLUGINS if name in available), "")


def _stored_values(dataset: Dataset, frame: int) -> NDArray[Any]:
    """One frame (from 1), HxW or HxWx3 (RGB), integers in the machine's byte order."""
    if "PixelData" not in dataset:
        if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
            raise ImageRejected("The DICOM file holds measured values, not a radiograph.")
        raise ImageRejected("The DICOM file holds no picture: it is incomplete or only a header.")
    syntax = dataset.file_meta.TransferSyntaxUID
    plugin, index = "", frame - 1
    if syntax.is_encapsulated:
        compressed, index = _checked_frame(dataset, syntax, frame), 0
        if _needs_imagecodecs(dataset, syntax):
            return _turbo(compressed, dataset)
        plugin = _plugin(syntax)
        if plugin == "pillow":  # by Image.open, which tries all its formats on what is no JPEG
            JpegImageFile(io.BytesIO(compressed)).close()
    read = partial(pixel_array, dataset, index=index, decoding_plugin=plugin)
    stored = _in_words(dataset, read)
    if stored.shape[:2] != (dataset.Rows, dataset.Columns) or stored.dtype.kind not in "iu":
        raise ValueError(f"decoded to {stored.shape} {stored.dtype}")
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def has_spare_bits(dataset: Dataset) -> bool:
    """Whether there is room for something else beside the values in their words, such as a drawing
    (overlay); other compressions have none."""
    syntax = dataset.file_meta.TransferSyntaxUID
    native = not syntax.is_encapsulated or syntax == RLELossless
    return native and bool(dataset.BitsStored < dataset.BitsAllocated)


def values_alone(dataset: Dataset) -> NDArray[Any]:
    """Of a picture that ``has_spare_bits`` the values of all its frames, at the bottom of their
    words and with their sign; what stands beside them is dropped. Raises whatever pydicom does."""
    syntax = dataset.file_meta.TransferSyntaxUID
    plugin = _plugin(syntax) if syntax.is_encapsulated else ""
    return _in_words(dataset, partial(pixel_array, dataset, decoding_plugin=plugin))


def _in_words(dataset: Dataset, read: Callable[..., NDArray[Any]]) -> NDArray[Any]:
    """What ``read`` finds in the words of a picture, without what stands beside the values."""
    if _is_shifted(dataset, dataset.file_meta.TransferSyntaxUID):
        words = read(correct_unused_bits=False)
        if int(words.view(f"u{words.itemsize}").max()) >> dataset.BitsStored:
            return _shifted(words, dataset)
    return read()  # at the bottom of the words, also where the header says otherwise


def _is_shifted(dataset: Dataset, syntax: UID) -> bool:
    """Whether values are said to stand higher in their words than at the bottom, as older editions
    of the standard allow (High Bit, PS3.5 section 8.1.1); other compressions hold them without a
    place.
    """
    high = int(dataset.get("HighBit") or 0)
    native = not syntax.is_encapsulated or syntax == RLELossless
    return native and dataset.BitsStored <= high < dataset.BitsAllocated


def _shifted(words: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Whole words -> the values in them, with their sign; what stands beside them is dropped."""
    above = dataset.BitsAllocated - 1 - dataset.HighBit
    return np.right_shift(np.left_shift(words, above), dataset.BitsAllocated - dataset.BitsStored)


def _turbo(frame: bytes, dataset: Dataset) -> NDArray[Any]:
    """Lossless or 12-bit JPEG by libjpeg-turbo -> HxW or HxWx3 integers as `_stored_values`."""
    import imagecodecs

    if b"\xff\xd9" not in frame[-4:]:  # libjpeg-turbo fills up what is missing with grey
        raise ImageRejected("The DICOM file is incomplete; please copy or export it again.")
    stored: NDArray[Any] = imagecodecs.jpeg8_decode(frame)
    samples = (3,) if dataset.SamplesPerPixel == 3 else ()
    if stored.shape != (dataset.Rows, dataset.Columns, *samples):
        raise ValueError(f"decoded to {stored.shape}")
    if samples and dataset.PhotometricInterpretation != "RGB":
        return stored[..., 0]  # lossless JPEG leaves YBR as it is, and Y is the luminance
    if dataset.PixelRepresentation == 1:  # JPEG knows no sign: extend it from the bits stored
        shift = 8 * stored.dtype.itemsize - dataset.BitsStored
        signed = np.left_shift(stored, shift).view(f"i{stored.dtype.itemsize}")
        stored = np.right_shift(signed, shift)
    return stored


def _checked_frame(dataset: Dataset, syntax: UID, number: int) -> bytes:
    """One compressed frame, now the only one, whose own header must agree with that of the file.

    Otherwise a small header could carry a JPEG of 65,000 x 65,000 pixels past the limits.
    """
    frames = int(dataset.get("NumberOfFrames") or 1)
    frame = get_frame(dataset.PixelData, number - 1, number_of_frames=frames)
    shape: tuple[int, int, int] | None
    if syntax in _JPEG_2000:
        start = _start_of_codestream(frame)
        shape = _jpeg2000_shape(frame[start:])
        if start or frames > 1:
            frame = frame[start:]
            _keep_only(frame, dataset)
    else:
        if frames > 1:
            _keep_only(frame, dataset)
        if syntax not in JPEGTransferSyntaxes and syntax not in JPEGLSTransferSyntaxes:
            return frame
        shape = _jpeg_shape(frame)
    if shape != (dataset.Rows, dataset.Columns, dataset.SamplesPerPixel):
        raise ImageRejected("The DICOM file is damaged: header and picture do not fit together.")
    return frame


def _start_of_codestream(frame: bytes) -> int:
    """Where JPEG 2000 begins behind the JP2 boxes that some devices leave around it.

    They are against the standard (PS3.5 section 8.2.4), and where the length of one is damaged to
    0, pydicom 3.0.2 looks for the next one for ever.
    """
    return max(0, frame.find(b"\xff\x4f\xff\x51"))


def _keep_only(frame: bytes, dataset: Dataset) -> None:
    dataset.PixelData = encapsulate([frame])
    dataset.NumberOfFrames = 1
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        dataset.pop(keyword, None)


def _take_frame_groups(dataset: Dataset, frame: int) -> None:
    """Copy what a multi-frame object says of one frame to where single pictures have it."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    for groups in (*shared[:1], *own[frame - 1 : frame]):
        for keyword in _FRAME_GROUPS:
            for item in (groups.get(keyword) or [])[:1]:
                dataset.update(item)


def _jpeg_shape(frame: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and samples of JPEG or JPEG-LS, from its SOF segment (T.81 B.2.2)."""
    position = 2 if frame.startswith(b"\xff\xd8\xff") else len(frame)
    while position + 10 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            return (*struct.unpack_from(">HH", frame, position + 5), frame[position + 9])
        position += 2 + int.from_bytes(frame[position + 2 : position + 4])
    return None


def _jpeg2000_shape(frame: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and samples of JPEG 2000, from its SIZ segment (T.800 A.5.1)."""
    if len(frame) < 42 or not frame.startswith(b"\xff\x4f\xff\x51"):
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", frame, 8)
    return bottom - top, right - left, int.from_bytes(frame[40:42])


def _rgb(stored: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """RGB or palette indices -> HxWx3 uint8 or uint16. pydicom has converted YBR to RGB (PS3.3
    C.7.6.3.1.2)."""
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)[..., :3]  # the fourth is its transparency
    return (stored >> 16).astype(np.uint16) if stored.dtype == np.uint32 else stored


def _cast(colour: NDArray[Any]) -> float:
    """See ``Radiograph.cast``, of HxWx3 uint8 or uint16."""
    step = max(1, max(colour.shape) // CAST_SIDE)
    few = colour[::step, ::step]
    return cast_of(few if few.dtype == np.uint8 else (few >> 8).astype(np.uint8))
