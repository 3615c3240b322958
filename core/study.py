"""Views of one examination -> one result.

A study's probability is the mean over its views, as MURA defines it (Rajpurkar et al. 2017,
arXiv:1712.06957, section 2). Views that another part's fracture model assessed are left out of it:
their probabilities mean something else. The part with the graver finding leads, so that nothing
suspected is left out for what is not. Where both sides of the body are in it, the mean is that of
the side with the graver finding, then with the higher mean: a broken left hand is not made half as
broken by a sound right one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from core import notes
from core.quality import finding_of
from core.types import (
    BodyPart,
    Finding,
    FracturePrediction,
    ImageResult,
    MemberPrediction,
    OperatingPoint,
)

if TYPE_CHECKING:
    from core.manifest import Release

# XR_ELBOW/patient00011/study1_negative/image1.png, and the same with underscores in one name.
# What follows the study's number is the label in MURA: it must not become part of the key.
_MURA = re.compile(r"^(?P<key>(?:.*[/_])?patient\d+[/_]study\d+)(?![^/_])", re.IGNORECASE)
_PATIENT = "\x1f"  # the separator that no name on a disk has
_UID = re.compile(r"[0-9.]{1,64}")  # what a header says, with the zeros that some write in front
# DICOM PS3.5 section 9.1 with ISO/IEC 9834-1: no zeros in front, the first arc 0 to 2, the second
# below 40 under 0 and 1. A folder may be called so, too (3.1, 05.12.2026, 2.11.2026): so at least
# five arcs, which every root that makers and hospitals have leads to, or a UUID under 2.25.
_ARC = r"(?:0|[1-9][0-9]*)"
_NO_NAME = re.compile(
    rf"(?=.{{1,64}}$)(?:(?:[01]\.[123]?[0-9]|2\.{_ARC})(?:\.{_ARC}){{3,}}|2\.25\.[1-9][0-9]{{19,38}})"
)
SIDES = {"L": "left", "R": "right"}
_GRAVITY = list(Finding)


@dataclass(frozen=True)
class StudyResult:
    """The views of one study and what they say together.

    id: as given to ``combine``. views: all of them in the order given, refused ones too.
    body_part: the part that leads, see ``combine``. probability: mean calibrated probability
    of the views of that part, in [0, 1]. finding: of that mean, by the part's operating points.
    All three are None where no view was assessed. notes: what a reader must know, a sentence each.
    """

    id: str
    views: tuple[ImageResult, ...]
    body_part: BodyPart | None = None
    probability: float | None = None
    finding: Finding | None = None
    notes: tuple[str, ...] = ()

    @property
    def members(self) -> tuple[MemberPrediction, ...]:
        """Of an ensemble, each with the mean of its probabilities over the views that count."""
        return _members([v.fracture for v in self.counted if v.fracture is not None])

    @property
    def counted(self) -> tuple[ImageResult, ...]:
        """The views whose mean is the probability.

        Of a stored result it may be that of an older rule, by which a picture that is there twice
        counted twice; and the side that it is of was chosen by operating points. So the mean tells.
        """
        found = []
        for views in (notes.once(self.views), self.views):  # the first one where both fit
            same = tuple(v for v in views if v.part and v.part == self.body_part)
            found += list(_either_side(same).values()) or [same]
        told = self.probability
        if told is None or not found[0]:
            return found[0]
        return min(found, key=lambda some: round(abs(_mean(_predictions(some)) - told), 9))

    @property
    def side(self) -> str:
        """ "L" or "R" where all views that count and that say it say so; else ""."""
        sides = {v.origin.side for v in self.counted} - {""}
        return sides.pop() if len(sides) == 1 else ""


@dataclass(frozen=True)
class Mark:
    """Where a reader sees the finding: a box on one view, fractions of its width and height.

    view: position of the view in the study. A point is a box without extent.
    """

    view: int
    x0: float
    y0: float
    x1: float
    y1: float


def combine(id: str, views: Sequence[ImageResult], release: Release) -> StudyResult:
    """The result of one study; ``release`` is the one that assessed the views.

    Where the views name different parts, the graver finding decides, then the number of views, then
    the higher sum of the probabilities of the part; a part that a reader chose counts as certain.
    A picture that is there twice counts once.
    """
    different = notes.once(views)
    points = {part: notes.points_of(release, part) for part in _by_part(different)}
    part = part_of(different, points)
    told = (*notes.cautions(views), *notes.frames(views), *notes.photographs(views))
    if part is None:
        return StudyResult(id, tuple(views), notes=(*told, *notes.left_out(views)))
    same, its = _by_part(different)[part], points[part]
    counted = counting(same, its)
    predictions = _predictions(counted)
    probability, finding = _together(predictions, its)
    torn = notes.contradiction(_members(predictions), its)
    said = (
        *told,
        *notes.unsure(counted),
        *_parts(different, points),
        *_worse_side(same, its)[1],
        *torn,
        *notes.contradictions(views, release, counted if torn and len(counted) == 1 else ()),
        *notes.unmeasured(part, its),
        *notes.unreliable(finding, part, release),
        *_findings([f.finding for f in predictions]),
        *notes.counted_once(views),
        *notes.seen(views),
        *notes.left_out(views),
    )
    return StudyResult(id, tuple(views), part, probability, finding, said)


def key_of(path_or_name: str, study_uid: str | None = None, patient: str = "") -> str:
    """The study that a file belongs to: files with equal keys are views of one study.

    patient: of a DICOM file (``DicomHeader.patient``). Two patients are never one study, whatever
    UIDs or folders say: a patient's key ends in it (``without_patient`` takes it off).
    By, in this order: the Study Instance UID of a DICOM file; MURA's names
    (``…patient00011/study1_negative/image1.png``, without the label); the folder; and a file that
    lies in none is a study of its own.
    """
    return with_patient(_place(path_or_name, study_uid), patient)


def with_patient(key: str, patient: str) -> str:
    """A key of ``key_of`` for one patient; the same key for "", which no file names."""
    return f"{key}{_PATIENT}{patient}" if patient else key


def without_patient(key: str) -> str:
    """The key of ``key_of`` as it would be without the patient."""
    return key.partition(_PATIENT)[0]


def study_uid_of(key: str) -> str:
    """The Study Instance UID that a key of ``key_of`` was made of; "" of one made of names.

    A key with a patient is of a DICOM file, so the UID is told more strictly in one without.
    """
    place = without_patient(key)
    told = is_uid(place) if place != key else _NO_NAME.fullmatch(place)
    return place if told else ""


def is_uid(told: str) -> bool:
    """Whether what a header gives as a UID is one, with the zeros that some write in front; of a
    name, which may look so too, ``study_uid_of`` tells more strictly."""
    return bool(_UID.fullmatch(told)) and "." in told


def _place(path_or_name: str, study_uid: str | None) -> str:
    uid = (study_uid or "").strip()
    if _UID.fullmatch(uid):
        return uid
    name = path_or_name.replace("\\", "/")
    named = _MURA.match(name)
    if named:
        return named["key"]
    folder = str(PurePosixPath(name).parent)
    return name if folder in (".", "/") else folder


def named(study: StudyResult) -> str:
    """The body part with its side where it is known, such as "elbow, left"; "" without a part."""
    words = study.body_part.words if study.body_part else ""
    return f"{words}, {SIDES[study.side]}" if words and study.side else words


def group(keys: Iterable[Hashable]) -> list[list[int]]:
    """The positions of equal keys, in the order in which each key is met first."""
    found: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        found.setdefault(key, []).append(position)
    return list(found.values())


def part_of(
    views: Sequence[ImageResult], points: Mapping[BodyPart, Sequence[OperatingPoint]]
) -> BodyPart | None:
    """The part that a study is of, as ``combine`` says; None where no view was assessed.

    points: of each part; without any a half decides.
    """
    return next(iter(_told_of_parts(views, points)), None)


def counting(
    views: Sequence[ImageResult], points: Sequence[OperatingPoint]
) -> tuple[ImageResult, ...]:
    """Of the views of a study's part those whose mean is its probability: all, or of one side."""
    worse, _ = _worse_side(views, points)
    return _either_side(views).get(worse, tuple(views))


def _predictions(views: Sequence[ImageResult]) -> list[FracturePrediction]:
    return [v.fracture for v in views if v.fracture is not None]


def _mean(counted: Sequence[FracturePrediction]) -> float:
    return sum(f.probability for f in counted) / len(counted)


def _together(
    counted: Sequence[FracturePrediction], points: Sequence[OperatingPoint]
) -> tuple[float, Finding]:
    probability = _mean(counted)
    return probability, finding_of(probability, points, [m.probability for m in _members(counted)])


def _either_side(views: Sequence[ImageResult]) -> dict[str, tuple[ImageResult, ...]]:
    """The views that count on each side, of those of one part; nothing where one side is missing.

    One that names no side counts on either.
    """
    if not set(SIDES) <= {v.origin.side for v in views}:
        return {}
    return {side: tuple(v for v in views if v.origin.side in ("", side)) for side in SIDES}


def _worse_side(
    views: Sequence[ImageResult], points: Sequence[OperatingPoint]
) -> tuple[str, list[str]]:
    """The side that the result is of, and a sentence on both; "" where one alone is there.

    By its finding first: where networks contradict each other on one side, its mean may be the
    higher one and yet be doubtful, and the other side's suspected.
    """
    told = {s: _together(_predictions(v), points) for s, v in _either_side(views).items()}
    if not told:
        return "", []
    worse = max(told, key=lambda side: (_GRAVITY.index(told[side][1]), told[side][0]))
    said = "; ".join(
        f"{SIDES[s]} {f.words}, {notes.told_from(points, p)}" for s, (p, f) in told.items()
    )
    return worse, [
        f"Views of both sides ({said}). The result is that of the {SIDES[worse]} side alone."
    ]


def _sureness(view: ImageResult) -> float:
    if view.chosen is not None or view.body_part is None:
        return 1.0
    return view.body_part.probability


def _by_part(views: Sequence[ImageResult]) -> dict[BodyPart, list[ImageResult]]:
    found: dict[BodyPart, list[ImageResult]] = {}
    for view in views:
        if view.part is not None:
            found.setdefault(view.part, []).append(view)
    return found


def _told_of_parts(
    views: Sequence[ImageResult], points: Mapping[BodyPart, Sequence[OperatingPoint]]
) -> dict[BodyPart, tuple[float, Finding]]:
    """Probability and finding of each part that the views name, the leading part first."""
    by_part = _by_part(views)
    told = {}
    for part, same in by_part.items():
        its = points.get(part, ())
        told[part] = _together(_predictions(counting(same, its)), its)

    def weight(part: BodyPart) -> tuple[int, int, float]:
        same = by_part[part]
        return _GRAVITY.index(told[part][1]), len(same), sum(map(_sureness, same))

    return {part: told[part] for part in sorted(told, key=weight, reverse=True)}


def _parts(
    views: Sequence[ImageResult], points: Mapping[BodyPart, Sequence[OperatingPoint]]
) -> list[str]:
    """That the views name several parts, what is said of each, and which of them leads."""
    told = _told_of_parts(views, points)
    if len(told) < 2:
        return []
    counts = Counter(v.part for v in views)
    said = "; ".join(
        f"{part.words} {finding.words}, {notes.told_from(points.get(part, ()), probability)}, "
        f"{counts[part]} view{'s' * (counts[part] > 1)}"
        for part, (probability, finding) in told.items()
    )
    return [
        f"The views name different body parts ({said}). The result is that of the "
        f"{next(iter(told)).words} alone."
    ]


def _findings(findings: Sequence[Finding]) -> list[str]:
    counts = Counter(findings)
    if len(counts) < 2:
        return []
    said = ", ".join(f"{f.words} {counts[f]}" for f in reversed(Finding) if counts[f])
    return [f"The views disagree: {said}."]


def _members(views: Sequence[FracturePrediction]) -> tuple[MemberPrediction, ...]:
    """Each member's mean over the views; none where not all views were read by the same ones."""
    names = {tuple(m.name for m in v.members) for v in views}
    if len(names) != 1:
        return ()
    return tuple(
        MemberPrediction(same[0].name, sum(m.probability for m in same) / len(same), same[0].weight)
        for same in zip(*(v.members for v in views))
    )
