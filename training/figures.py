"""How good is what was said of pictures (``training.scoring``)?

Fracture figures are those of the picture's own part ("given the part"), so that stage 1's mistakes
are not mixed in; the end-to-end figures count a wrong body part or a refusal as a wrong answer.
Intervals are 95 %, from resampling patients. Where a data set tells studies, figures come by image
and by study; the operating points are those chosen on images. Where it tells the view, or whether
metal is in the picture, the chief figures come by these too, by image: they stand in the column
source. A part without a branch in the release (MURA's forearm and humerus) has no fracture figures:
stage 1 ought to refuse it, and that is what is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from core.cascade import Cascade
from core.manifest import Stage
from core.types import SURE, BodyPart
from training import metrics
from training.by_study import levels, points_of
from training.data import AMBIGUOUS, SIMULATED
from training.phases import BODY_PART
from training.records import Figure, record

VIEW, METAL, NO_METAL = "view ", "metal in the picture", "no metal in the picture"
FEWEST_PATIENTS = 10  # patients; fewer tell nothing of a view or of a body part's name


def labelled(scored: pd.DataFrame, *parts: BodyPart) -> pd.DataFrame:
    """Those of the parts whose label is known."""
    return scored[scored.part.isin(parts) & scored.positive.notna()]


def figures(scored: pd.DataFrame, cascade: Cascade, draws: int = 1000) -> list[Figure]:
    """Every figure as a record: stage, part, source, level, metric, value, low, high, n; and where
    labels are counted, positives.

    With a column ``recalled`` (``training.memoriser``) the memoriser's figures stand beside.
    """
    release = cascade.release
    kinds = {"all": scored[scored.source != SIMULATED], SIMULATED: _simulated(scored)}
    points = points_of(release)
    records: list[Figure] = []
    for source, rows in kinds.items():
        records += _stage1(rows, source, draws, release.stages[BODY_PART].classes)
    for part in release.parts:
        for source, chosen in _groups(labelled(scored, part)).items():
            for level, rows in levels(chosen, points).items():
                where = (part, source, level)
                records += _stage2(rows, where, release.stages[part], draws)
                records += _memoriser(rows, where, draws)
        for source, rows in _kinds(labelled(kinds["all"], part)).items():
            records += _of_kind(rows, part, source, release.stages[part], draws)
    for source, rows in kinds.items():
        for level, chosen in levels(labelled(rows, *release.parts), points).items():
            records += _end_to_end(chosen, source, level, cascade, draws)
    return records


def _simulated(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows.source == SIMULATED]


def _groups(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """All real pictures, those without a copy in training where that is known, each source."""
    real = rows[rows.source != SIMULATED]
    groups = {"all": real}
    if "seen" in rows:
        groups["no copies"] = real[~real.seen]
    groups |= {str(k): v for k, v in rows.groupby("source")}
    return {k: v for k, v in groups.items() if len(v)}


def _kinds(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows by view and by metal in the picture, where that is known of enough of them."""
    groups: dict[str, pd.DataFrame] = {}
    if "view" in rows:
        groups |= {f"{VIEW}{view}": group for view, group in rows.groupby("view")}
    if "hardware" in rows:
        groups |= {METAL: rows[rows.hardware == 1], NO_METAL: rows[rows.hardware == 0]}
    return {k: v for k, v in groups.items() if v.patient.nunique() >= FEWEST_PATIENTS}


def _of_kind(
    rows: pd.DataFrame, part: str, source: str, stage: Stage, draws: int
) -> Iterator[Figure]:
    """The chief figures of one part on the pictures of one view, or with or without metal."""
    truth, p, who = rows.positive.to_numpy(), rows.probability.to_numpy(), rows.patient
    right = (rows.said == part).to_numpy(dtype=float)
    decision = (p >= _balanced(stage)).astype(float)
    for name, what, metric, score in (
        ("body_part", "accuracy", metrics.mean, right),
        ("fracture", "auroc", metrics.auroc, p),
        ("fracture", "sensitivity (balanced)", metrics.sensitivity, decision),
        ("fracture", "specificity (balanced)", metrics.specificity, decision),
    ):
        estimate = metrics.bootstrap(metric, truth, score, who, draws)
        yield _of_labels(record(name, part, source, what, estimate), truth)


def _of_labels(found: Figure, truth: np.ndarray) -> Figure:
    """A record with how many of its n are positive, without which n says little."""
    return found | {"positives": int(truth.sum())}


def confusion(scored: pd.DataFrame) -> dict[str, Any]:
    """Stage 1 on real radiographs: counts of body part (rows) by what the cascade said (columns).

    The parts with a model come first, then the others by their own word. A picture whose part is
    not certain is left out.
    """
    certain = scored[~scored.part.isin(AMBIGUOUS) & (scored.source != SIMULATED)]
    known = {*certain.part[certain.truth == certain.part], *certain.said}
    supported = sorted(known - {"rejected", BodyPart.OTHER})
    parts = [p for p in supported if (certain.part == p).any()]
    parts += sorted(set(certain.part) - set(supported))
    said = [*supported, "rejected"]
    counts = pd.crosstab(certain.part, certain.said).reindex(parts, columns=said, fill_value=0)
    return {"part": parts, "said": said, "counts": counts.to_numpy(int).tolist()}


def _stage1(
    scored: pd.DataFrame, source: str, draws: int, kinds: Sequence[str]
) -> Iterator[Figure]:
    """Figures of stage 1. kinds: its classes, of which more have a name than have a model."""
    certain = scored[~scored.part.isin(AMBIGUOUS)]
    supported = (certain.truth == certain.part) & (certain.part != BodyPart.OTHER)
    focus, other = certain[supported], certain[~supported]

    def share(rows: pd.DataFrame, right: pd.Series) -> metrics.Estimate:
        return metrics.bootstrap(metrics.mean, np.zeros(len(rows)), right, rows.patient, draws)

    right = focus.said == focus.part
    if focus.empty:
        return
    yield record("body_part", "all", source, "accuracy", share(focus, right))
    yield record("body_part", "all", source, "refused", share(focus, focus.said == "rejected"))
    for part, of_part in focus.groupby("part"):
        yield record("body_part", part, source, "accuracy", share(of_part, of_part.said == part))
    if len(other):
        yield record(
            "body_part", "other", source, "refused", share(other, other.said == "rejected")
        )
    taken = certain[certain.said != "rejected"]
    for name, rows in (
        ("asked to check, of those right", taken[taken.said == taken.part]),
        ("asked to check, of those wrong", taken[taken.said != taken.part]),
    ):
        if len(rows):
            yield record("body_part", "all", source, name, share(rows, rows.sureness < SURE))
    told = other[other.looks_like != ""]
    if len(told):
        right = told.looks_like == told.part.str.replace("_", " ")
        yield record("body_part", "other", source, "named right", share(told, right))
    counts = certain.groupby("part").patient.nunique()
    known = [k for k in kinds if k != BodyPart.OTHER and counts.get(k, 0) >= FEWEST_PATIENTS]
    named = certain[certain.part.isin(known)]
    right = (named.said == named.part) | (named.looks_like == named.part.str.replace("_", " "))
    for kind in ("all", *known) if len(named) else ():
        rows = named if kind == "all" else named[named.part == kind]
        found = share(rows, right[rows.index])
        yield record("body_part", kind, source, "called by its name", found)


def _stage2(
    rows: pd.DataFrame, where: tuple[str, str, str], stage: Stage, draws: int
) -> Iterator[Figure]:
    """Figures of one branch; where: part, source and level."""
    truth, p, who = rows.positive.to_numpy(), rows.probability.to_numpy(), rows.patient
    part, source, level = where

    def measure(
        name: str, metric: metrics.Metric, score: np.ndarray, biased: bool = False
    ) -> Figure:
        estimate = metrics.bootstrap(metric, truth, score, who, draws, biased=biased)
        return _of_labels(record("fracture", part, source, name, estimate, level), truth)

    yield measure("auroc", metrics.auroc, p)
    yield measure("auprc", metrics.auprc, p)
    yield measure("brier", metrics.brier, p)
    yield measure("ece", metrics.ece, p, biased=True)
    calibrated = metrics.ece_of_calibrated(p, draws)
    yield record("fracture", part, source, "ece of a calibrated model", calibrated, level)
    majority = np.full(len(rows), float(truth.mean() >= 0.5))
    yield measure("accuracy of the majority class", metrics.accuracy, majority)
    for point in stage.operating_points:
        decision = (p >= point.threshold).astype(float)
        for name in ("accuracy", "sensitivity", "specificity", "kappa"):
            yield measure(f"{name} ({point.name})", getattr(metrics, name), decision)


def _memoriser(rows: pd.DataFrame, where: tuple[str, str, str], draws: int) -> Iterator[Figure]:
    """Figures of the memoriser, if it was asked and had something to learn; where as above."""
    if "recalled" not in rows or rows.recalled.isna().any():
        return
    part, source, level = where
    decision = (rows.recalled >= 0.5).astype(float)
    for name, score in (("accuracy", decision), ("auroc", rows.recalled), ("kappa", decision)):
        metric = getattr(metrics, name)
        estimate = metrics.bootstrap(metric, rows.positive, score, rows.patient, draws)
        yield record("memoriser", part, source, name, estimate, level)


def _end_to_end(
    rows: pd.DataFrame, source: str, level: str, cascade: Cascade, draws: int
) -> Iterator[Figure]:
    if rows.empty:
        return
    stages = cascade.release.stages
    balanced = {p: _balanced(stages[p]) for p in cascade.release.parts}
    decision = (rows.probability >= rows.part.map(balanced)).astype(float)
    decision = decision.where(rows.said == rows.part, 1.0 - rows.positive)
    estimate = metrics.bootstrap(metrics.accuracy, rows.positive, decision, rows.patient, draws)
    yield record("end_to_end", "all", source, "accuracy (balanced)", estimate, level)


def _balanced(stage: Stage) -> float:
    point = stage.point("balanced")
    return point.threshold if point else 0.5
