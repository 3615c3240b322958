"""What each network of an ensemble is worth, what they are together, and what that costs.

On labelled pictures of a part: the AUROC of each member and of their average, and the average's
less the ResNet50's, both drawn with the same patients each time (paired bootstrap). The cost is
measured one picture at a time, as a reader waits for it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.cascade import Cascade
from core.manifest import Release
from core.quality import contradict
from core.types import BodyPart, Mode
from training import metrics
from training.compare import difference
from training.data import SIMULATED, load_canvases
from training.records import record
from training.scoring import ENSEMBLE, MEMBER

Array = NDArray[np.float64]
STAGE = "members"
MEAN = "mean of parts"
PICTURES = 30  # that the milliseconds are measured on


def figures(scored: pd.DataFrame, cascade: Cascade, draws: int = 1000) -> list[dict[str, Any]]:
    """Records of stage "members"; none of a release without an ensemble. scored: with the columns
    of the members, as ``scoring.predict`` gives them."""
    release = cascade.release
    if Mode.ENSEMBLE not in release.modes:
        return []
    whole = release.in_mode(Mode.ENSEMBLE)
    parts = [p for p in whole.parts if whole.stages[p].ensemble is not None]
    known = scored[scored.part.isin([p for p in parts]) & scored.positive.notna()]
    known = known[known.source != SIMULATED]
    found: list[dict[str, Any]] = []
    for part in parts:
        rows = known[known.part == part]
        if len(rows):
            found += _of_part(rows, part, whole, draws)
    found += _of_all(known, draws)
    return [*found, *_cost(known, cascade, draws)]


def _of_part(
    rows: pd.DataFrame, part: BodyPart, release: Release, draws: int
) -> Iterator[dict[str, Any]]:
    truth, patients = rows.positive.to_numpy(float), rows.patient
    names = [c for c in rows if str(c).startswith(MEMBER) and rows[c].notna().all()]
    for column in (*names, ENSEMBLE):
        estimate = metrics.bootstrap(metrics.auroc, truth, rows[column], patients, draws)
        yield _record(part, f"auroc, {str(column).removeprefix(MEMBER)}", estimate)
    scores = [rows[c].to_numpy(float) for c in (names[0], ENSEMBLE)]
    apart = difference(part, "auroc", metrics.auroc, truth, scores, patients, draws)
    estimate = metrics.Estimate(apart.difference, apart.low, apart.high, apart.n)
    yield _record(part, "auroc, ensemble - ResNet50", estimate)
    points = release.stages[part].operating_points
    against = [float(contradict(list(said), points)) for said in rows[names].to_numpy(float)]
    share = metrics.bootstrap(metrics.mean, np.zeros(len(rows)), against, patients, draws)
    yield _record(part, "networks contradict", share)


def _of_all(rows: pd.DataFrame, draws: int) -> Iterator[dict[str, Any]]:
    """The mean of the parts' AUROC, each part counting the same."""
    names = [c for c in rows if str(c).startswith(MEMBER) and rows[c].notna().all()]
    if rows.empty or not names:
        return
    of = rows.part.to_numpy()

    def mean(truth: Array, score: Array, part: NDArray[np.object_]) -> float:
        each = [metrics.auroc(truth[part == p], score[part == p]) for p in np.unique(of)]
        return float(np.mean(each))

    def figure(score: Array) -> metrics.Metric:
        return lambda t, row: mean(t, score[row.astype(int)], of[row.astype(int)])

    first, joined = rows[names[0]].to_numpy(float), rows[ENSEMBLE].to_numpy(float)
    alone, together = figure(first), figure(joined)
    truth, number = rows.positive.to_numpy(float), np.arange(len(rows))
    wanted = {f"auroc, {str(c).removeprefix(MEMBER)}": figure(rows[c].to_numpy(float))
              for c in (*names, ENSEMBLE)}  # fmt: skip
    wanted["auroc, ensemble - ResNet50"] = lambda t, row: together(t, row) - alone(t, row)
    told = all(
        metrics.enough(metrics.auroc, truth[of == p], first[of == p], rows.patient[of == p])
        for p in np.unique(of)
    )
    for name, metric in wanted.items():
        estimate = metrics.bootstrap(metric, truth, number, rows.patient, draws)
        if not told:
            estimate = replace(estimate, low=math.nan, high=math.nan)
        yield _record(MEAN, name, estimate)


def _cost(rows: pd.DataFrame, cascade: Cascade, draws: int) -> Iterator[dict[str, Any]]:
    """Milliseconds from a canvas to its assessment (median) and megabytes of weights, each mode."""
    chosen = rows.sample(min(PICTURES, len(rows)), random_state=0)
    chosen, canvases = load_canvases(chosen, cascade.release.preprocessing)
    if chosen.empty:
        return
    spent: dict[Mode, list[float]] = {mode: [] for mode in Mode}
    for canvas, part in zip(canvases, chosen.part):
        for mode, times in spent.items():  # in turns: the machine may do other things meanwhile
            started = time.perf_counter()
            cascade.in_mode(mode).assess([canvas], BodyPart(part))
            times.append(1000 * (time.perf_counter() - started))
    numbers = [str(n) for n in range(len(chosen))]
    for mode, times in spent.items():
        estimate = metrics.bootstrap(_median, np.zeros(len(times)), times, numbers, draws)
        yield _record("all", f"milliseconds, {mode}", estimate)
    for mode in Mode:
        size = megabytes(cascade.release.in_mode(mode))
        yield _record("all", f"megabytes, {mode}", metrics.Estimate(size, math.nan, math.nan, 1))


def megabytes(release: Release) -> float:
    """Of the weights that a release needs in its mode."""
    stages = release.stages.values()
    used = {path for s in stages for path in (s.trunk, s.branch)}
    for stage in stages:
        used |= {path for m in (stage.ensemble.members if stage.ensemble else ())
                 for path in (m.trunk, m.branch)}  # fmt: skip
    if release.rejection:
        used.add(release.rejection["file"])
    return sum(release.files[path].bytes for path in used) / 1e6


def _record(part: str, metric: str, estimate: metrics.Estimate) -> dict[str, Any]:
    return record(STAGE, part, "all", metric, estimate)


def _median(_: Array, values: Array) -> float:
    return float(np.median(values))
