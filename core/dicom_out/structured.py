"""Comprehensive SR by TID 1500 (PS3.16): finding, probability, region, algorithm.

The program's own codes say "finding suspected" and not "fracture"; what a positive label meant in
the training data stands in the parameters of the algorithm.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ComprehensiveSRStorage

from core.dicom_out.codes import SCHEME, finding_code, image_of, sites
from core.dicom_out.reading import reading_groups, verifying_observer
from core.dicom_out.region import outline
from core.dicom_out.series import SERIES, common
from core.dicom_out.source import (
    Assessment,
    View,
    derived_uid,
    finding_words,
    performances,
)
from core.header import PROGRAM
from core.manifest import Release
from core.types import BodyPart

_Group: TypeAlias = (
    sr.PlanarROIMeasurementsAndQualitativeEvaluations | sr.MeasurementsAndQualitativeEvaluations
)
_CODES = CodingSchemeIdentificationItem(SCHEME, name=f"Codes of {PROGRAM}")
_PROCEDURE = CodedConcept("363680008", "SCT", "Radiographic imaging procedure")
_RATIO = CodedConcept("1", "UCUM", "no units")
_PROBABILITY = ("probability", "Calibrated probability of a finding")
_MODEL_UID = derived_uid(PROGRAM)


def structured_report(assessment: Assessment) -> Dataset:
    """One document of the whole study; preliminary and unverified until readers sign.

    Then it is final and verified, names them, holds what they said, and names the report before
    it as its predecessor.
    """
    sources = [v.source for v in assessment.views]
    signature = assessment.signature
    arguments = common(assessment, SERIES["SR"], 1)
    for taken_from_evidence in [k for k in arguments if k.startswith(("patient", "study"))]:
        del arguments[taken_from_evidence]
    for name in ("accession_number", "referring_physician_name"):
        del arguments[name]
    document: Dataset = sr.ComprehensiveSR(
        evidence=_once(sources),
        content=_report(assessment)[0],
        coding_schemes=[_CODES],
        is_complete=True,
        is_final=signature is not None,
        previous_versions=[_predecessor(assessment)] if signature else None,
        **arguments,
    )
    if signature:
        document.VerificationFlag = "VERIFIED"
        document.VerifyingObserverSequence = [
            verifying_observer(d, signature.organisation) for d in signature.decisions
        ]
    return document


def _predecessor(assessment: Assessment) -> Dataset:
    """What this report takes the place of (PS3.3 C.17.2.2)."""
    preliminary = replace(assessment, signature=None)
    found = assessment.signature and assessment.signature.replaces
    series, instance = found or (preliminary.uid("series", "SR"), preliminary.uid("SR"))
    before = Dataset()
    before.SOPClassUID, before.SOPInstanceUID = ComprehensiveSRStorage, instance
    before.StudyInstanceUID, before.SeriesInstanceUID = assessment.study_uid, series
    return before


def _once(sources: list[Dataset]) -> list[Dataset]:
    """Without the repetitions that frames of one file make."""
    return list({s.SOPInstanceUID: s for s in sources}.values())


def _report(assessment: Assessment) -> sr.MeasurementReport:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=_MODEL_UID,
        name=PROGRAM,
        manufacturer_name=PROGRAM,
        model_name=PROGRAM,
        serial_number=assessment.release.sha256[:16],
    )
    observer = sr.ObserverContext(codes.DCM.Device, device)
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_PROCEDURE,
        imaging_measurements=[
            *(_group(v, assessment) for v in assessment.views),
            *_whole(assessment),
            *reading_groups(assessment),
        ],
        title=codes.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            CodedConcept("en", "RFC5646", "English")
        ),
    )


def _group(view: View, assessment: Assessment) -> _Group:
    """What was found in one view, with the region where something is suspected."""
    result, release = view.result, assessment.release
    tracking = sr.TrackingIdentifier(
        uid=assessment.tracking_uid(view),
        identifier=f"View {assessment.number(view)}",
    )
    assessed = result.part is not None and result.reason is None
    shared: dict[str, Any] = {
        "tracking_identifier": tracking,
        "finding_type": _finding(view),
        "algorithm_id": _algorithm(assessment, result.part),
        "finding_sites": sites(result.part, result.origin.side),
        "measurements": _measurements(view, release) if assessed else None,
    }
    region = outline(view.radiograph, result) if assessed else None
    if region is None:
        source = sr.SourceImageForMeasurementGroup(*image_of(view))
        return sr.MeasurementsAndQualitativeEvaluations(source_images=[source], **shared)
    image = sr.SourceImageForRegion(*image_of(view))
    kind = sr.GraphicTypeValues.POLYLINE
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        referenced_region=sr.ImageRegion(kind, np.round(region, 1), image), **shared
    )


def _whole(assessment: Assessment) -> list[_Group]:
    """What was found in the study, where several views are put together."""
    study = assessment.study
    if len(assessment.views) < 2 or study.finding is None or study.probability is None:
        return []
    tracking = sr.TrackingIdentifier(uid=assessment.tracking_uid(), identifier="Study")
    counted = {id(result) for result in study.counted}
    of = [v for v in assessment.views if id(v.result) in counted]
    return [
        sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            finding_type=finding_code(study.finding),
            algorithm_id=_algorithm(assessment, study.body_part),
            finding_sites=sites(study.body_part, study.side),
            measurements=[_measurement(*_PROBABILITY, study.probability)],
            source_images=[sr.SourceImageForMeasurementGroup(*image_of(v)) for v in of] or None,
        )
    ]


def _finding(view: View) -> CodedConcept:
    words = finding_words(view.result)
    value = words.removeprefix("finding ").replace(" ", "_")
    return CodedConcept(value, SCHEME, words.capitalize())


def _algorithm(assessment: Assessment, part: BodyPart | None) -> sr.AlgorithmIdentification:
    """With what a reader must know of the study, a sentence each, among its parameters."""
    release = assessment.release
    stage = release.stages.get(part) if part else None
    parameters = [f"release SHA-256: {release.sha256}"]
    if stage and stage.label_means:
        parameters.append(f"a positive label meant in training: {stage.label_means}"[:64])
    parameters += filter(None, (assessment.unread, *assessment.notes))
    return sr.AlgorithmIdentification(
        name=_name(release),
        version=release.id,
        parameters=parameters,
        manufacturer=PROGRAM,
    )


def _name(release: Release) -> str:
    """What answers, in the 64 characters that the object has for it."""
    name = f"{PROGRAM}, two-stage {release.networks}"
    return name if len(name) <= 64 else f"{PROGRAM}, two-stage ensemble"


def _measurements(view: View, release: Release) -> list[sr.Measurement]:
    part, fracture = view.result.part, view.result.fracture
    if part is None or fracture is None:
        return []
    values = [(*_PROBABILITY, fracture.probability)]
    for found in performances(part, release):
        point, on = f"operating point {found.point.name}", f"{found.split} split"
        short = found.point.name[:4]
        where = f"{short}_{found.split[:4]}"
        values += [
            (f"threshold_{short}", f"Threshold of the {point}", found.point.threshold),
            (f"sens_{where}", f"Sensitivity at the {point}, {on}", found.sensitivity.value),
            (f"spec_{where}", f"Specificity at the {point}, {on}", found.specificity.value),
            (f"n_{where}", f"Radiographs counted, {point}, {on}", found.n),
        ]
    return [_measurement(*told) for told in values]


def _measurement(code: str, meaning: str, value: float) -> sr.Measurement:
    # A code has at most 16 characters, its meaning 64 (PS3.5 section 6.2).
    return sr.Measurement(CodedConcept(code, SCHEME, meaning[:64]), round(value, 4), _RATIO)
