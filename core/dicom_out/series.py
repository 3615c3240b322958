"""The series that this program adds to a study, and what every object in them says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from core.dicom_out.source import CHARACTER_SET, Assessment, View
from core.header import PROGRAM


@dataclass(frozen=True)
class Series:
    """kind: what it holds. number: high, so that viewers list it behind the radiographs."""

    kind: str
    number: int
    description: str


SERIES: Mapping[str, Series] = {
    s.kind: s
    for s in (
        Series("SC", 9001, "Assessment: pictures with heatmap"),
        Series("SR", 9002, "Assessment: structured report"),
        Series("PR", 9003, "Assessment: outlines"),
        Series("PDF", 9004, "Assessment: report"),
    )
}


def common(
    assessment: Assessment, series: Series, number: int, view: View | None = None
) -> dict[str, Any]:
    """Arguments of highdicom's constructors: patient, study, series, equipment, UIDs."""
    of = view or assessment.views[0]
    source = of.source
    frame = [of.frame] if view else []
    instance = [str(source.SOPInstanceUID)] if view else []
    return {
        **device(assessment, series, number),
        "sop_instance_uid": assessment.uid(series.kind, *instance, *frame),
        "study_instance_uid": assessment.study_uid,
        "patient_id": source.PatientID,
        "patient_name": source.PatientName,
        "patient_birth_date": source.PatientBirthDate or None,
        "patient_sex": source.PatientSex,
        "accession_number": source.AccessionNumber,
        "study_id": source.StudyID,
        "study_date": source.StudyDate or None,
        "study_time": source.StudyTime or None,
        "referring_physician_name": source.ReferringPhysicianName,
        "specific_character_set": CHARACTER_SET,
    }


def device(assessment: Assessment, series: Series, number: int) -> dict[str, Any]:
    """The part of ``common`` that objects need which copy the rest from their source."""
    signed = ", signed" if assessment.signature else ""
    return {
        "series_instance_uid": assessment.uid("series", series.kind),
        "series_number": series.number,
        "series_description": series.description + signed,
        "instance_number": number,
        "manufacturer": PROGRAM,
        "manufacturer_model_name": PROGRAM,
        "software_versions": assessment.release.id,
        "device_serial_number": assessment.release.sha256[:16],
    }


def set_issuer(item: Dataset, assessment: Assessment) -> None:
    """Who gave the Patient ID, where the source says it: that of another hospital is another's."""
    source = assessment.views[0].source
    if "IssuerOfPatientID" in source:
        item.IssuerOfPatientID = source.IssuerOfPatientID


def set_side(item: Dataset, assessment: Assessment, view: View, image: bool = False) -> None:
    """Laterality belongs to the series (type 2C): L or R, where all its views say the same.

    Else its objects would contradict each other: it is empty, and an ``image`` has its own instead.
    """
    sides = {_side(v) for v in assessment.views}
    if image and len(sides) > 1 and _side(view):
        item.ImageLaterality = _side(view)
    else:
        item.Laterality = sides.pop() if sides in ({"L"}, {"R"}) else None


def _side(view: View) -> str:
    return view.radiograph.header.laterality if view.radiograph.header else ""


def reference(view: View) -> Dataset:
    """A reference to the picture, and to its frame where there are several."""
    item = Dataset()
    item.ReferencedSOPClassUID = view.source.SOPClassUID
    item.ReferencedSOPInstanceUID = view.source.SOPInstanceUID
    if view.radiograph.header is not None and view.radiograph.header.frames > 1:
        item.ReferencedFrameNumber = view.frame
    return item
