"""What a release says about itself: how good an operating point is, and what it means for one.

The figures are those that ``python -m training evaluate`` wrote into the manifest (test split);
where a release has none, those of the radiographs that chose the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.manifest import Release
from core.quality import deciding
from core.types import POINTS, BodyPart, Finding, OperatingPoint
from core.words import percent

SENSITIVITY = 0.95  # at least, on the pictures that choose the point "sensitive"
SPECIFICITY = 0.90  # at least, on those that choose "specific"
CENTRE = "control: centre"  # the picture's centre, in the place of a heatmap's hottest point
WIDENED = 0.05  # of the picture's longer side: by how much boxes are widened where pointing counts


@dataclass(frozen=True)
class Estimate:
    """A share in [0, 1] with its 95 % interval; low and high are None where it has none."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """In per cent, such as "96 % [92, 99]"; one that has no interval says so."""
        if self.low is None or self.high is None:
            return f"{percent(self.value)} (no interval)"
        return f"{percent(self.value)} [{100 * self.low:.0f}, {100 * self.high:.0f}]"


@dataclass(frozen=True)
class Performance:
    """What an operating point gives on n radiographs of a split, counted image by image."""

    point: OperatingPoint
    sensitivity: Estimate
    specificity: Estimate
    split: str
    n: int


def performance(release: Release, part: BodyPart, name: str) -> Performance | None:
    """The figures of the operating point ``name`` of a part; None if the release has no such.

    Of the split that the release was measured on; where it was not, of the radiographs that chose
    the threshold (``Stage.chosen_on``), and so better than they will be on others.
    """
    stage = release.stages.get(part)
    point = stage.point(name) if stage else None
    if stage is None or point is None:
        return None
    sensitivity = _figure(release, "fracture", part, f"sensitivity ({name})")
    specificity = _figure(release, "fracture", part, f"specificity ({name})")
    if sensitivity is None or specificity is None:
        found = Estimate(point.sensitivity), Estimate(point.specificity)
        return Performance(point, *found, stage.chosen_on, point.n)
    split = str(release.metrics.get("split", "test"))
    found = _estimate(sensitivity), _estimate(specificity)
    return Performance(point, *found, split, int(sensitivity["n"]))


def zones(points: Sequence[OperatingPoint], probability: float) -> str:
    """From where a finding is doubtful and from where suspected, a phrase; "" without points.

    The thresholds are told from each other and from the probability that stands beside them.
    """
    starts = [p.threshold for p in deciding(points)]
    told = [percent(start, [probability, *starts]) for start in starts]
    if not told:
        return ""
    suspected = f"suspected from {told[-1]}"
    return suspected if told[0] == told[-1] else f"doubtful from {told[0]}, {suspected}"


def counted_as(point: OperatingPoint, probability: float, finding: Finding | None) -> str:
    """What a doubtful study counts as at an operating point, and what this one does: a sentence."""
    start, positive = percent(point.threshold, [probability]), probability >= point.threshold
    doubtful = point.name == POINTS[0]  # whether it counts as positive
    rule = f"doubtful counts as positive ({start} and above)"
    if not doubtful:
        rule = f"doubtful counts as negative (below {start})"
    if finding is Finding.DOUBTFUL and positive != doubtful:  # by its networks' contradiction
        rule = f"{start} and above counts as positive"
    return f"At “{point.name}”, {rule}: this study is {'positive' if positive else 'negative'}."


def missed(release: Release, part: BodyPart) -> Estimate | None:
    """The share of the positives, of the split that the release was measured on, below the point
    *sensitive*; None where it was not measured."""
    found = _figure(release, "fracture", part, "sensitivity (sensitive)")
    if found is None:
        return None
    hit = _estimate(found)
    low, high = (None if limit is None else 1 - limit for limit in (hit.high, hit.low))
    return Estimate(round(1 - hit.value, 9), low, high)


def predictive_values(
    sensitivity: Estimate, specificity: Estimate, prevalence: float
) -> tuple[Estimate | None, Estimate | None]:
    """(PPV, NPV) by Bayes' rule, all in [0, 1]; None where nothing would be called so.

    Their limits are those with sensitivity and specificity both at theirs, so the interval is
    rather too wide. A figure of 0 or 1 that was measured with no interval says nothing about how
    rare the other case is: its limits are taken to be 0 and 1.
    """
    return (
        _predictive(sensitivity, specificity, prevalence),
        _predictive(specificity, sensitivity, 1 - prevalence),
    )


def predictive_value(
    found: Performance, probability: float, prevalence: float
) -> tuple[str, Estimate | None]:
    """The one that concerns a study of this probability, with its name: that of a call at this
    point, the same for all studies that are called so."""
    ppv, npv = predictive_values(found.sensitivity, found.specificity, prevalence)
    if probability >= found.point.threshold:
        return "Of those called positive, have it (PPV)", ppv
    return "Of those called negative, do not have it (NPV)", npv


def _predictive(hit: Estimate, other: Estimate, share: float) -> Estimate | None:
    value = bayes(hit.value, other.value, share)
    if value is None:
        return None
    hits, others = _limits(hit), _limits(other)
    if hits is None or others is None:
        return Estimate(value)
    low, high = (bayes(h, o, share) for h, o in zip(hits, others, strict=True))
    return Estimate(value, 0.0 if low is None else low, 1.0 if high is None else high)


def bayes(hit: float, other: float, share: float) -> float | None:
    """The share of true ones among those called; None where nothing is called.

    hit: share of the true ones that is called. other: share of the others that is not. share: of
    the true ones among all. All in [0, 1]: the PPV of sensitivity, specificity and prevalence, and
    the NPV of specificity, sensitivity and what is left of the prevalence.
    """
    true, false = hit * share, (1 - other) * (1 - share)
    return true / (true + false) if true + false > 0 else None


def _limits(one: Estimate) -> tuple[float, float] | None:
    if one.value in (0.0, 1.0) and (one.low is None or one.low == one.high):
        return 0.0, 1.0
    return None if one.low is None or one.high is None else (one.low, one.high)


def pointing(release: Release, method: str) -> tuple[Estimate, int] | None:
    """How often a method's hottest place lay in an annotated box, widened by WIDENED on each side,
    and n; None if not measured. CENTRE is a method, too."""
    found = _figure(release, "heatmap", method, "pointing game")
    return (_estimate(found), int(found["n"])) if found else None


def calibration_error(release: Release, part: BodyPart) -> tuple[Estimate, int] | None:
    """How far the probabilities of a part were from the shares of positives on the test split, on
    average (ECE, in [0, 1]), and n; None where it was not measured."""
    found = _figure(release, "fracture", part, "ece")
    return (_estimate(found), int(found["n"])) if found else None


def photographed(release: Release) -> tuple[Estimate, int] | None:
    """How often a finding from a simulated photograph was that of the radiograph itself, and n.

    None where it was not measured (``python -m training photographs``).
    """
    found = _figure(release, "photographs", "all", "finding the same")
    return (_estimate(found), int(found["n"])) if found else None


def _figure(release: Release, stage: str, part: str, metric: str) -> dict[str, Any] | None:
    """One figure by image, over all sources where they were pooled, else of the largest source."""
    here = [
        f
        for f in release.metrics.get("figures", ())
        if (f["stage"], f["part"], f["metric"], f["level"]) == (stage, part, metric, "image")
        and f["source"] != "simulated"
        and f["value"] is not None  # such as the sensitivity on a split without positives
    ]
    pooled = [f for f in here if f["source"] == "all"]
    return max(pooled or here, key=lambda f: int(f["n"]), default=None)


def _estimate(figure: dict[str, Any]) -> Estimate:
    return Estimate(float(figure["value"]), figure.get("low"), figure.get("high"))
