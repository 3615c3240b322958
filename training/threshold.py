"""What a threshold would mean where findings are as frequent as one says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from core.agreement import wilson
from core.operating import Estimate, predictive_values


@dataclass(frozen=True)
class Counted:
    """A share as it was counted: k of n, with its Wilson interval; NaN of none."""

    k: int
    n: int

    @property
    def share(self) -> Estimate:
        found = wilson(self.k, self.n)
        return Estimate(found.value, found.low, found.high)


@dataclass(frozen=True)
class Outcome:
    """Of one threshold at one prevalence.

    sensitivity: positives that are called. specificity: negatives that are not. ppv, npv: None
    where they are not defined. flagged: share of all radiographs that are called positive.
    """

    sensitivity: Counted
    specificity: Counted
    ppv: Estimate | None
    npv: Estimate | None
    flagged: float


def outcome(
    truth: ArrayLike, probability: ArrayLike, threshold: float, prevalence: float
) -> Outcome:
    """Sensitivity and specificity as measured, the rest by Bayes at the prevalence (0 to 1)."""
    positive = np.asarray(truth, float) == 1
    called = np.asarray(probability, float) >= threshold
    sensitive = Counted(int(called[positive].sum()), int(positive.sum()))
    specific = Counted(int((~called)[~positive].sum()), int((~positive).sum()))
    hits = prevalence * sensitive.share.value
    alarms = (1 - prevalence) * (1 - specific.share.value)
    ppv, npv = predictive_values(sensitive.share, specific.share, prevalence)
    return Outcome(sensitive, specific, ppv, npv, hits + alarms)
