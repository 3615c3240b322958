"""What readers said, for the signed report: opinion, part, finding, comment and marks, by name."""

from __future__ import annotations

import re

import numpy as np
from highdicom import sr
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from core.dicom_out.codes import SCHEME, finding_code, image_of, sites
from core.dicom_out.region import stored_size
from core.dicom_out.source import Assessment, View
from core.report import Decision
from core.study import Mark

_Group = (
    sr.PlanarROIMeasurementsAndQualitativeEvaluations | sr.MeasurementsAndQualitativeEvaluations
)
_OPINION = CodedConcept("opinion", SCHEME, "Opinion of the reader on the result of the program")
_ANSWERS = {
    True: CodedConcept("agrees", SCHEME, "Agrees"),
    False: CodedConcept("disagrees", SCHEME, "Disagrees"),
    None: CodedConcept("second_look", SCHEME, "Asks for a second look"),
}
# PS3.5 section 6.2: what separates values, spellings and lines.
_SEPARATORS = re.compile(r"[\\=\x00-\x1f]+")


def person_name(reader: str) -> str:
    """The name of a reader, as it was typed or as the login gave it, as a DICOM person name.

    Which of its words is the family's nobody knows, so it stands as one part.
    """
    name = _SEPARATORS.sub(" ", reader).strip()[:60]
    if 1 <= name.count("^") <= 4:
        return name
    return f"{name.replace('^', ' ').strip() or 'Unknown'}^"


def verifying_observer(decision: Decision, organisation: str) -> Dataset:
    """An item of the Verifying Observer Sequence (PS3.3 C.17.2); the code is not known."""
    item = Dataset()
    item.VerifyingObserverName = person_name(decision.reader)
    item.VerifyingOrganization = organisation[:64]
    item.VerificationDateTime = decision.decided.strftime("%Y%m%d%H%M%S%z")
    item.VerifyingObserverIdentificationCodeSequence = []
    return item


def reading_groups(assessment: Assessment) -> list[_Group]:
    """A group for each reader and one for each mark; none before somebody signed."""
    signature = assessment.signature
    groups: list[_Group] = []
    for number, decision in enumerate(signature.decisions if signature else (), 1):
        groups.append(_said(assessment, decision, number))
        groups += [
            _marked(assessment, decision, f"{number}.{n}", mark)
            for n, mark in enumerate(decision.marks, 1)
        ]
    return groups


def _said(assessment: Assessment, decision: Decision, number: int) -> _Group:
    part, study = decision.body_part, assessment.study
    side = study.side if part == study.body_part else ""  # the one that the result is of
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=assessment.uid("reader", number), identifier=f"Reader {number}"
        ),
        finding_type=finding_code(decision.finding),
        finding_sites=sites(part, side),
        qualitative_evaluations=[sr.QualitativeEvaluation(_OPINION, _ANSWERS[decision.agrees])],
        source_images=[sr.SourceImageForMeasurementGroup(*image_of(v)) for v in assessment.views],
    )
    _observed_by(group, decision)
    if decision.comment.strip():
        text = sr.TextContentItem(
            codes.DCM.Comment, decision.comment.strip(), sr.RelationshipTypeValues.CONTAINS
        )
        group[0].ContentSequence.append(text)
    return group


def _marked(assessment: Assessment, decision: Decision, number: str, mark: Mark) -> _Group:
    view = assessment.views[mark.view]
    tracking = sr.TrackingIdentifier(
        uid=assessment.uid("mark", number), identifier=f"Mark {number}"
    )
    image = sr.SourceImageForRegion(*image_of(view))
    region = sr.ImageRegion(sr.GraphicTypeValues.POLYLINE, corners(mark, view), image)
    group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        referenced_region=region,
        finding_type=finding_code(decision.finding),
    )
    _observed_by(group, decision)
    return group


def corners(mark: Mark, view: View) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """5x2 (column, row): the box of a mark in the coordinates of the source, closed."""
    rows, columns = stored_size(view.radiograph)
    x, y = np.array([mark.x0, mark.x1]) * columns, np.array([mark.y0, mark.y1]) * rows
    box = [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1]), (x[0], y[0])]
    return np.round(np.clip(box, 0, [columns, rows]), 1)


def _observed_by(group: _Group, decision: Decision) -> None:
    """This group is a person's, in a report that is a device's (PS3.16 TID 1001, 1003)."""
    who = sr.PersonObserverIdentifyingAttributes(name=person_name(decision.reader))
    for item in sr.ObserverContext(codes.DCM.Person, who):
        group[0].ContentSequence.append(item)
