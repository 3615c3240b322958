"""Fit on the validation split what turns logits into statements: see ``core.quality``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from core.types import OperatingPoint
from training import metrics

Array = NDArray[np.float64]


def temperature(logits: Array, truth: NDArray[np.int64]) -> float:
    """The temperature (0.05 to 20) with the lowest cross-entropy; logits NxC, truth N."""

    def nll(log_t: float) -> float:
        scaled = logits / np.exp(log_t)
        scaled = scaled - scaled.max(1, keepdims=True)
        log_sum = np.log(np.exp(scaled).sum(1))
        return float(np.mean(log_sum - scaled[np.arange(len(truth)), truth]))

    return float(np.exp(minimize_scalar(nll, bounds=(-3, 3), method="bounded").x))


def platt(logits: Array, truth: Array) -> tuple[float, float]:
    """(temperature, bias) of ``sigmoid(logit / temperature + bias)``.

    The targets are smoothed as Platt (1999) does, so that a small validation split cannot make
    the probabilities extreme. The slope stays positive: calibration never turns an answer round.
    """
    positives, negatives = truth.sum(), (1 - truth).sum()
    target = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def nll(parameters: Array) -> float:
        z = logits * np.exp(parameters[0]) + parameters[1]
        return float(np.mean(np.logaddexp(0, z) - target * z))

    slope, bias = minimize(nll, np.zeros(2), method="Nelder-Mead").x
    return float(np.exp(-slope)), float(bias)


def operating_points(probability: Array, truth: Array) -> list[dict[str, Any]]:
    """Three thresholds on calibrated probabilities.

    sensitive: the highest with a sensitivity of at least 95 %. specific: the lowest with a
    specificity of at least 90 %. balanced: the largest sum of the two (Youden 1950).
    """
    values = np.unique(probability)
    # thresholds between neighbouring values, so that no picture lies on one
    candidates = np.concatenate(
        [[values[0] / 2], (values[1:] + values[:-1]) / 2, [(1 + values[-1]) / 2]]
    )
    points = [_point(t, probability, truth) for t in candidates]
    sensitive = max((p for p in points if p.sensitivity >= 0.95), key=lambda p: p.threshold)
    specific = min((p for p in points if p.specificity >= 0.90), key=lambda p: p.threshold)
    balanced = max(points, key=lambda p: p.sensitivity + p.specificity)
    named = {"sensitive": sensitive, "specific": specific, "balanced": balanced}
    return [asdict(p) | {"name": name} for name, p in named.items()]


def _point(threshold: float, probability: Array, truth: Array) -> OperatingPoint:
    decision = (probability >= threshold).astype(float)
    return OperatingPoint(
        "",
        float(threshold),
        metrics.sensitivity(truth, decision),
        metrics.specificity(truth, decision),
        len(truth),
    )
