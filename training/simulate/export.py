"""Files of simulated cases: PNG, DICOM, masks, and the manifest that tells the truth."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

from training.simulate.render import MAX_GREY, Case

COLUMNS = (
    "id", "source", "part", "part_source", "positive", "positive_means", "group", "split", "view",
    "hardware", "boxes", "width", "height", "file", "mask", "title", "side", "finding", "severity",
)  # fmt: skip
SOURCE = "simulated"
# DICOM PS3.16 CID 4 (body parts) and PS3.3 C.8.11.5.1.1 (view position).
BODY_PARTS = {
    "elbow": "ELBOW", "hand": "HAND", "shoulder": "SHOULDER", "forearm": "FOREARM",
    "humerus": "HUMERUS", "foot": "FOOT", "knee": "KNEE", "skull": "SKULL",
}  # fmt: skip
REGIONS = {
    "elbow": codes.SCT.ElbowJoint, "hand": codes.SCT.Hand, "shoulder": codes.SCT.Shoulder,
    "forearm": codes.SCT.Forearm, "humerus": codes.SCT.Humerus, "foot": codes.SCT.Foot,
    "knee": codes.SCT.Knee, "skull": codes.SCT.Skull,
}  # fmt: skip
VIEW_POSITIONS = {"AP": "AP", "PA": "PA", "wrist PA": "PA", "lateral": "LL"}


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """HxW uint8 -> PNG bytes."""
    ok, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not ok:
        raise RuntimeError("OpenCV could not write a PNG")
    return bytes(data.tobytes())


def eight_bit(case: Case) -> NDArray[np.uint8]:
    """The case's picture as HxW uint8."""
    grey: NDArray[np.uint8] = np.rint(case.pixels * (255.0 / MAX_GREY)).astype(np.uint8)
    return grey


def dicom_file(case: Case, name: str, inverted: bool) -> FileDataset:
    """A 12-bit DX image without a person in it.

    inverted: store as MONOCHROME1 (PS3.3 C.7.6.3.1.2). The UIDs follow from ``name``, so that
    the same case gives the same file.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[name, "instance"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = DigitalXRayImageStorageForPresentation
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = generate_uid(entropy_srcs=[name, "study"])
    data.SeriesInstanceUID = generate_uid(entropy_srcs=[name, "series"])
    describe(data, case, name)
    stored = MAX_GREY - case.pixels if inverted else case.pixels
    data.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    data.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    data.Rows, data.Columns = case.pixels.shape
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelIntensityRelationship = "LOG"
    data.PixelIntensityRelationshipSign = 1 if inverted else -1
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = 0, 1, "US"
    data.WindowCenter, data.WindowWidth = (MAX_GREY + 1) // 2, MAX_GREY + 1
    data.ImagerPixelSpacing = [f"{case.spacing:.4f}", f"{case.spacing:.4f}"]
    data.PixelData = stored.astype("<u2").tobytes()
    return data


def describe(data: Dataset, case: Case, name: str) -> None:
    """The patient, study and acquisition attributes, in place; all say that it is simulated."""
    data.PatientName, data.PatientID = "SIMULATED^RADIOGRAPH", name
    data.PatientBirthDate, data.PatientSex = "", "O"
    data.StudyDate, data.StudyTime, data.AccessionNumber = "", "", ""
    data.ReferringPhysicianName, data.StudyID = "", "1"
    data.SeriesNumber, data.InstanceNumber = 1, 1
    data.Modality, data.Manufacturer = "DX", "simulated, no device"
    data.StudyDescription = data.SeriesDescription = f"SIMULATED {case.title}"
    data.ImageType = ["DERIVED", "PRIMARY"]
    data.DerivationDescription = "Computed from surface meshes; shows no person"
    data.ImageComments = "SIMULATED, not for diagnosis"
    data.BodyPartExamined = BODY_PARTS[case.part]
    region, code = Dataset(), REGIONS[case.part]
    region.CodeValue, region.CodingSchemeDesignator = code.value, code.scheme_designator
    region.CodeMeaning = code.meaning
    data.AnatomicRegionSequence = [region]
    data.DetectorType, data.PositionerType, data.AcquisitionContextSequence = "", "", []
    data.ViewPosition = VIEW_POSITIONS.get(case.view, "")
    data.ImageLaterality = case.side
    data.PresentationIntentType, data.BurnedInAnnotation = "FOR PRESENTATION", "YES"
    data.PatientOrientation, data.LossyImageCompression = list(case.orientation), "00"


def row_of(case: Case, name: str, file: str, mask: str, split: str) -> dict[str, str | int | float]:
    """One line of the manifest, in the columns of the project's data sets and a few more."""
    height, width = case.pixels.shape
    return {
        "id": name,
        "source": SOURCE,
        "part": case.part,
        "part_source": SOURCE,
        "positive": int(case.positive),
        "positive_means": "fracture",
        "group": name,
        "split": split,
        "view": case.view,
        "hardware": int(bool(case.hardware)),
        "boxes": ";".join(" ".join(f"{v:.4f}" for v in box) for box in case.boxes),
        "width": width,
        "height": height,
        "file": file,
        "mask": mask,
        "title": title_of(case),
        "side": case.side,
        "finding": case.finding,
        "severity": round(case.severity, 2) if case.positive else "",
    }


def title_of(case: Case) -> str:
    """A caption such as ``Elbow, AP (left): transverse, olecranon; plaster cast``."""
    side = {"L": "left", "R": "right"}[case.side]
    said = case.finding or "no fracture"
    return f"{case.title} ({side}): {said}" + (f"; {case.hardware}" if case.hardware else "")


def write_manifest(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write the manifest last and at once, so that its presence means a complete folder."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def save_dicom(path: Path, case: Case, name: str, inverted: bool) -> None:
    """Write one DICOM file."""
    pydicom.dcmwrite(path, dicom_file(case, name, inverted), enforce_file_format=True)
