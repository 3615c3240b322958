"""From logits to what may be said: calibration, operating points, rejection.

Calibration: temperature scaling (Guo et al. 2017, arXiv:1706.04599) for the body part, Platt
scaling for the one logit of a fracture branch. Rejection: the distance of the pooled stage-1
features to those of the training radiographs, in the space of their principal components
(Mahalanobis distance, Lee et al. 2018, arXiv:1807.03888) and outside of it (residual norm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from core.types import POINTS, BodyPart, BodyPartPrediction, Finding, OperatingPoint

if TYPE_CHECKING:
    from core.manifest import Stage

Array = NDArray[np.float64]


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> Array:
    """Calibrated probabilities over the last axis; float64, summing to 1."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(-1, keepdims=True))
    return scaled / scaled.sum(-1, keepdims=True)


def collapse(
    logits: NDArray[np.floating], classes: Sequence[str], parts: Sequence[BodyPart]
) -> Array:
    """Logits of stage 1's own classes (...xK) -> of the P parts and OTHER (...xP+1), float64.

    A release may know more kinds of other radiographs by name (forearm, chest, ...) than the
    cascade has models for. Their probabilities add up to that of OTHER, so their logits join as
    the logarithm of a sum of exponentials. A part that is no class has -inf.
    """
    values = np.asarray(logits, np.float64)
    nothing = np.full(values.shape[:-1], -np.inf)
    columns = [values[..., classes.index(p)] if p in classes else nothing for p in parts]
    rest = [i for i, name in enumerate(classes) if name not in parts]
    other = np.logaddexp.reduce(values[..., rest], -1) if rest else nothing
    return np.stack([*columns, other], -1)


def most_like(
    logits: NDArray[np.floating], classes: Sequence[str], parts: Sequence[BodyPart]
) -> str:
    """The kind of "other" that has more than half of what all of them have; "" where none has.

    logits: K. The name as a reader would say it: underscores are blanks.
    """
    rest = [i for i, name in enumerate(classes) if name not in parts]
    if not rest:
        return ""
    share = softmax(np.asarray(logits)[rest])
    best = int(share.argmax())
    name = classes[rest[best]]
    return BodyPart(name).words if share[best] > 0.5 and name != BodyPart.OTHER else ""


def body_part(
    logits: NDArray[np.floating], stage: Stage, parts: Sequence[BodyPart]
) -> BodyPartPrediction:
    """What stage 1 says of one picture: its own classes' logits (K) -> the parts and OTHER."""
    shifted = logits + stage.shifts(parts)
    values = softmax(collapse(shifted, stage.classes, parts), stage.temperature)
    probabilities = {p: float(v) for p, v in zip((*parts, BodyPart.OTHER), values, strict=True)}
    label = max(probabilities, key=lambda c: probabilities[c])
    # Which of the others it is, is asked without the shift that all have against the parts:
    # lowered, they would leave what is no radiograph at all as the most probable of them.
    among = logits + stage.stranger_shifts()
    name = most_like(among, stage.classes, parts) if label == BodyPart.OTHER else ""
    return BodyPartPrediction(label, probabilities[label], probabilities, name)


@overload
def sigmoid(logit: float, temperature: float = 1.0, bias: float = 0.0) -> float: ...
@overload
def sigmoid(logit: NDArray[np.floating], temperature: float = 1.0, bias: float = 0.0) -> Array: ...
def sigmoid(
    logit: float | NDArray[np.floating], temperature: float = 1.0, bias: float = 0.0
) -> float | Array:
    """Calibrated probability in (0, 1) of a logit, or of each in an array of any shape: float64."""
    values = np.asarray(logit, np.float64) / temperature + bias
    found: Array = 1.0 / (1.0 + np.exp(-values))
    return found if found.ndim else float(found)


def deciding(points: Sequence[OperatingPoint]) -> list[OperatingPoint]:
    """The two points that make the finding: "sensitive", and "specific", which is no lower."""
    named = [p for p in points if p.name in POINTS]
    return sorted(named, key=lambda p: p.threshold)


def finding_of(
    probability: float, points: Sequence[OperatingPoint], members: Sequence[float] = ()
) -> Finding:
    """The three-state finding; without operating points a half decides.

    members: what each network of an ensemble says; where they contradict each other, it is
    doubtful whatever their average is.
    """
    thresholds = _thresholds(points)
    if contradict(members, points):
        return Finding.DOUBTFUL
    if probability >= thresholds[-1]:
        return Finding.SUSPECTED
    if probability < thresholds[0]:
        return Finding.NOT_SUSPECTED
    return Finding.DOUBTFUL


def contradict(members: Sequence[float], points: Sequence[OperatingPoint]) -> bool:
    """Whether one member alone would call it suspected and another one not suspected.

    That has no limit of its own to be fitted, and a reader can follow it. It only ever turns a
    clear answer into a doubtful one.
    """
    thresholds = _thresholds(points)
    if not members:
        return False
    return max(members) >= thresholds[-1] and min(members) < thresholds[0]


def _thresholds(points: Sequence[OperatingPoint]) -> list[float]:
    return [p.threshold for p in deciding(points)] or [0.5]


@dataclass(frozen=True)
class FeatureSpace:
    """Where the pooled features (length D) of the training radiographs lie.

    mean: D. components: KxD, orthonormal rows. scale: K standard deviations along them.
    residual: mean norm of what the components leave over. limit: the largest accepted distance.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    scale: NDArray[np.float32]
    residual: float
    limit: float

    @classmethod
    def fit(cls, features: NDArray[np.float32], components: int = 64) -> FeatureSpace:
        """From NxD features; the limit is infinite until one is chosen."""
        mean = features.mean(0)
        centred = features - mean
        _, values, rows = np.linalg.svd(centred, full_matrices=False)
        rows, values = rows[:components], values[:components]
        left = np.linalg.norm(centred - centred @ rows.T @ rows, axis=1).mean()
        scale = values / np.sqrt(max(1, len(features) - 1)) + 1e-6
        return cls(mean, rows, scale.astype(np.float32), float(left) + 1e-6, float("inf"))

    def distance(self, feature: NDArray[np.float32]) -> float:
        """Root mean square Mahalanobis distance inside, plus the relative residual outside."""
        centred = feature - self.mean
        inside = self.components @ centred
        outside = np.linalg.norm(centred - self.components.T @ inside)
        return float(np.sqrt(np.mean((inside / self.scale) ** 2)) + outside / self.residual)
