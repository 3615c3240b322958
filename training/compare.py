"""Two evaluations of the same pictures: how much better is the second, and is that more than luck?

Both are drawn with the same patients each time (paired bootstrap), so what the patients have in
common cancels: two intervals that overlap may still differ for sure, and the other way round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training import metrics
from training.data import AMBIGUOUS, SIMULATED

Array = NDArray[np.float64]
FIGURES = {"auroc": metrics.auroc, "auprc": metrics.auprc, "brier": metrics.brier}


@dataclass(frozen=True)
class Difference:
    """second minus first, with its 95 % interval over patients; n pictures of both.

    low, high: NaN where there is none: too few patients, or every draw is the same.
    """

    part: str
    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    n: int


def paired(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The real pictures that both have scored, with both answers (``_1`` and ``_2``)."""
    keys = ["source", "id"]
    answers = ["said", "probability", "finding"]
    both = first.merge(second[[*keys, *answers]], on=keys, suffixes=("_1", "_2"))
    return both[both.source != SIMULATED].reset_index(drop=True)


def differences(
    first: pd.DataFrame, second: pd.DataFrame, draws: int = 1000, seed: int = 0
) -> list[Difference]:
    """Body part and each part's figures; rows as in ``scores.csv``; empty with none in common."""
    both = paired(first, second)
    scored = both.probability_1.notna() | both.probability_2.notna()
    parts = sorted(set(both.part[scored]) - set(AMBIGUOUS))
    known = both[both.part.isin(parts)]
    found = []
    if len(known):
        right = [(known[f"said_{k}"] == known.part).to_numpy(float) for k in (1, 2)]
        ones = np.ones(len(known))
        found.append(
            difference(
                "all", "body part right", metrics.accuracy, ones, right, known.patient, draws
            )
        )
    for part in parts:
        here = both[(both.part == part) & both.positive.notna()]
        here = here[here.probability_1.notna() & here.probability_2.notna()]
        if here.empty:
            continue
        truth = here.positive.to_numpy(float)
        scores = [here[f"probability_{k}"].to_numpy(float) for k in (1, 2)]
        for name, metric in FIGURES.items():
            found.append(difference(part, name, metric, truth, scores, here.patient, draws, seed))
        flags = [(here[f"finding_{k}"] == "suspected").to_numpy(float) for k in (1, 2)]
        for name in ("sensitivity", "specificity"):
            metric = getattr(metrics, name)
            title = f"{name} (suspected)"
            found.append(difference(part, title, metric, truth, flags, here.patient, draws, seed))
    return found


def difference(
    part: str,
    name: str,
    metric: metrics.Metric,
    truth: Array,
    scores: list[Array],
    patients: pd.Series,
    draws: int,
    seed: int = 0,
) -> Difference:
    """Second less first. ``metrics.bootstrap`` of the difference: its score is the row's number.

    No interval where the figure itself has none (``metrics.enough``), nor where it would have no
    width: that four of four are right both times does not make a difference of 0 certain.
    """
    one, two = scores

    def apart(t: Array, rows: Array) -> float:
        index = rows.astype(int)
        return metric(t, two[index]) - metric(t, one[index])

    numbers = np.arange(len(truth), dtype=float)
    e = metrics.bootstrap(apart, truth, numbers, patients, draws, seed)
    first, second = metric(truth, one), metric(truth, two)
    told = all(metrics.enough(metric, truth, score, patients) for score in scores)
    low, high = (e.low, e.high) if told else (math.nan, math.nan)
    return Difference(part, name, first, second, e.value, low, high, e.n)
