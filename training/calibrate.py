"""Fit on the validation split what turns logits into statements: see ``core.quality``."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp, ndtr

from core import quality
from core.operating import SENSITIVITY, SPECIFICITY
from core.types import STRANGER, OperatingPoint
from training import metrics

log = logging.getLogger(__name__)

Array = NDArray[np.float64]
LOST = 0.01  # share of the supported radiographs of validation that may be called something else
BORROWED = 20  # pictures of either label that a part takes from the others
REFUSED = 0.93  # share of the other radiographs of validation that is refused, within that


def temperature(logits: Array, truth: NDArray[np.int64]) -> float:
    """The temperature (0.05 to 20) with the lowest cross-entropy; logits NxC, truth N."""

    def nll(log_t: float) -> float:
        scaled = logits / np.exp(log_t)
        scaled = scaled - scaled.max(1, keepdims=True)
        log_sum = np.log(np.exp(scaled).sum(1))
        return float(np.mean(log_sum - scaled[np.arange(len(truth)), truth]))

    return float(np.exp(minimize_scalar(nll, bounds=(-3, 3), method="bounded").x))


def shift(
    logits: Array,
    supported: NDArray[np.bool_],
    parts: NDArray[np.bool_],
    moved: NDArray[np.bool_],
    lost: float,
) -> float:
    """What to add to the logits of the classes ``moved``: the most with few supported ones lost.

    logits: NxK of stage 1's own classes. supported: which of the N are of a part of the cascade.
    parts: which of the K classes are such parts; the others join as in ``quality.collapse``. At
    most the share ``lost`` of the supported may be called none of the parts; within that, as much
    as possible of what is no supported part is. In [-5, 5].
    """
    margin = np.sort(_margins(logits[supported], parts, moved))
    limit = margin[int(lost * len(margin))]  # a shift just below it leaves so many of them behind
    return float(np.clip(limit - 1e-6, -5.0, 5.0))


def _margins(logits: Array, parts: NDArray[np.bool_], moved: NDArray[np.bool_]) -> Array:
    """Of each picture (N) the shift of ``moved`` from which on it is called none of the parts."""
    part = logits[:, parts].max(1)
    fixed = logits[:, ~parts & ~moved]
    rest = logsumexp(fixed, 1) if fixed.shape[1] else np.full(len(part), -np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(rest < part, part + np.log1p(-np.exp(rest - part)), -np.inf)
    margin: Array = room - logsumexp(logits[:, moved], 1)
    return margin


def shifts(
    logits: Array, supported: NDArray[np.bool_], classes: Sequence[str], models: Sequence[str]
) -> dict[str, float]:
    """``other_shift`` and, where stage 1 has the class, ``stranger_shift`` (``manifest.Stage``).

    models: the classes that are parts of the release.

    A stranger is told from a radiograph more surely than one body part from another, so its logit
    is lowered only as far as keeps it from taking a third of what may be lost. The others are
    raised no further than it takes to refuse ``REFUSED`` of them: a supported radiograph that is
    lost costs a reader more than an unsupported one that is named and left to him.
    """
    parts = np.array([c in models for c in classes])
    stranger = np.array([c == STRANGER for c in classes])
    found: dict[str, float] = {}
    moved = logits.copy()
    if stranger.any():
        only = parts | stranger
        low = shift(logits[:, only], supported, parts[only], stranger[only], LOST / 3)
        found["stranger_shift"] = min(0.0, low)  # never raised: strangers are rare in a hospital
        moved += found["stranger_shift"] * stranger
    named = ~parts & ~stranger
    found["other_shift"] = shift(moved, supported, parts, named, LOST)
    if not supported.all():
        margin = np.sort(_margins(moved[~supported], parts, named))
        enough = float(margin[math.ceil(REFUSED * len(margin)) - 1]) + 1e-6
        found["other_shift"] = float(np.clip(enough, -5.0, found["other_shift"]))
    return found


def platt(
    logits: dict[str, Array], truth: dict[str, Array], share: dict[str, float] | None = None
) -> dict[str, tuple[float, float]]:
    """(temperature, bias) of ``sigmoid(logit / temperature + bias)`` for each part.

    All parts share one temperature, as their branches were trained alike: with a few dozen
    pictures a part, one slope from all is nearer to the truth than a slope from each. The targets
    are smoothed as Platt (1999) does, so that a small validation split cannot make the
    probabilities extreme. The slope stays positive: calibration never turns an answer round.

    share: of positives by part, in (0, 1), where it is known better than from ``truth``. Pictures
    then count so that the positives have that share (label shift, Saerens et al. 2002): of a few
    dozen pictures the share is an accident, and the bias would learn it.
    """
    names = list(logits)
    if not names:
        return {}
    targets, weights = {}, {}
    for name in names:
        positives, negatives = truth[name].sum(), (1 - truth[name]).sum()
        found = positives / (positives + negatives)
        wanted = share[name] if share else found
        weights[name] = np.where(truth[name] == 1, wanted / found, (1 - wanted) / (1 - found))
        high, low = (positives + 1) / (positives + 2), 1 / (negatives + 2)
        targets[name] = np.where(truth[name] == 1, high, low)

    def nll(parameters: Array) -> float:
        losses = []
        for name, bias in zip(names, parameters[1:]):
            z = logits[name] * np.exp(parameters[0]) + bias
            losses.append(weights[name] * (np.logaddexp(0, z) - targets[name] * z))
        return float(np.concatenate(losses).mean())

    options = {"maxiter": 4000, "maxfev": 8000, "xatol": 1e-5, "fatol": 1e-8}
    found = minimize(nll, np.zeros(1 + len(names)), method="Nelder-Mead", options=options).x
    return {n: (float(np.exp(-found[0])), float(b)) for n, b in zip(names, found[1:])}


def member_weights(logits: Sequence[Array], truth: Sequence[Array]) -> Array:
    """Weights of K members, at least 0 and adding up to 1: low cross-entropy of the average.

    logits: of each part NxK, calibrated. truth: of each part N. All parts share the weights: each
    has a few dozen pictures, and the best weights of so few are an accident. Each part counts the
    same, however many pictures it has. A scale is fitted beside the weights and left out of what is
    returned: networks that err apart have an average that is too timid, which calibrating it once
    more mends; without the scale the weights would shun it.

    Of the weights between equal ones and the best the most equal whose cross-entropy is within one
    standard error of the best (Breiman et al. 1984, section 3.4.3): a network was chosen by the
    very pictures that it would be weighed by.
    """
    count = logits[0].shape[1]

    def losses(weights: Array, scale: float) -> list[Array]:
        scaled = [np.exp(scale) * (x @ weights) for x in logits]
        return [np.logaddexp(0, z) - t * z for z, t in zip(scaled, truth, strict=True)]

    def mean(each: Sequence[Array]) -> float:
        return float(np.mean([np.mean(one) for one in each]))

    def fitted(weights: Array) -> list[Array]:
        found = minimize_scalar(lambda s: mean(losses(weights, s)), (-1.0, 1.0))
        return losses(weights, float(found.x))

    options = {"maxiter": 4000, "xatol": 1e-4, "fatol": 1e-8}
    start = np.zeros(count)
    found = minimize(
        lambda p: mean(losses(_shares(p[1:]), p[0])), start, method="Nelder-Mead", options=options
    )
    best, equal = _shares(np.clip(found.x[1:], -10, 10)), np.full(count, 1 / count)
    least = fitted(best)
    for share in np.linspace(0.0, 1.0, 21):
        weights: Array = equal + share * (best - equal)
        more = [a - b for a, b in zip(fitted(weights), least, strict=True)]
        error = np.sqrt(sum(np.var(d) / len(d) for d in more)) / len(more)
        if mean(more) <= error:
            return weights
    return best


def stage1_weight(joined: Callable[[float], Array], truth: NDArray[np.int64]) -> float:
    """The weight of one member beside stage 1's own network, 0 to 1, with the lowest cross-entropy.

    joined: the logits (NxK) at a weight. truth: the class of each of the N. At each weight the
    temperature is the one that fits it best.
    """

    def nll(weight: float) -> float:
        logits = joined(weight)
        scaled = logits / temperature(logits, truth)
        return float(np.mean(logsumexp(scaled, 1) - scaled[np.arange(len(truth)), truth]))

    weights = np.linspace(0.0, 1.0, 21)
    return float(weights[np.argmin([nll(w) for w in weights])])


def _shares(parameters: Array) -> Array:
    """K - 1 numbers -> K positive ones that add up to 1; the first is what the others are
    measured by."""
    free = np.exp(np.concatenate([[0.0], parameters]))
    shares: Array = free / free.sum()
    return shares


def read(
    logits: Mapping[str, Array], truth: Mapping[str, Array], share: dict[str, float] | None = None
) -> dict[str, dict[str, Any]]:
    """How the fracture logits (N) of each part are read: ``temperature`` and ``bias`` of ``platt``
    and the ``operating_points`` on what they give, as a release's entry has them."""
    fitted = platt(dict(logits), dict(truth), share)
    probability = {part: quality.sigmoid(logits[part], *how) for part, how in fitted.items()}
    points = operating_points(probability, truth)
    return {
        part: {"temperature": temperature, "bias": bias, "operating_points": points[part]}
        for part, (temperature, bias) in fitted.items()
    }


def operating_points(
    probability: Mapping[str, Array], truth: Mapping[str, Array]
) -> dict[str, list[dict[str, Any]]]:
    """Of each part three thresholds on calibrated probabilities, with what they reach on it.

    sensitive: the highest with a sensitivity of at least 95 %. specific: the lowest with a
    specificity of at least 90 %. balanced: the largest sum of the two (Youden 1950), each smoothed
    over the logit, as the best threshold of a few dozen pictures is otherwise an accident.

    The first two are asked for twice: of the part's own pictures, and of these and ``BORROWED``
    ones more that are spread as those of the other parts are. The lowest of nine positives says
    little about where the next nine lie; the other parts, read with one slope, say more. What a
    part has many pictures of hardly feels it. Where no threshold does both, as the share of
    positives differs much between the parts, its own pictures alone choose, and the log says so.

    On a part that is told apart well the first may lie above the second. Then each does what either
    is asked to do, and the lower one is called sensitive.
    """
    return {part: _points(part, probability, truth) for part in probability}


def _points(
    part: str, probabilities: Mapping[str, Array], truths: Mapping[str, Array]
) -> list[dict[str, Any]]:
    probability, truth = probabilities[part], truths[part]
    others = [(probabilities[p], truths[p]) for p in probabilities if p != part]
    # Between its own values alone: among those of the others, the highest that is sensitive enough
    # would lie right below the lowest of its positives that it may not miss.
    candidates = _between(probability)
    points = [_point(t, probability, truth) for t in candidates]
    alike = [[_point(t, *other) for other in others] for t in candidates]

    def reaches(figure: str, label: float, least: float) -> list[OperatingPoint]:
        n = np.count_nonzero(truth == label)
        found, alone = [], []
        for point, there in zip(points, alike, strict=True):
            own = getattr(point, figure)
            lent = [getattr(p, figure) for p in there]
            joint = (n * own + BORROWED * np.mean(lent)) / (n + BORROWED) if lent else own
            if own >= least:
                alone.append(point)
            if min(own, joint) >= least:
                found.append(point)
        if not found:
            log.warning(
                "%s: no threshold has the %s that is asked for on the other parts too, so its own "
                "pictures alone choose it", part, figure,
            )  # fmt: skip
        return found or alone

    sensitive = max(reaches("sensitivity", 1, SENSITIVITY), key=lambda p: p.threshold)
    specific = min(reaches("specificity", 0, SPECIFICITY), key=lambda p: p.threshold)
    sensitive, specific = sorted((sensitive, specific), key=lambda p: p.threshold)
    middle = _point(balanced(probability, truth), probability, truth)
    named = {"sensitive": sensitive, "specific": specific, "balanced": middle}
    kept = ("threshold", "sensitivity", "specificity", "n")
    return [{"name": m} | {k: getattr(p, k) for k in kept} for m, p in named.items()]


def _between(probability: Array) -> Array:
    """Thresholds between neighbouring values, so that no picture lies on one, and at either end."""
    values = np.unique(probability)
    inner = (values[1:] + values[:-1]) / 2
    thresholds: Array = np.concatenate([[values[0] / 2], inner, [(1 + values[-1]) / 2]])
    return thresholds


def balanced(probability: Array, truth: Array) -> float:
    """The threshold with the largest sum of smoothed sensitivity and specificity.

    A normal kernel on the logits, of the width that Silverman (1986, 3.31) gives each class.
    """
    logit = np.log(probability) - np.log1p(-probability)
    grid = np.linspace(logit.min(), logit.max(), 513)
    positive, negative = (_tail(grid, logit[truth == label]) for label in (1, 0))
    return quality.sigmoid(float(grid[np.argmax(positive - negative)]))


def _tail(grid: Array, values: Array) -> Array:
    """Smoothed share of ``values`` above each point of ``grid``."""
    quartiles = np.subtract(*np.percentile(values, (75, 25))) / 1.34
    spread = min(float(values.std()), float(quartiles)) or float(values.std()) or 1.0
    width = 0.9 * spread * len(values) ** -0.2
    share: Array = ndtr((values[None] - grid[:, None]) / width).mean(1)
    return share


def _point(threshold: float, probability: Array, truth: Array) -> OperatingPoint:
    decision = (probability >= threshold).astype(float)
    return OperatingPoint(
        "",
        float(threshold),
        metrics.sensitivity(truth, decision),
        metrics.specificity(truth, decision),
        len(truth),
    )
