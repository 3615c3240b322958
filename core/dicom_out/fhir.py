"""FHIR R4: a DiagnosticReport that contains an Observation a view, as JSON types."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydicom.dataset import Dataset

from core.dicom_out.codes import SITES
from core.dicom_out.source import (
    NOTICE,
    Assessment,
    View,
    finding_words,
    performances,
)
from core.header import PROGRAM
from core.notes import probability_of
from core.operating import Performance
from core.study import SIDES, named
from core.types import BodyPart

_REPORT = {"system": "http://loinc.org", "code": "18748-4", "display": "Diagnostic imaging study"}
_CATEGORY = {
    "system": "http://terminology.hl7.org/CodeSystem/v2-0074",
    "code": "RAD",
    "display": "Radiology",
}


def diagnostic_report(assessment: Assessment) -> dict[str, Any]:
    """The resource (hl7.org/fhir/R4/diagnosticreport.html), preliminary until a reader signs."""
    source = assessment.views[0].source
    observations = [_observation(v, n, assessment) for n, v in enumerate(assessment.views, 1)]
    found: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "language": "en",
        "contained": [_device(assessment), *observations],
        "identifier": [_uid(assessment.uid("FHIR"))],
        "status": _status(assessment),
        "category": [{"coding": [_CATEGORY]}],
        "code": {"coding": [_REPORT], "text": "Assessment of radiographs by a program"},
        "subject": _subject(source),
        "issued": datetime.now(UTC).isoformat(timespec="seconds"),
        "imagingStudy": [{"identifier": _uid(assessment.study_uid)}],
        "result": [{"reference": f"#{o['id']}"} for o in observations],
        "conclusion": " ".join(
            said for said in (_conclusion(assessment), assessment.unread, *assessment.notes) if said
        ),
    }
    date = str(source.StudyDate)
    if date:
        found["effectiveDateTime"] = f"{date[:4]}-{date[4:6]}-{date[6:8]}"
    return found


def _observation(view: View, number: int, assessment: Assessment) -> dict[str, Any]:
    result = view.result
    words = finding_words(result).capitalize()
    observation: dict[str, Any] = {
        "resourceType": "Observation",
        "id": f"view{number}",
        "status": _status(assessment),
        "code": {"text": "Finding in one radiograph, as suspected by a program"},
        "subject": _subject(view.source),
        "derivedFrom": [{"identifier": _uid(view.source.SOPInstanceUID)}],
        "device": {"reference": "#program"},
        "valueCodeableConcept": {"text": words},
        "note": [{"text": NOTICE}],
    }
    if result.part is None or result.fracture is None or result.reason is not None:
        observation["note"].append({"text": result.reason or "Not assessed."})
        return observation
    observation["bodySite"] = _site(result.part, result.origin.side)
    observation["component"] = [
        _number("Calibrated probability of a finding", result.fracture.probability),
        *(n for p in performances(result.part, assessment.release) for n in _operating(p)),
    ]
    return observation


def _site(part: BodyPart, side: str) -> dict[str, Any]:
    """Where it is, in words, and by its code where the part has one."""
    found: dict[str, Any] = {"text": f"{part.words}, {SIDES[side]}" if side else part.words}
    if part in SITES:
        site = SITES[part]
        coding = {"system": "http://snomed.info/sct", "code": site.value, "display": site.meaning}
        found["coding"] = [coding]
    return found


def _operating(found: Performance) -> list[dict[str, Any]]:
    of = f"of the operating point {found.point.name}"
    where = f"{of}, on {found.n} {found.split} radiographs"
    return [
        _number(f"Threshold {of}", found.point.threshold),
        _number(f"Sensitivity {where}", found.sensitivity.value),
        _number(f"Specificity {where}", found.specificity.value),
    ]


def _status(assessment: Assessment) -> str:
    return "final" if assessment.signature else "preliminary"


def _device(assessment: Assessment) -> dict[str, Any]:
    release = assessment.release
    return {
        "resourceType": "Device",
        "id": "program",
        "manufacturer": PROGRAM,
        "deviceName": [{"name": PROGRAM, "type": "model-name"}],
        "version": [
            {"type": {"text": "release"}, "value": release.id},
            {"type": {"text": "SHA-256"}, "value": release.sha256},
        ],
    }


def _subject(source: Dataset) -> dict[str, Any]:
    if not source.PatientID:
        return {"display": "unknown"}
    identifier: dict[str, Any] = {"value": str(source.PatientID)}
    if "IssuerOfPatientID" in source:
        identifier["assigner"] = {"display": str(source.IssuerOfPatientID)}
    return {"type": "Patient", "identifier": identifier}


def _uid(value: str) -> dict[str, str]:
    return {"system": "urn:dicom:uid", "value": f"urn:oid:{value}"}


def _number(meaning: str, value: float) -> dict[str, Any]:
    return {
        "code": {"text": meaning},
        "valueQuantity": {
            "value": round(value, 4),
            "system": "http://unitsofmeasure.org",
            "code": "1",
        },
    }


def _conclusion(assessment: Assessment) -> str:
    study = assessment.study
    finding, probability = study.finding, study.probability
    if finding is None or probability is None or study.body_part is None:
        return f"No view was assessed. {NOTICE}"
    part = named(study).capitalize()
    share = probability_of(probability, assessment.release, study.body_part)
    return f"{part}: finding {finding.words}, probability {share}. {NOTICE}"
