"""What a reader must know of views, a sentence each: of one alone, and of those of a study.

``core.study`` says what follows from putting them together. No sentence has a file's name in it: a
report without names has these sentences too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.operating import SENSITIVITY, missed
from core.origin import looked_at
from core.quality import contradict, deciding
from core.types import (
    BodyPart,
    BodyPartPrediction,
    Crop,
    Finding,
    ImageResult,
    MemberPrediction,
    OperatingPoint,
)
from core.words import percent

if TYPE_CHECKING:
    from core.manifest import Release

LIMB_ALONE = 0.9  # share of the picture; what was cut off from less than that is said
CROPPED = "Cropped to the limb before it was read"


def notes_of(
    view: ImageResult, release: Release | None, beside: Sequence[ImageResult] = ()
) -> tuple[str, ...]:
    """What a reader must know of one view, whatever others its study has.

    release: the one that assessed it, in its mode; None where it is not here, and then nothing is
    said that follows from its operating points. beside: other views that are told with it, frames
    of its file perhaps.
    """
    file = [view, *(v for v in beside if v.sha256 == view.sha256)]
    told = (*cautions([view]), *frames(file), *photographs([view]))
    if view.part is None or view.fracture is None:
        return told
    of_release: list[str] = []
    if release is not None:
        points = points_of(release, view.part)
        of_release = [
            *contradiction(view.fracture.members, points),
            *unmeasured(view.part, points),
            *unreliable(view.fracture.finding, view.part, release),
        ]
    return (*told, *unsure([view]), *of_release, *seen([view]))


def points_of(release: Release, part: BodyPart) -> tuple[OperatingPoint, ...]:
    """Of the fracture model of a part; none where the release has no such model."""
    stage = release.stages.get(part)
    return tuple(stage.operating_points) if stage else ()


def probability_of(value: float, release: Release | None, part: BodyPart | None) -> str:
    """A part's probability in per cent, told from the thresholds that it is compared with.

    release: as of ``notes_of``; where it is None nobody knows them.
    """
    return told_from(points_of(release, part) if release and part else (), value)


def told_from(points: Sequence[OperatingPoint], value: float) -> str:
    """A probability in per cent, told from the thresholds of these points."""
    return percent(value, [p.threshold for p in points])


def cautions(views: Sequence[ImageResult]) -> list[str]:
    """What the files say that a reader must know before trusting a result."""
    by_text: dict[str, list[int]] = {}
    for number, view in enumerate(views, 1):
        for caution in view.origin.cautions:
            by_text.setdefault(caution, []).append(number)
    said = []
    for text, numbers in by_text.items():
        of = f"View {', '.join(map(str, numbers))}: " if len(numbers) < len(views) else ""
        said.append(of + text)
    return said


def frames(views: Sequence[ImageResult]) -> list[str]:
    """That nobody looked at some frames of a file."""
    found = {(v.sha256, v.origin.frame) for v in views if v.body_part is not None}
    said = []
    for digest, count in Counter(digest for digest, _ in sorted(found, key=str)).items():
        total = max(v.origin.frames for v in views if v.sha256 == digest)
        said += looked_at(count, total)
    return said


def photographs(views: Sequence[ImageResult]) -> list[str]:
    """That views come from a photograph, and what was done with it."""
    taken = [v.photograph for v in views if v.photograph is not None]
    guessed = sum(p.guessed for p in taken)
    cut = sum(p.corners is not None for p in taken) - guessed
    of = f" ({{}} of {len(views)} views)" if len(views) > 1 else ""
    said = []
    if cut:
        said.append(f"From a photograph{of.format(cut)}: the film was cut out and straightened.")
    if guessed:
        said.append(
            f"From a photograph{of.format(guessed)}: no film was clearly found, so the middle of "
            "the picture was used."
        )
    if left := len(taken) - cut - guessed:
        said.append(f"This looks like a photograph{of.format(left)}, and was assessed as taken.")
    return said


def not_sure(views: Sequence[ImageResult]) -> BodyPartPrediction | None:
    """What stage 1 took the views that count for, where it is sure of none of them: the surest."""
    said = [v.body_part for v in views if v.chosen is None and v.body_part is not None]
    if len(said) < len(views) or any(one.sure for one in said):
        return None
    return max(said, key=lambda one: one.probability, default=None)


def unsure(views: Sequence[ImageResult]) -> list[str]:
    """That stage 1 took the views that count for their part, and no view of them for sure."""
    best = not_sure(views)
    if best is None:
        return []
    return [
        "Please check the body part: the program is not sure that this is the "
        f"{best.label.words} ({percent(best.probability)})."
    ]


def contradiction(
    members: Sequence[MemberPrediction], points: Sequence[OperatingPoint]
) -> list[str]:
    """Why a finding is doubtful whatever its probability; nothing where it is not for that."""
    if not contradict([m.probability for m in members], points):
        return []
    each = _each(members, points)
    return [f"The networks contradict each other ({each}), so the finding is doubtful."]


def contradictions(
    views: Sequence[ImageResult], release: Release, told: Sequence[ImageResult] = ()
) -> list[str]:
    """The same of views of a study, each of which is told with its own finding; once of
    ``copies``. told: views of which it is said already."""
    said, again = [], copies(views)
    for position, view in enumerate(views):
        if view.fracture is None or view.part is None or any(view is one for one in told):
            continue
        members, points = view.fracture.members, points_of(release, view.part)
        if position not in again and contradiction(members, points):
            said.append(f"view {position + 1} ({_each(members, points)})")
    if not said:
        return []
    so = "so the finding of that view" if len(said) == 1 else "so the finding of each"
    return [f"The networks contradict each other on {', '.join(said)}, {so} is doubtful."]


def unmeasured(part: BodyPart, points: Sequence[OperatingPoint]) -> list[str]:
    """That no threshold of the finding was ever measured."""
    if deciding(points):
        return []
    return [
        f"This release has no sensitive and specific operating point for the {part.words}: the "
        "threshold is 50 %, which was never measured."
    ]


def unreliable(finding: Finding, part: BodyPart, release: Release) -> list[str]:
    """That more positives lie below the threshold as well than it was chosen for, where that was
    measured: where all of the interval lies above that."""
    share = missed(release, part) if finding is Finding.NOT_SUSPECTED else None
    if share is None or share.low is None or share.low <= 1 - SENSITIVITY:
        return []
    return [not_ruled_out(part, release)]


def not_ruled_out(part: BodyPart, release: Release) -> str:
    """What “not suspected” leaves open; "" where that was not measured, or on too few."""
    share = missed(release, part)
    if share is None or (share.value == 0 and share.low is None):
        return ""
    return (
        f"“Not suspected” does not rule out a finding: of the positive {part.words} radiographs "
        f"that the release was measured on, {share} were below the threshold, too."
    )


def seen(views: Sequence[ImageResult]) -> list[str]:
    """That a good deal of a picture was cut off before the networks saw it."""
    crops = {n: v.heatmap.crop for n, v in enumerate(views, 1) if v.heatmap is not None}
    cut = [str(n) for n, crop in crops.items() if _share(crop) < LIMB_ALONE]
    if not cut:
        return []
    if len(views) == 1:
        return [f"{CROPPED}."]
    return [f"{CROPPED}: view{'s' * (len(cut) > 1)} {', '.join(cut)}."]


def is_caution(note: str) -> bool:
    """Whether a sentence warns of something; what was cut off is only how a picture was read."""
    return not note.startswith(CROPPED)


def copies(views: Sequence[ImageResult]) -> dict[int, int]:
    """Of each view that is of the same picture as one before it, and assessed as the same part:
    its position, and that of the first. Two films in one photograph are two pictures."""
    first: dict[object, int] = {}
    found = {}
    for position, view in enumerate(views):
        if view.sha256 is not None and view.part is not None:
            corners = view.photograph and view.photograph.corners
            key = (view.sha256, view.origin.frame, corners, view.part)
            if first.setdefault(key, position) != position:
                found[position] = first[key]
    return found


def raw(views: Sequence[ImageResult]) -> list[int]:
    """Positions of views with raw detector data, no ``copies``, of a part and side that as many
    others at least show as is meant for reading: each exposure may be there in both forms."""
    again = copies(views)
    found = [(n, v) for n, v in enumerate(views) if v.part and n not in again]
    count = Counter((v.part, v.origin.side, v.origin.is_raw) for _, v in found)
    return [
        n
        for n, v in found
        if v.origin.is_raw
        and count[v.part, v.origin.side, False] >= count[v.part, v.origin.side, True]
    ]


def once(views: Sequence[ImageResult]) -> list[ImageResult]:
    """The views without ``copies`` and ``raw`` ones."""
    again = {*copies(views), *raw(views)}
    return [view for position, view in enumerate(views) if position not in again]


def counted_once(views: Sequence[ImageResult]) -> list[str]:
    """Which views are ``copies`` of which, and which are ``raw`` ones."""
    again = copies(views)
    said = [
        f"View {position + 1} is the same picture as view {first + 1} and is not counted again."
        for position, first in again.items()
    ]
    said += [
        f"View {position + 1} is raw detector data and is not counted beside pictures meant for "
        "reading."
        for position in raw(views)
    ]
    return said


def left_out(views: Sequence[ImageResult]) -> list[str]:
    """How many views were not assessed; of a single one its own reason says it."""
    refused = sum(v.part is None for v in views)
    if not refused or len(views) == 1:
        return []
    verb = "was" if refused == 1 else "were"
    return [f"{refused} of {len(views)} views {verb} not assessed."]


def _each(members: Sequence[MemberPrediction], points: Sequence[OperatingPoint]) -> str:
    return ", ".join(f"{m.name} {told_from(points, m.probability)}" for m in members)


def _share(crop: Crop) -> float:
    return (crop.bottom - crop.top) * (crop.right - crop.left)
