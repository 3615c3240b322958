"""Score a release on one split, the way a user would, and say how good it is.

Every picture goes through the decode boundary and ``Cascade.predict``. Fracture figures are those
of the picture's own part ("given the part"), so that stage 1's mistakes are not mixed in; the
end-to-end figures count a wrong body part or a refusal as a wrong answer. Intervals are 95 %,
from resampling patients.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from core import imaging
from core.cascade import Cascade
from core.errors import ImageRejected
from core.registry import Stage
from core.settings import ImageLimits
from core.types import BodyPart
from training import files, metrics
from training.data import AMBIGUOUS, FOCUS, SIMULATED, stage1_class

log = logging.getLogger(__name__)


def predict(cascade: Cascade, rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with what the cascade said of each.

    Added columns: ``said`` (body part, "rejected" or "unreadable"), ``truth`` (its class),
    ``named`` (the most probable body part, refused or not), ``probability`` (positive, given the
    true part; NaN for other parts), ``finding``.
    """
    bar = tqdm(zip(rows.path, rows.part), total=len(rows), unit="img", mininterval=5)
    columns = ["said", "named", "probability", "finding"]
    said = pd.DataFrame([_score(cascade, path, part) for path, part in bar], columns=columns)
    out = rows.reset_index(drop=True).join(said)
    out["truth"] = out.part.map(stage1_class)
    return out[out.said != "unreadable"].reset_index(drop=True)


def _score(cascade: Cascade, path: str, part: str) -> tuple[str, str, float, str]:
    """(said, named, probability, finding) of one picture whose true part is ``part``."""
    try:
        radiograph = imaging.read(path, ImageLimits())
    except ImageRejected as error:
        log.warning("left out %s: %s", path, error.reason)
        return "unreadable", "", math.nan, ""
    [result] = cascade.predict([radiograph])
    assert result.body_part is not None
    named = result.body_part.label.value
    said = named if result.reason is None else "rejected"
    fracture = result.fracture
    if part not in cascade.release.stages or part not in FOCUS:
        return said, named, math.nan, ""
    if said != part:
        fracture = cascade.predict([radiograph], BodyPart(part))[0].fracture
    assert fracture is not None
    return said, named, fracture.probability, fracture.finding.value


def figures(scored: pd.DataFrame, cascade: Cascade, draws: int = 1000) -> list[dict[str, Any]]:
    """Every figure as a record: stage, part, source, metric, value, low, high, n."""
    real = scored[scored.source != SIMULATED]
    made = scored[scored.source == SIMULATED]
    records = [*_stage1(real, "all", draws), *_stage1(made, SIMULATED, draws)]
    for part in cascade.release.parts:
        labelled = scored[(scored.part == part.value) & scored.positive.notna()]
        for source, chosen in _groups(labelled).items():
            if len(chosen):
                records += _stage2(chosen, part, source, cascade.release.stages[part.value], draws)
    records += _end_to_end(real, "all", cascade, draws)
    records += _end_to_end(made, SIMULATED, cascade, draws)
    return records


def _groups(labelled: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """All real pictures, those without a copy in training where that is known, each source."""
    real = labelled[labelled.source != SIMULATED]
    groups = {"all": real}
    if "seen" in labelled:
        groups["no copies"] = real[~real.seen]
    return groups | {str(k): v for k, v in labelled.groupby("source")}


def record(stage: str, part: str, source: str, metric: str, e: metrics.Estimate) -> dict[str, Any]:
    """One figure: what was measured on whom, and the estimate."""
    return {"stage": stage, "part": part, "source": source, "metric": metric, **asdict(e)}


def _stage1(scored: pd.DataFrame, source: str, draws: int) -> Iterator[dict[str, Any]]:
    certain = scored[~scored.part.isin(AMBIGUOUS)]
    focus = certain[certain.part.isin(FOCUS)]
    other = certain[~certain.part.isin(FOCUS)]

    def share(rows: pd.DataFrame, right: pd.Series) -> metrics.Estimate:
        mean = lambda t, s: float(np.mean(s)) if len(s) else math.nan  # noqa: E731
        return metrics.bootstrap(mean, np.zeros(len(rows)), right, rows.patient, draws)

    right = focus.said == focus.part
    if focus.empty:
        return
    yield record("body_part", "all", source, "accuracy", share(focus, right))
    yield record("body_part", "all", source, "refused", share(focus, focus.said == "rejected"))
    for part in FOCUS:
        of_part = focus[focus.part == part]
        if len(of_part):
            yield record(
                "body_part", part, source, "accuracy", share(of_part, of_part.said == part)
            )
    if len(other):
        yield record(
            "body_part", "other", source, "refused", share(other, other.said == "rejected")
        )


def _stage2(
    rows: pd.DataFrame, part: BodyPart, source: str, stage: Stage, draws: int
) -> Iterator[dict[str, Any]]:
    truth, p, who = rows.positive.to_numpy(), rows.probability.to_numpy(), rows.patient

    def measure(name: str, metric: metrics.Metric, score: np.ndarray) -> dict[str, Any]:
        estimate = metrics.bootstrap(metric, truth, score, who, draws)
        return record("fracture", part.value, source, name, estimate)

    yield measure("auroc", metrics.auroc, p)
    yield measure("auprc", metrics.auprc, p)
    yield measure("brier", metrics.brier, p)
    yield measure("ece", metrics.ece, p)
    majority = np.full(len(rows), float(truth.mean() >= 0.5))
    yield measure("accuracy of the majority class", metrics.accuracy, majority)
    for point in stage.operating_points:
        decision = (p >= point.threshold).astype(float)
        for name in ("accuracy", "sensitivity", "specificity", "kappa"):
            yield measure(f"{name} ({point.name})", getattr(metrics, name), decision)


def _end_to_end(
    scored: pd.DataFrame, source: str, cascade: Cascade, draws: int
) -> Iterator[dict[str, Any]]:
    parts = [p.value for p in cascade.release.parts]
    rows = scored[scored.part.isin(parts) & scored.positive.notna()]
    if rows.empty:
        return
    balanced = {p: _balanced(cascade.release.stages[p]) for p in parts}
    decision = (rows.probability >= rows.part.map(balanced)).astype(float)
    decision = decision.where(rows.said == rows.part, 1.0 - rows.positive)
    estimate = metrics.bootstrap(metrics.accuracy, rows.positive, decision, rows.patient, draws)
    yield record("end_to_end", "all", source, "accuracy (balanced)", estimate)


def _balanced(stage: Stage) -> float:
    return next((o.threshold for o in stage.operating_points if o.name == "balanced"), 0.5)


def table(records: list[dict[str, Any]]) -> str:
    """The figures as text, one a line."""
    lines = [f"{'stage':<11}{'part':<10}{'source':<13}{'figure':<32}value [95 % interval] (n)"]
    for r in records:
        e = metrics.Estimate(r["value"], r["low"], r["high"], r["n"])
        lines.append(f"{r['stage']:<11}{r['part']:<10}{r['source']:<13}{r['metric']:<32}{e}")
    return "\n".join(lines)


def write(records: list[dict[str, Any]], folder: Path, about: dict[str, Any]) -> Path:
    """``metrics.json``: about (release, data, split, device) and the figures; NaN as null."""
    clean = json.loads(pd.DataFrame(records).to_json(orient="records"))
    path = folder / "metrics.json"
    files.write_json(path, {**about, "figures": clean})
    return path
