"""Copies without identity, for training: PS3.15 annex E, Basic Application Confidentiality Profile.

Stricter than the profile's list of what to remove: only what it takes to show the picture is kept,
with every value checked, and all else is gone, known and unknown, private and public. UIDs and the
Patient ID become keyed digests: the same patient stays one patient, for splits by patient, and
nobody without the key can tell which.

What is burned into the pixels stays: files that say so are not kept. What stands beside the grey
values in their words, as drawings may (overlays), goes.
"""

from __future__ import annotations

import hmac
import secrets
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from core import dicom, imaging
from core.dicom_out.encoding import encoded
from core.errors import ImageRejected
from core.files import write_atomically
from core.header import header_of
from core.lut import numbers
from core.settings import ImageLimits

_NUMBERS = (
    *("Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration", "BitsAllocated", "BitsStored"),
    *("HighBit", "PixelRepresentation", "NumberOfFrames", "PixelPaddingValue"),
    *("PixelPaddingRangeLimit", "PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"),
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"),
)
_WORDS = {
    "PhotometricInterpretation": (
        *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422"),
        *("YBR_RCT", "YBR_ICT", "YBR_PARTIAL_420", "YBR_PARTIAL_422"),
    ),
    "VOILUTFunction": ("LINEAR", "LINEAR_EXACT", "SIGMOID"),
    "PresentationLUTShape": ("IDENTITY", "INVERSE"),
    "LossyImageCompression": ("00", "01"),
}
_PALETTE = tuple(
    f"{colour}PaletteColorLookupTable{what}"
    for colour in ("Red", "Green", "Blue")
    for what in ("Descriptor", "Data")
)
_TABLES = ("ModalityLUTSequence", "VOILUTSequence")
_EMPTY = (
    *("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "Manufacturer", "SeriesNumber"),
    "InstanceNumber",
)


class TrainingCopies:
    """A folder ``<patient>/<study>/<picture>.dcm`` of digests. key: the file of the secret."""

    def __init__(self, folder: Path, key: Path) -> None:
        self._folder = folder
        if not key.exists():
            write_atomically(key, lambda p: p.write_bytes(secrets.token_bytes(32)))
            key.chmod(0o600)
        self._key = key.read_bytes()

    def keep(self, data: bytes, limits: ImageLimits) -> Path | None:
        """The copy of one DICOM file; None where it is none, has text in its picture or no class.

        Raises OSError.
        """
        try:
            original = imaging.dicom_header(data, limits, pixels=True)
        except ImageRejected:
            return None
        copy = deidentified(original, self._key)
        if copy is None:
            return None
        place = self._folder / str(copy.PatientID) / copy.StudyInstanceUID[-16:]
        path = place / f"{copy.SOPInstanceUID[-16:]}.dcm"
        content = encoded(copy)
        write_atomically(path, lambda p: p.write_bytes(content))
        return path


def deidentified(original: Dataset, key: bytes) -> Dataset | None:
    """The picture of a data set and nothing that tells whose it is; None with burned-in text, and
    where nothing says of what class it is, or colours have room for something beside them."""
    described = header_of(original)
    kind = original.get("SOPClassUID") or original.file_meta.get("MediaStorageSOPClassUID")
    if described.burned_in or "PixelData" not in original or not kind:
        return None
    if original.SamplesPerPixel != 1 and dicom.has_spare_bits(original):
        return None
    copy = Dataset()
    for keyword in _EMPTY:
        setattr(copy, keyword, None)
    copy.SOPClassUID = kind
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(copy, keyword, _uid(key, str(original.get(keyword) or "")))
    copy.PatientID = _digest(key, str(original.get("PatientID") or copy.StudyInstanceUID))
    copy.Modality = described.modality or "OT"
    copy.BodyPartExamined, copy.ViewPosition = described.body_part, described.view_position
    copy.ImageLaterality = described.laterality
    copy.file_meta = FileMetaDataset()
    copy.file_meta.TransferSyntaxUID = original.file_meta.get(
        "TransferSyntaxUID", ExplicitVRLittleEndian
    )
    _copy_picture(original, copy)
    copy.PatientIdentityRemoved = "YES"
    copy.LongitudinalTemporalInformationModified = "REMOVED"
    copy.DeidentificationMethod = "Only the picture is kept (PS3.15 Basic Profile)"
    method = Dataset()
    method.CodeValue, method.CodingSchemeDesignator = "113100", "DCM"
    method.CodeMeaning = "Basic Application Confidentiality Profile"
    copy.DeidentificationMethodCodeSequence = [method]
    return copy


def _copy_picture(original: Dataset, copy: Dataset) -> None:
    for keyword in _NUMBERS:
        values: list[Any] = numbers(original, keyword)
        if values:
            whole = all(float(v).is_integer() for v in values)
            values = [int(v) for v in values] if whole else values
            setattr(copy, keyword, values if len(values) > 1 else values[0])
    for keyword, words in _WORDS.items():
        if str(original.get(keyword)) in words:
            setattr(copy, keyword, str(original.get(keyword)))
    for keyword in _TABLES:
        items = original.get(keyword) or []
        if items:
            setattr(copy, keyword, [_only(item, ("LUTDescriptor", "LUTData")) for item in items])
    copy.update(_only(original, (*_PALETTE, "PixelData")))
    if dicom.has_spare_bits(original):
        _keep_values_alone(original, copy)


def _keep_values_alone(original: Dataset, copy: Dataset) -> None:
    if copy.file_meta.TransferSyntaxUID.is_encapsulated:
        copy.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    values = dicom.values_alone(original)
    little = copy.file_meta.TransferSyntaxUID.is_little_endian
    data = values.astype(values.dtype.newbyteorder("<" if little else ">")).tobytes()
    vr = "OB" if copy.BitsAllocated == 8 else "OW"
    copy.add(DataElement("PixelData", vr, data + b"\0" * (len(data) % 2)))
    copy.HighBit = copy.BitsStored - 1


def _only(item: Dataset, keywords: Sequence[str]) -> Dataset:
    kept = Dataset()
    for keyword in keywords:
        if keyword in item:
            kept.add(item[keyword])
    return kept


def _digest(key: bytes, value: str) -> str:
    return hmac.digest(key, value.encode(), "sha256").hex()[:16]


def _uid(key: bytes, value: str) -> str:
    return f"2.25.{uuid.UUID(bytes=hmac.digest(key, value.encode(), 'sha256')[:16]).int}"
