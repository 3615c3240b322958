"""DICOM files -> grey pictures. Called by `core.imaging` only, which maps every exception.

This module reads the file, checks the header before the pixels and undoes the compression;
`core.lut` turns stored values into what a viewer shows.

No attribute that identifies a patient is read or returned.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset, read_preamble
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from core.errors import ImageRejected
from core.grey import Decoded, Grey, check_size, luminance
from core.lut import displayed, numbers
from core.settings import ImageLimits

_LOSSLESS_MARKERS = (0xC3, 0xC7, 0xCB, 0xCF)
_STORAGE = "1.2.840.10008.5.1.4.1.1."
# Storage classes (PS3.4 annex B.5) and families of them that are no radiographs at all.
_NOT_PICTURES = (
    ("1.2.840.10008.1.3.10", "the index of a disc (DICOMDIR)"),
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
_PROJECTION = ("CR", "DX", "RG", "RF", "XA", "PX", "IO", "MG", "OT", "SC", "")
# One decoder for each compression: pydicom by itself tries all that are installed, so that a
# damaged file would run through three libraries instead of one.
_PREFERRED_PLUGINS = ("pydicom", "pyjpegls", "pylibjpeg", "pillow", "gdcm")


def decode(data: bytes, limits: ImageLimits) -> Decoded:
    """A DICOM file (PS3.10) -> HxW uint8 (up to 8 bits stored) or uint16 over the full range.

    Raises ImageRejected with a sentence for what is known to go wrong, and whatever pydicom and
    its decoders raise (AttributeError, ValueError, NotImplementedError, ...) for damaged files.
    """
    _check_inflated_size(data, limits)
    header = dcmread(io.BytesIO(data), stop_before_pixels=True)
    frames = _check_header(header, limits)
    dataset = dcmread(io.BytesIO(data))
    stored = _stored_values(dataset, frames)
    notes: list[str] = []
    if stored.ndim == 3 or dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels = _colour_to_grey(stored, dataset)
    else:
        pixels, notes = displayed(stored, dataset)
    spacing, origin = _pixel_spacing(dataset)
    return Decoded(pixels, spacing, (*notes, *origin, *_remarks(dataset, frames)))


def _check_inflated_size(data: bytes, limits: ImageLimits) -> None:
    """Refuse a deflated data set (PS3.5 A.5) that unpacks to more than a file may have."""
    file = io.BytesIO(data)
    read_preamble(file, force=False)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(
        data[file.tell() :], limits.max_bytes + 1
    )
    if len(inflated) > limits.max_bytes:
        raise ImageRejected("The DICOM file unpacks to more than this program accepts.")


def _check_header(header: Dataset, limits: ImageLimits) -> int:
    """Refuse what is no picture, is too large or cannot be decoded; the number of frames."""
    sop_class = str(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID"))
    for family, noun in _NOT_PICTURES:
        if sop_class == family or sop_class.startswith(family + "."):
            raise ImageRejected(f"The DICOM file holds {noun}, not a radiograph.")
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
    _check_decoder(header.file_meta.get("TransferSyntaxUID"), int(header.get("BitsStored") or 0))
    return frames


def _check_decoder(syntax: UID | None, bits: int) -> None:
    """Refuse a transfer syntax (PS3.5 section 10) for which no decoder is installed."""
    if syntax is None:
        raise ImageRejected("The DICOM file does not say how its picture is encoded.")
    missing = f"The picture is compressed with {syntax.name}, which this installation cannot read."
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError as error:  # video, or a private encoding
        raise ImageRejected(missing) from error
    if not available:
        raise ImageRejected(missing)
    if syntax == "1.2.840.10008.1.2.4.51" and bits > 8 and not _has_libjpeg(syntax):
        raise ImageRejected(
            f"The picture is compressed with {bits}-bit JPEG, which cannot be read."
        )


def _has_libjpeg(syntax: UID) -> bool:
    # For 12-bit JPEG neither Pillow nor GDCM helps; only the GPL plugin that a user may add.
    return "pylibjpeg" in get_decoder(syntax).available_plugins


def _stored_values(dataset: Dataset, frames: int) -> NDArray[Any]:
    """The first frame, HxW or HxWx3 (RGB), integers in the machine's byte order."""
    if "PixelData" not in dataset:
        if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
            raise ImageRejected("The DICOM file holds measured values, not a radiograph.")
        raise ImageRejected("The DICOM file holds no picture: it is incomplete or only a header.")
    syntax = dataset.file_meta.TransferSyntaxUID
    plugin = ""
    if syntax.is_encapsulated:
        _check_frame(dataset, syntax, frames)
        plugin = _plugin(syntax)
    stored = pixel_array(dataset, index=0, decoding_plugin=plugin)
    if stored.shape[:2] != (dataset.Rows, dataset.Columns) or stored.dtype.kind not in "iu":
        raise ValueError(f"decoded to {stored.shape} {stored.dtype}")
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def _plugin(syntax: UID) -> str:
    available = get_decoder(syntax).available_plugins
    return next((name for name in _PREFERRED_PLUGINS if name in available), "")


def _check_frame(dataset: Dataset, syntax: UID, frames: int) -> None:
    """Compare the size inside the compressed frame with the header's, which was checked.

    Otherwise a small header could carry a JPEG of 65,000 x 65,000 pixels past the limits.
    """
    size = None
    frame = get_frame(dataset.PixelData, 0, number_of_frames=frames)
    if syntax in JPEG2000TransferSyntaxes or str(syntax).startswith("1.2.840.10008.1.2.4.20"):
        size = _jpeg2000_size(frame)
    elif syntax in JPEGTransferSyntaxes or syntax in JPEGLSTransferSyntaxes:
        size = _jpeg_size(frame, dataset)
    else:
        return
    if size != (dataset.Columns, dataset.Rows):
        raise ImageRejected("The DICOM file is damaged: header and picture do not fit together.")


def _jpeg_size(frame: bytes, dataset: Dataset) -> tuple[int, int] | None:
    """Width and height of a JPEG or JPEG-LS stream, from its SOF segment (T.81 B.2.2).

    None where the segment is missing, or does not fit the header. GDCM believes both: a stray
    sampling factor or another number of components in a lossless JPEG makes it write outside its
    buffers, which ends the whole process.
    """
    position = 2
    while position + 9 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        length = int.from_bytes(frame[position + 2 : position + 4])
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            segment = frame[position + 4 : position + 2 + length]
            fits = marker not in _LOSSLESS_MARKERS or _is_plain_lossless(segment, dataset)
            size = int.from_bytes(segment[3:5]), int.from_bytes(segment[1:3])
            return size if fits else None
        position += 2 + length
    return None


def _is_plain_lossless(segment: bytes, dataset: Dataset) -> bool:
    """Whether precision, components and sampling (1 x 1) are what the header promises."""
    precision, components = segment[0], segment[5]
    container = 8 if precision <= 8 else 16
    return (
        2 <= precision <= 16
        and container == dataset.BitsAllocated
        and components == dataset.SamplesPerPixel
        and len(segment) == 6 + 3 * components
        and all(factor == 0x11 for factor in segment[7::3])
    )


def _jpeg2000_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG 2000 codestream, from its SIZ segment (T.800 A.5.1)."""
    start = frame.find(b"\xff\x4f\xff\x51")
    if start < 0:
        return None
    fields = [int.from_bytes(frame[start + i : start + i + 4]) for i in (8, 12, 16, 20)]
    return fields[0] - fields[2], fields[1] - fields[3]


def _colour_to_grey(stored: NDArray[Any], dataset: Dataset) -> Grey:
    """RGB or palette indices -> luminance. pydicom has converted YBR to RGB (PS3.3 C.7.6.3.1.2)."""
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
    if stored.dtype == np.uint8:
        return luminance(stored)
    if stored.dtype == np.uint32:
        stored = (stored >> 16).astype(np.uint16)
    return luminance(stored)


def _pixel_spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, list[str]]:
    """(row, column) spacing in mm and a sentence on where it is measured (PS3.3 10.7.1)."""
    for keyword, remark in (
        ("PixelSpacing", "Distances follow the file's Pixel Spacing."),
        ("ImagerPixelSpacing", "Distances are those at the detector, not in the patient."),
    ):
        spacing = numbers(dataset, keyword)
        if len(spacing) == 2 and all(0 < v < math.inf for v in spacing):
            return (spacing[0], spacing[1]), [remark]
    return None, []


def _remarks(dataset: Dataset, frames: int) -> Iterator[str]:
    """Sentences on what a reader should know about the picture."""
    if frames > 1:
        yield f"The file has {frames:,} frames: only the first is read."
    modality = str(dataset.get("Modality") or "")
    if modality not in _PROJECTION:
        yield f"The file comes from another kind of examination (modality {modality[:16]})."
    if dataset.get("PresentationIntentType") == "FOR PROCESSING":
        yield "The file holds raw detector data, not the picture meant for reading."
    if dataset.get("LossyImageCompression") == "01":
        yield "The picture was compressed with loss at some time."
