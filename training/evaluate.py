"""Score a release on one split, the way a user would, and say how good it is.

Every picture goes through ``data.read_picture`` and ``Cascade.predict``. Fracture figures are those
of the picture's own part ("given the part"), so that stage 1's mistakes are not mixed in; the
end-to-end figures count a wrong body part or a refusal as a wrong answer. Intervals are 95 %,
from resampling patients. Where a data set tells studies, figures come by image and by study; the
operating points are those chosen on images. Where it tells the view, or whether metal is in the
picture, the chief figures come by these too, by image: they stand in the column source. A part
without a branch in the release (MURA's forearm and humerus) has no fracture figures: stage 1 ought
to refuse it, and that is what is counted.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from core import files
from core.cascade import Cascade
from core.manifest import Stage
from core.origin import Origin
from core.quality import finding_of
from core.study import SIDES, counting, part_of
from core.types import (
    SURE,
    BodyPart,
    BodyPartPrediction,
    FracturePrediction,
    ImageResult,
    OperatingPoint,
    Radiograph,
)
from training import metrics
from training.data import AMBIGUOUS, SIMULATED, radiographs, split_hash, stage1_class
from training.phases import BODY_PART

log = logging.getLogger(__name__)

VIEW, METAL, NO_METAL = "view ", "metal in the picture", "no metal in the picture"
MEMBER, ENSEMBLE = "member ", "ensemble"
Points: TypeAlias = Mapping[BodyPart, Sequence[OperatingPoint]]
FEWEST_OF_A_KIND = 10  # patients; fewer tell nothing of a view or of a body part's name


def predict(cascade: Cascade, rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with what the cascade said of each, without those that cannot be read.

    Added columns: ``said`` (body part, or "rejected"), ``truth`` (its class),
    ``named`` (the most probable body part, refused or not), ``sureness`` (its probability),
    ``looks_like`` (what an "other" was named, "" if nothing), ``side`` ("L", "R" or "", as the file
    says), ``probability`` (positive, given the
    true part; NaN for other parts), ``finding``, ``shown`` (positive, as the cascade says it of the
    part that it names; NaN where it refuses). Of a release with an ensemble, whatever mode it
    is used in, also what each network says (MEMBER and its name) and what they say together
    (ENSEMBLE).
    """
    columns = [
        *("said", "named", "sureness", "looks_like", "side", "probability", "finding", "shown")
    ]
    positions, scored = [], []
    for row, radiograph in radiographs(rows.reset_index(drop=True)):
        positions.append(row.Index)
        scored.append(_score(cascade, radiograph, row.part))
    said = pd.DataFrame([s[:-1] for s in scored], columns=columns)
    members = pd.DataFrame([s[-1] for s in scored], index=said.index, dtype=float)
    out = rows.iloc[positions].reset_index(drop=True).join(said).join(members)
    out["truth"] = [stage1_class(p, cascade.release.parts) for p in out.part]
    return out


def _score(
    cascade: Cascade, radiograph: Radiograph, part: str
) -> tuple[str, str, float, str, str, float, str, float, dict[str, float]]:
    """What ``predict`` adds to one picture whose true part is ``part``, in the same order."""
    whole = cascade.in_mode(cascade.release.largest_mode)
    stage1 = cascade if whole.release.stages[BODY_PART].ensemble else whole
    [result] = stage1.predict([radiograph])
    assert result.body_part is not None, result.reason
    named, sureness = result.body_part.label, result.body_part.probability
    said = named if result.reason is None else "rejected"
    fracture, like, side = result.fracture, result.body_part.looks_like, result.origin.side
    shown = math.nan
    if fracture is not None:
        shown = _in_mode(fracture, cascade.release.stages[named]).probability
    if part not in cascade.release.parts:
        return said, named, sureness, like, side, math.nan, "", shown, {}
    if said != part or stage1 is not whole:
        fracture = whole.predict([radiograph], BodyPart(part))[0].fracture
    assert fracture is not None
    members = {f"{MEMBER}{m.name}": m.probability for m in fracture.members}
    if members:
        members[ENSEMBLE] = fracture.probability
    fracture = _in_mode(fracture, cascade.release.stages[part])
    finding = fracture.finding.value
    return said, named, sureness, like, side, fracture.probability, finding, shown, members


def _in_mode(fracture: FracturePrediction, stage: Stage) -> FracturePrediction:
    """What the cascade says in its own mode, of what all its networks say: in the mode fast that is
    what the first of them says."""
    if not fracture.members or stage.ensemble is not None:
        return fracture
    alone = fracture.members[0].probability
    return FracturePrediction(alone, finding_of(alone, stage.operating_points))


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


def labelled(scored: pd.DataFrame, *parts: BodyPart) -> pd.DataFrame:
    """Those of the parts whose label is known."""
    return scored[scored.part.isin(parts) & scored.positive.notna()]


def figures(scored: pd.DataFrame, cascade: Cascade, draws: int = 1000) -> list[dict[str, Any]]:
    """Every figure as a record: stage, part, source, level, metric, value, low, high, n; and where
    labels are counted, positives.

    With a column ``recalled`` (``training.memoriser``) the memoriser's figures stand beside.
    """
    release = cascade.release
    kinds = {"all": scored[scored.source != SIMULATED], SIMULATED: _simulated(scored)}
    points = {part: release.stages[part].operating_points for part in release.parts}
    records: list[dict[str, Any]] = []
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
    return {k: v for k, v in groups.items() if v.patient.nunique() >= FEWEST_OF_A_KIND}


def _of_kind(
    rows: pd.DataFrame, part: str, source: str, stage: Stage, draws: int
) -> Iterator[dict[str, Any]]:
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


def _of_labels(found: dict[str, Any], truth: np.ndarray) -> dict[str, Any]:
    """A record with how many of its n are positive, without which n says little."""
    return found | {"positives": int(truth.sum())}


def record(
    stage: str, part: str, source: str, metric: str, e: metrics.Estimate, level: str = "image"
) -> dict[str, Any]:
    """One figure: what was measured on whom, and the estimate."""
    where = {"stage": stage, "part": part, "source": source, "level": level}
    return {**where, "metric": metric, **asdict(e)}


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
) -> Iterator[dict[str, Any]]:
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
    known = [k for k in kinds if k != BodyPart.OTHER and counts.get(k, 0) >= FEWEST_OF_A_KIND]
    named = certain[certain.part.isin(known)]
    right = (named.said == named.part) | (named.looks_like == named.part.str.replace("_", " "))
    for kind in ("all", *known) if len(named) else ():
        rows = named if kind == "all" else named[named.part == kind]
        found = share(rows, right[rows.index])
        yield record("body_part", kind, source, "called by its name", found)


def _stage2(
    rows: pd.DataFrame, where: tuple[str, str, str], stage: Stage, draws: int
) -> Iterator[dict[str, Any]]:
    """Figures of one branch; where: part, source and level."""
    truth, p, who = rows.positive.to_numpy(), rows.probability.to_numpy(), rows.patient
    part, source, level = where

    def measure(
        name: str, metric: metrics.Metric, score: np.ndarray, biased: bool = False
    ) -> dict[str, Any]:
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


def _memoriser(
    rows: pd.DataFrame, where: tuple[str, str, str], draws: int
) -> Iterator[dict[str, Any]]:
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
) -> Iterator[dict[str, Any]]:
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


def table(records: list[dict[str, Any]]) -> str:
    """The figures as text, one a line."""
    wide = max([28, *(1 + len(r["source"]) for r in records)])
    head = f"{'stage':<12}{'part':<27}{'source':<{wide}}{'level':<7}{'figure':<32}"
    lines = [head + "value [95 % interval] (n)"]
    for r in records:
        e = metrics.Estimate(r["value"], r["low"], r["high"], r["n"])
        where = f"{r['stage']:<12}{r['part']:<27}{r['source']:<{wide}}{r['level']:<7}"
        lines.append(f"{where}{r['metric']:<32}{e}{positives(r)}")
    return "\n".join(lines)


def positives(r: dict[str, Any]) -> str:
    """What stands behind the n of a record: how many are positive, where that is known."""
    return f", {r['positives']} positive" if r.get("positives") is not None else ""


def about(cascade: Cascade, rows: pd.DataFrame, split: str, draws: int) -> dict[str, Any]:
    """What was measured, on what, with what; rows: the whole data, all splits."""
    return {
        "release": cascade.release.id,
        "release_sha256": cascade.release.sha256,
        "mode": cascade.release.mode,
        "split": split,
        "split_sha256": split_hash(rows),
        "device": cascade.device.description,
        "draws": draws,
    }


def write(
    records: list[dict[str, Any]], folder: Path, about: dict[str, Any], name: str = "metrics.json"
) -> Path:
    """``metrics.json``: about (release, data, split, …, confusion) and figures; NaN as null."""
    table = pd.DataFrame(records)
    if "positives" in table:  # of some; beside those that have none they would become fractions
        table["positives"] = table.positives.astype("Int64")
    clean = json.loads(table.to_json(orient="records"))
    for r in clean:
        if r.get("positives", 0) is None:
            del r["positives"]
    path = folder / name
    files.write_json(path, {**about, "figures": clean})
    return path
