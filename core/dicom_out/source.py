"""What all objects share: the assessed view, the source's identity, UIDs, the program's name."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM

from core.errors import ImageRejected
from core.lut import lut_data, numbers
from core.manifest import Release
from core.notes import left_out, notes_of, probability_of
from core.operating import Performance, performance
from core.study import SIDES, StudyResult, combine
from core.types import POINTS, BodyPart, ImageResult, Radiograph
from core.words import percent

if TYPE_CHECKING:
    from core.report import Decision

NOTICE = "Research tool that supports a reader. Not a medical device."
# UTF-8: names arrive in any of DICOM's character sets and leave in one that holds them all.
CHARACTER_SET = "ISO_IR 192"

# PS3.3 C.7.1.1 and C.7.2.1: who and which study. Empty where the source has none (type 2).
_IDENTITY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
_RESCALE = ("RescaleSlope", "RescaleIntercept", "RescaleType")
# PS3.3 C.11: how the source's grey values are shown; a presentation state repeats it.
_GREY = (
    *_RESCALE,
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "PresentationLUTShape"),
)
_PICTURE = (
    *("Rows", "Columns", "NumberOfFrames", "PhotometricInterpretation"),
    *("SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation"),
)
_SEXES = ("M", "F", "O", "")
_WINDOW = ("WindowCenter", "WindowWidth", "VOILUTFunction")
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")  # PS3.3 C.11.2.1.2 and C.11.2.1.3
_DATE = re.compile(r"\d{8}")
_TIME = re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")


@dataclass(frozen=True)
class View:
    """One assessed picture. source: its header, as ``source_of`` returns it."""

    source: Dataset
    radiograph: Radiograph
    result: ImageResult

    @property
    def frame(self) -> int:
        return self.radiograph.header.frame if self.radiograph.header else 1


@dataclass(frozen=True)
class Signature:
    """The readers who stand for a result, and what they said of it.

    decisions: the earliest first, at least one; their marks are on the views of the assessment.
    organisation: for which they sign. replaces: (series, instance) UIDs of the report that was
    sent before; None: the preliminary one.
    """

    organisation: str
    decisions: tuple[Decision, ...]
    replaces: tuple[str, str] | None = None

    @property
    def when(self) -> datetime:
        return max(d.decided for d in self.decisions)


@dataclass(frozen=True)
class Assessment:
    """The views of one study with the release that assessed them.

    signature: None until a reader signs; every object is preliminary until then. refused: files of
    the study that could not be read or put beside the others, each with its reason. decided: of all
    of these in this order what the readers decided on, where ``combine`` says another thing by now.
    """

    views: tuple[View, ...]
    release: Release
    signature: Signature | None = None
    refused: tuple[ImageResult, ...] = ()
    decided: StudyResult | None = None

    @property
    def study(self) -> StudyResult:
        """What all files of the study say together, those that could not be read last."""
        if self.decided is not None:
            return self.decided
        return combine("", [*(v.result for v in self.views), *self.refused], self.release)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the views, but for the files that ``unread`` counts."""
        if self.decided is None:
            return replace(self, refused=()).study.notes
        counted = left_out(self.decided.views)
        told = [note for note in self.decided.notes if note not in counted]
        return (*told, *left_out([v.result for v in self.views]))

    @property
    def unread(self) -> str:
        """How many files are left out, as a sentence; empty where none is."""
        total = len(self.views) + len(self.refused)
        count = len(self.refused)
        return f"{count} of {total} radiographs of the study are not in this result." * bool(count)

    @property
    def study_uid(self) -> str:
        return str(self.views[0].source.StudyInstanceUID)

    def number(self, view: View) -> int:
        """Which view it is, from 1."""
        return next(n for n, v in enumerate(self.views, 1) if v is view)

    def uid(self, *what: object) -> str:
        """A UID for one object or series of this assessment, the same each time."""
        by = self.signature
        return self._uid(f"{by.when.isoformat()} {by.replaces}" if by else "", *what)

    def tracking_uid(self, view: View | None = None) -> str:
        """Of what was found in a view, without one in the study: the same before and after a reader
        signed."""
        if view is None:
            return self._uid("", "tracking", "study")
        return self._uid("", "tracking", view.source.SOPInstanceUID, view.frame)

    def _uid(self, signed: str, *what: object) -> str:
        # With the content: an object that was corrected has its old UID, and another assessment.
        instances = sorted(
            f"{v.source.SOPInstanceUID}/{v.frame}/{v.result.sha256}" for v in self.views
        )
        instances += sorted(f"unread/{r.sha256}" for r in self.refused)
        return derived_uid(self.study_uid, self.release.sha256, signed, *instances, *what)


def derived_uid(*sources: object) -> str:
    """A UID under 2.25 (PS3.5 B.2) that follows from its sources."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '|'.join(map(str, sources))).int}"


def source_of(header: Dataset) -> Dataset:
    """What a reply repeats of its source, with every value checked or emptied.

    Raises ImageRejected where a UID is missing, without which there is nothing to reply to, and
    where the Patient ID is too long to be repeated or several: cut, it may be somebody else's.
    """
    source = Dataset()
    source.SpecificCharacterSet = CHARACTER_SET
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        uid = str(header.get(keyword) or "")
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)+", uid) or len(uid) > 64:
            raise ImageRejected(
                "The DICOM file has no valid UID of its study, series or picture, so nothing "
                "can be put beside it."
            )
        setattr(source, keyword, uid)
    for keyword in _IDENTITY:
        setattr(source, keyword, _identity(header, keyword))
    issuer = _only(header, "IssuerOfPatientID")
    if 0 < len(issuer) <= 64:
        source.IssuerOfPatientID = issuer
    for keyword in (*_PICTURE, *_GREY):
        with suppress(TypeError, ValueError, OverflowError):  # what is no number, such as "1,5"
            value = header.get(keyword)
            if value is not None and value != "":
                setattr(source, keyword, value)
    _keep_rescale(source)
    _keep_window(source)
    _keep_table(source, header)
    _keep_modality_table(source, header)
    source.Modality = _text(header, "Modality") or "OT"
    return source


def _keep_rescale(source: Dataset) -> None:
    """Slope and intercept mean something only together (PS3.3 C.11.1)."""
    slopes, intercepts = numbers(source, "RescaleSlope"), numbers(source, "RescaleIntercept")
    finite = all(map(math.isfinite, (*slopes, *intercepts)))
    if not (len(slopes) == len(intercepts) == 1 and finite and slopes[0]):
        _drop(source, _RESCALE)
    elif len(_text(source, "RescaleType")) > 64:
        _drop(source, ["RescaleType"])


def _keep_window(source: Dataset) -> None:
    """Windows that mean something, by a function that the standard has."""
    centres, widths = numbers(source, "WindowCenter"), numbers(source, "WindowWidth")
    pairs = list(zip(centres, widths))
    if not pairs or not all(math.isfinite(c) and 1 <= w < math.inf for c, w in pairs):
        _drop(source, _WINDOW)
        return
    source.WindowCenter, source.WindowWidth = ([x[i] for x in pairs] for i in (0, 1))
    function = _text(source, "VOILUTFunction").upper()
    _drop(source, ["VOILUTFunction"])
    if function in _FUNCTIONS:
        source.VOILUTFunction = function


def _keep_table(source: Dataset, header: Dataset) -> None:
    """The first VOI LUT where it can be used, instead of the window: it is what is shown.

    A picture may have both and a presentation state one of them. Its entries become words of 16
    bits, the form that a state is written in here, whatever the source has.
    """
    found = _first_table(header, "VOILUTSequence")
    if found:
        table, first, bits = found
        top = max(2**bits - 1, int(table.max()))
        source.VOILUTSequence = [_words(np.rint(table * (0xFFFF / top)), first)]
        _drop(source, _WINDOW)


def _keep_modality_table(source: Dataset, header: Dataset) -> None:
    """The same of the Modality LUT, instead of slope and intercept; its output is what the window
    is of, so it stays as it is."""
    found = _first_table(header, "ModalityLUTSequence")
    if found:
        table, first, _ = found
        kept = _words(table, first)
        kept.ModalityLUTType = _text(header.ModalityLUTSequence[0], "ModalityLUTType")[:64] or "US"
        source.ModalityLUTSequence = [kept]
        _drop(source, _RESCALE)


def _first_table(header: Dataset, keyword: str) -> tuple[NDArray[Any], int, int] | None:
    """Entries, first value and bits of the first LUT; None without one that can be used."""
    for item in list(header.get(keyword) or [])[:1]:
        try:
            entries, first, bits = (int(v) for v in item.LUTDescriptor)
            table = lut_data(item.LUTData, entries or 0x10000, header)[: entries or 0x10000]
        except (AttributeError, TypeError, ValueError):  # a damaged one
            return None
        if table.size and 0 <= first <= 0xFFFF and 1 <= bits <= 16:
            return table, first, bits
    return None


def _words(table: NDArray[Any], first: int) -> Dataset:
    kept = Dataset()
    kept.LUTDescriptor = [table.size & 0xFFFF, first, 16]  # 65,536 entries are written as 0
    kept.LUTData = table.astype("<u2").tobytes()
    return kept


def _drop(source: Dataset, keywords: Sequence[str]) -> None:
    for keyword in keywords:
        source.pop(keyword, None)


def _identity(header: Dataset, keyword: str) -> str:
    value = _only(header, keyword)
    kind = dictionary_VR(keyword)
    if keyword == "PatientSex":
        return value if value in _SEXES else ""
    if kind == "DA":
        return value if _DATE.fullmatch(value) and _is(DA, value) else ""
    if kind == "TM":
        return value if _TIME.fullmatch(value) and _is(TM, value) else ""
    if kind == "PN":
        return value if len(value) <= 194 and value.count("^") <= 4 * 3 else ""
    if kind == "SH":  # type 2; cut, it may be the number of another order
        return value if len(value) <= 16 else ""
    if len(value) > 64 or value != _text(header, keyword):
        raise ImageRejected(
            "The Patient ID has more than 64 characters or a backslash, so nothing can be put "
            "beside the picture."
        )
    return value


def _is(kind: Callable[[str], Any], value: str) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True


def _only(header: Dataset, keyword: str) -> str:
    """One value as text, "" of several: a backslash, as some type it, stands between values, and
    what is before it may be another's number or name."""
    value = header.get(keyword)
    several = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 1
    return "" if several else _text(header, keyword)


def _text(header: Dataset, keyword: str) -> str:
    """One value as text; of several the first, because every one here has multiplicity 1."""
    value = header.get(keyword)
    if value is None:
        return ""
    if not isinstance(value, str) and isinstance(value, Sequence):
        value = value[0] if value else ""
    return str(value).strip()


def finding_words(result: ImageResult) -> str:
    """ "finding suspected", "finding doubtful", "finding not suspected" or "not assessed"."""
    if result.reason is not None or result.fracture is None:
        return "not assessed"
    return f"finding {result.fracture.finding.words}"


def sentences(view: View, assessment: Assessment) -> list[str]:
    """The result of one view, a sentence or line each, plain ASCII."""
    result, release = view.result, assessment.release
    if result.body_part is None or result.fracture is None or result.reason is not None:
        lines = [f"Not assessed. {result.reason or ''}".strip()]
    else:
        part = result.part or result.body_part.label
        side = f", {SIDES[result.origin.side]}" if result.origin.side else ""
        seen = f"{part.words.capitalize()}{side} ({percent(result.body_part.probability)})"
        value = result.fracture.probability
        share = probability_of(value, release, part)
        lines = [f"{seen}: {finding_words(result)}, probability {share}"]
        lines += operating_lines(part, release, value)
    signed = assessment.signature
    state = "Signed by a reader." if signed else "Preliminary: not signed by a reader."
    unread = [assessment.unread] if assessment.unread else []
    notes = notes_of(result, release, [v.result for v in assessment.views])
    return [*lines, *notes, *unread, f"{state} Release {release.id}.", NOTICE]


def performances(part: BodyPart, release: Release) -> list[Performance]:
    """What is known of each operating point of a part, with the split and n it was measured on."""
    found = (performance(release, part, name) for name in POINTS)
    return [p for p in found if p is not None]


def operating_lines(part: BodyPart, release: Release, beside: float) -> list[str]:
    """beside: the probability that stands with them."""
    return [
        f"Operating point {p.point.name} (from {percent(p.point.threshold, [beside])} on): "
        f"sensitivity {p.sensitivity}, specificity {p.specificity}, {p.n} {p.split} radiographs"
        for p in performances(part, release)
    ]
