"""What a threshold would mean where findings are as frequent as one says."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from core.operating import bayes
from training import metrics


@dataclass(frozen=True)
class Outcome:
    """Of one threshold at one prevalence; every figure a share, NaN where it is not defined.

    flagged: share of all radiographs that are called positive.
    """

    threshold: float
    prevalence: float
    sensitivity: float
    specificity: float
    ppv: float
    npv: float
    flagged: float


def outcome(
    truth: ArrayLike, probability: ArrayLike, threshold: float, prevalence: float
) -> Outcome:
    """Sensitivity and specificity as measured, the rest by Bayes at the prevalence (0 to 1)."""
    called = (np.asarray(probability, float) >= threshold).astype(float)
    sensitive = metrics.sensitivity(truth, called)
    specific = metrics.specificity(truth, called)
    hits, alarms = prevalence * sensitive, (1 - prevalence) * (1 - specific)
    return Outcome(
        threshold,
        prevalence,
        sensitive,
        specific,
        _or_nan(bayes(sensitive, specific, prevalence)),
        _or_nan(bayes(specific, sensitive, 1 - prevalence)),
        hits + alarms,
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
