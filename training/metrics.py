"""Figures with intervals: discrimination, agreement, calibration, and bootstrap over patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Metric = Callable[[NDArray[np.float64], NDArray[np.float64]], float]
# Patients of either class from which on the interval of an area under a curve is given. With 14 of
# one class 90 % of them hold the true area, with 5 85 %, with 1 76 %.
FEWEST_OF_A_CLASS = 10


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval (percentile bootstrap over groups) and its n.

    low, high: NaN where there is no interval, as of too few patients.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if math.isnan(self.value):
            return f"not defined (n={self.n})"
        if math.isnan(self.low):
            return f"{self.value:.3f}, no interval (n={self.n})"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n={self.n})"


def auroc(truth: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve; NaN where only one class is present.

    The share of pairs of a positive and a negative in which the positive has the higher score,
    equal scores counting half (Hanley and McNeil 1982). scikit-learn gives the same, and checks its
    input for a hundred times as long: a bootstrap asks a thousand times. Raises ValueError for NaN.
    """
    t, s = _numbers(truth, score)
    positive, negative = s[t == 1], np.sort(s[t != 1])
    if not (len(positive) and len(negative)):
        return math.nan
    below, not_above = (np.searchsorted(negative, positive, side) for side in ("left", "right"))
    return float((below + not_above).sum() / (2 * len(positive) * len(negative)))


def auprc(truth: ArrayLike, score: ArrayLike) -> float:
    """Average precision, as in scikit-learn; NaN where only one class is present. Raises
    ValueError for NaN."""
    t, s = _numbers(truth, score)
    if not ((t == 1).any() and (t != 1).any()):
        return math.nan
    order = np.argsort(-s)
    found = np.cumsum(t[order] == 1)
    last = np.append(np.flatnonzero(np.diff(s[order])), len(s) - 1)  # of each run of equal scores
    gained = np.diff(found[last], prepend=0) / found[-1]
    return float((gained * found[last] / (last + 1)).sum())


def _numbers(truth: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as arrays of float64; raises ValueError where one has a NaN."""
    t, s = np.asarray(truth, float), np.asarray(score, float)
    if np.isnan(t).any() or np.isnan(s).any():
        raise ValueError("A label or a score is not a number.")
    return t, s


def accuracy(truth: ArrayLike, decision: ArrayLike) -> float:
    return float(np.mean(np.asarray(truth) == np.asarray(decision))) if np.size(truth) else math.nan


def sensitivity(truth: ArrayLike, decision: ArrayLike) -> float:
    """Share of positives that are called positive; NaN without positives."""
    positive = np.asarray(truth) == 1
    return float(np.mean(np.asarray(decision)[positive] == 1)) if positive.any() else math.nan


def specificity(truth: ArrayLike, decision: ArrayLike) -> float:
    """Share of negatives that are called negative; NaN without negatives."""
    return sensitivity(1 - np.asarray(truth), 1 - np.asarray(decision))


def precision(truth: ArrayLike, decision: ArrayLike) -> float:
    """Share of those called positive that are; NaN where none is called positive."""
    return sensitivity(decision, truth)


def kappa(truth: ArrayLike, decision: ArrayLike) -> float:
    """Cohen's kappa; NaN where it is not defined."""
    t, d = np.asarray(truth), np.asarray(decision)
    agree = np.mean(t == d)
    chance = sum(np.mean(t == v) * np.mean(d == v) for v in np.unique(np.concatenate([t, d])))
    return float((agree - chance) / (1 - chance)) if chance < 1 else math.nan


def mean(truth: ArrayLike, values: ArrayLike) -> float:
    """Mean of the values, whatever the truth; NaN of none."""
    return float(np.mean(np.asarray(values))) if np.size(values) else math.nan


def brier(truth: ArrayLike, probability: ArrayLike) -> float:
    return float(np.mean((np.asarray(probability) - np.asarray(truth)) ** 2))


@dataclass(frozen=True)
class Bin:
    """Neighbouring probabilities: their mean, the share of positives among them, how many."""

    mean: float
    share: float
    n: int


def calibration(truth: ArrayLike, probability: ArrayLike, bins: int = 10) -> list[Bin]:
    """Bins of equal count by rising probability (Nixon et al. 2019, "adaptive")."""
    t, p = np.asarray(truth, float), np.asarray(probability, float)
    return [Bin(float(p[c].mean()), float(t[c].mean()), len(c)) for c in chunks(p, bins)]


def chunks(probability: ArrayLike, bins: int = 10) -> list[NDArray[np.intp]]:
    """The positions of the pictures in each bin of ``calibration``."""
    p = np.asarray(probability, float)
    return np.array_split(np.argsort(p, kind="stable"), min(bins, len(p)))


def ece(truth: ArrayLike, probability: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error over the bins of ``calibration``."""
    found = calibration(truth, probability, bins)
    return sum(b.n * abs(b.share - b.mean) for b in found) / sum(b.n for b in found)


def ece_of_calibrated(probability: ArrayLike, draws: int = 1000) -> Estimate:
    """The ECE that a perfectly calibrated model would have on pictures of these probabilities.

    Labels are drawn from the probabilities themselves. With few pictures it is far from 0: an ECE
    within this interval shows no miscalibration (Vaicenavicius et al. 2019, arXiv:1902.06977).
    """
    p = np.asarray(probability, float)
    if not len(p):
        return Estimate(math.nan, math.nan, math.nan, 0)
    rng = np.random.default_rng(0)
    values = [ece(rng.random(len(p)) < p, p) for _ in range(draws)]
    low, high = np.percentile(values, (2.5, 97.5))
    return Estimate(float(np.mean(values)), float(low), float(high), len(p))


def bootstrap(
    metric: Metric,
    truth: ArrayLike,
    score: ArrayLike,
    groups: Sequence[str] | NDArray[np.object_],
    draws: int = 1000,
    seed: int = 0,
    biased: bool = False,
    fewest: int = FEWEST_OF_A_CLASS,
) -> Estimate:
    """``metric(truth, score)`` with its interval from resampling whole groups (patients).

    Draws in which the metric is not defined (one class only) are left out. biased: the metric, in
    [0, 1], is larger where less is known, and so in every draw than in the whole, as the ECE is;
    then the interval reaches over the percentiles and over their reflection at the value (the basic
    bootstrap, Davison and Hinkley 1997, 5.2), as either alone can leave the value outside.

    Where all are right, or none, every draw is as well, and the percentiles would claim certainty:
    the interval is ``exact`` then. There is none where too few patients count (``enough``), nor
    where it would have no width otherwise.
    """
    t, s = np.asarray(truth, float), np.asarray(score, float)
    if not len(t):
        return Estimate(math.nan, math.nan, math.nan, 0)
    value = metric(t, s)
    if not enough(metric, t, s, groups, fewest):
        return Estimate(value, math.nan, math.nan, len(t))
    _, code = np.unique(np.asarray(groups, str), return_inverse=True)
    order = np.argsort(code, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(code[order])) + 1)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        index = np.concatenate([members[k] for k in rng.integers(len(members), size=len(members))])
        values.append(metric(t[index], s[index]))
    finite = np.array([v for v in values if not math.isnan(v)])
    low, high = np.percentile(finite, (2.5, 97.5)) if len(finite) else (math.nan, math.nan)
    if biased:
        low, high = max(0.0, min(low, 2 * value - high)), min(1.0, max(high, 2 * value - low))
    if low == high == value and value in (0.0, 1.0):
        low, high = exact(metric, t, s, code)
    if math.isclose(low, high, abs_tol=1e-9):
        low = high = math.nan
    return Estimate(value, float(low), float(high), len(t))


def enough(
    metric: Metric,
    truth: ArrayLike,
    score: ArrayLike,
    groups: Sequence[str] | NDArray[np.object_],
    fewest: int = FEWEST_OF_A_CLASS,
) -> bool:
    """Whether enough patients (groups) count for an interval of the metric.

    One patient alone is drawn again each time, so two at least; of either class where the metric is
    an area under a curve, and there ``fewest`` at least. Sensitivity and specificity are of one.
    """
    t, s, who = np.asarray(truth, float), np.asarray(score, float), np.asarray(groups, str)
    least = max(2, fewest) if metric in (auroc, auprc) else 2
    counted = _counted(metric, t, s) or [np.ones(len(t), bool)]
    return all(len(np.unique(who[rows])) >= least for rows in counted)


def exact(
    metric: Metric, t: NDArray[np.float64], s: NDArray[np.float64], group: NDArray[np.int_]
) -> tuple[float, float]:
    """The 95 % interval of a figure that is 0 or 1 on every group.

    That of n successes of n, or of 0 (Clopper and Pearson 1934), n the groups that the share is of.
    For an AUROC the class with fewer of them counts: each lies above all of the other class that
    were seen. A kappa is what agreement at that edge would give. Of any other metric, whose edge
    would be no share, there is nothing but the value.
    """
    value = metric(t, s)
    counted = _counted(metric, t, s)
    if not counted:
        return value, value
    n = min(len(np.unique(group[rows])) for rows in counted)
    if not n:
        return value, value
    edge = 0.025 ** (1 / n)
    if metric is kappa and value == 1.0:
        chance = sum(np.mean(t == v) ** 2 for v in np.unique(t))
        return float((edge - chance) / (1 - chance)), 1.0
    if metric is kappa:
        return value, value  # no better than chance is in the middle, not at an edge
    return (edge, 1.0) if value == 1.0 else (0.0, 1.0 - edge)


def _counted(
    metric: Metric, t: NDArray[np.float64], s: NDArray[np.float64]
) -> list[NDArray[np.bool_]]:
    """The rows that a share is of, by class where two are compared; none of what is no share."""
    if metric in (auroc, auprc):
        return [t == 1, t != 1]
    if metric in (accuracy, kappa) or (metric is mean and np.isin(s, (0, 1)).all()):
        return [np.ones(len(t), bool)]
    if metric in (sensitivity, specificity):
        return [t == (metric is sensitivity)]
    return [s == 1] if metric is precision else []
