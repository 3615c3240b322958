"""From the files of a study to everything that is sent back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from core import imaging
from core.cascade import Cascade
from core.dicom_out.capture import capture
from core.dicom_out.document import document
from core.dicom_out.encoding import encoded
from core.dicom_out.fhir import diagnostic_report
from core.dicom_out.presentation import presentation_state
from core.dicom_out.source import Assessment, View, source_of
from core.dicom_out.structured import structured_report
from core.errors import ImageRejected
from core.files import write_atomically, write_json
from core.header import SEVERAL_PATIENTS
from core.pipeline import diagnose, rejected
from core.settings import ImageLimits
from core.types import ImageResult

MAX_FRAMES = 16
"""Frames of one file that are assessed; a film of the joint has hundreds that look alike."""


def views_of(cascade: Cascade, data: bytes, name: str, limits: ImageLimits) -> list[View]:
    """Every frame of one DICOM file, assessed. Raises ImageRejected where it cannot be read."""
    source = source_of(imaging.dicom_header(data, limits))
    first = imaging.decode(data, name, limits)
    frames = first.header.frames if first.header else 1
    views = []
    for frame in range(1, min(frames, MAX_FRAMES) + 1):
        radiograph, result = diagnose(cascade, data, name, limits, frame=frame)
        if radiograph is not None:
            views.append(View(source, radiograph, result))
    return views


def objects(assessment: Assessment) -> Iterator[tuple[str, Dataset]]:
    """(file name, object) of all that goes into the study."""
    outlined = 0
    for number, view in enumerate(assessment.views, 1):
        yield f"capture-{number}.dcm", capture(view, assessment, number)
        state = presentation_state(view, assessment, outlined + 1)
        if state is not None:
            outlined += 1
            yield f"presentation-{number}.dcm", state
    yield "report-sr.dcm", structured_report(assessment)
    yield "report-pdf.dcm", document(assessment)


def signed_objects(assessment: Assessment) -> Iterator[tuple[str, Dataset]]:
    """(file name, object) of what goes into the study once readers have signed."""
    yield "signed-sr.dcm", structured_report(assessment)
    yield "signed-pdf.dcm", document(assessment)


def write(assessment: Assessment, folder: Path) -> list[Path]:
    """All objects and ``report-fhir.json`` into a folder; their paths."""
    paths: list[Path] = []
    for name, item in objects(assessment):
        data = encoded(item)
        write_atomically(folder / name, lambda p, data=data: p.write_bytes(data))  # type: ignore[misc]
        paths.append(folder / name)
    write_json(folder / "report-fhir.json", diagnostic_report(assessment))
    return [*paths, folder / "report-fhir.json"]


def assess(cascade: Cascade, files: Sequence[tuple[str, bytes]], limits: ImageLimits) -> Assessment:
    """The (name, content) of the files of one study -> what is replied to it.

    Raises ImageRejected with the sentence of the first file where none can be read, and where they
    belong to several studies or patients.
    """
    views: list[View] = []
    refused: list[ImageResult] = []
    for name, data in files:
        began = time.perf_counter()
        try:
            views += views_of(cascade, data, name, limits)
        except ImageRejected as error:
            digest = imaging.sha256(data)
            refused.append(rejected(cascade, name, digest, error.reason, began))
    if not views:
        raise ImageRejected(refused[0].reason or "" if refused else "There is no file to assess.")
    if len({v.source.StudyInstanceUID for v in views}) > 1:
        raise ImageRejected("The files belong to several studies; give one at a time.")
    if len({v.source.PatientID for v in views}) > 1:
        raise ImageRejected(SEVERAL_PATIENTS)
    return Assessment(tuple(views), cascade.release, refused=tuple(refused))
