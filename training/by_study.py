"""Scored pictures (``training.scoring``) as studies, by what the program says of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pandas as pd

from core.manifest import Release
from core.origin import Origin
from core.quality import finding_of
from core.study import SIDES, counting, part_of
from core.types import (
    BodyPart,
    BodyPartPrediction,
    FracturePrediction,
    ImageResult,
    OperatingPoint,
)

Points: TypeAlias = Mapping[BodyPart, Sequence[OperatingPoint]]


def points_of(release: Release) -> dict[BodyPart, tuple[OperatingPoint, ...]]:
    """The operating points of each part that the release has a model of, also of those that are not
    installed here: the rows may have been scored where they are."""
    whole = release.from_json(release.raw, release.mode) if release.absent else release
    return {part: whole.stages[part].operating_points for part in whole.parts}


def by_study(rows: pd.DataFrame, points: Points | None = None) -> pd.DataFrame:
    """Labelled rows of parts with a model as one row a study, a picture without one its own study.

    What the program says of a study (``core.study``): ``said`` is the part that leads, "rejected"
    where none was assessed; the probability is the mean of the views of that part, of the side with
    the higher one where ``side`` tells both (what each network of an ensemble says is not asked).
    Where that is another part, or none, it is that of all views, given the part. The label is
    positive where a view's is; ``recalled``, if there, is a mean.

    points: of each part, for the finding by which a part leads where views name several; without
    them a half decides. Older rows do not tell what was ``shown`` of a view that was taken for
    another part: that it has the probability of its own part is the best guess then.
    """
    rows = rows[rows.patient.notna()]
    study = rows.study.astype(object).where(rows.study.notna(), "picture " + rows.id.astype(str))
    # By patient too: many data sets number the studies of each patient from 1.
    keys = ["source", "part", "patient", "study"]
    groups = rows.assign(study=study).groupby(keys, sort=False)
    recalled = {"recalled": ("recalled", "mean")} if "recalled" in rows else {}
    studies = groups.agg(positive=("positive", "max"), views=("id", "size"), **recalled)
    views: list[list[_View]] = [[] for _ in range(len(studies))]
    for number, row in zip(groups.ngroup(), rows.itertuples()):
        views[number].append(_view(row))
    found = [_together(some, points or {}) for some in views]
    table = pd.DataFrame(found, index=studies.index, columns=["said", "probability"])
    return studies.join(table).reset_index()


@dataclass(frozen=True)
class _View:
    """One row: its true part, its probability given that, and what the cascade made of it."""

    part: BodyPart
    given: FracturePrediction
    result: ImageResult


def _together(views: list[_View], points: Points) -> tuple[str, float]:
    """What the program says of the views of one study: body part, and probability of its own."""
    true, results = views[0].part, [v.result for v in views]
    part = part_of(results, points)
    if part == true:
        results = [r for r in results if r.part == true]
    else:
        results = [replace(v.result, chosen=true, fracture=v.given) for v in views]
    found = [r.fracture.probability for r in counting(results, ()) if r.fracture is not None]
    return str(part or "rejected"), sum(found) / len(found)


def _view(row: Any) -> _View:
    """As far as a study depends on it; older rows have no sureness, no side and no ``shown``."""
    given = FracturePrediction(float(row.probability), finding_of(row.probability, ()))
    taken, side = row.said != "rejected", getattr(row, "side", "")
    result = ImageResult(
        file=str(row.id),
        sha256=None,
        reason=None if taken else row.said,
        release="",
        release_sha256="",
        milliseconds=0.0,
        origin=Origin(side=side if side in SIDES else ""),
    )
    if taken:
        named = BodyPartPrediction(BodyPart(row.said), getattr(row, "sureness", 1.0), {})
        shown = float(getattr(row, "shown", row.probability))
        fracture = FracturePrediction(shown, finding_of(shown, ()))
        result = replace(result, body_part=named, fracture=fracture)
    return _View(BodyPart(row.part), given, result)


def levels(rows: pd.DataFrame, points: Points | None = None) -> dict[str, pd.DataFrame]:
    """The rows by image, and by study (see ``by_study``) where any of them names its study."""
    found = {"image": rows}
    if rows.study.notna().any():
        found["study"] = by_study(rows, points)
    return found
