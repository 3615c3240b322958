"""How far a release agrees with the readers, and readers with each other: figures with intervals.

The truth is what the readers say, so these are figures of agreement on this worklist, which
somebody put together by hand; they are not the release's accuracy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from core.store.records import Decision, StudyRecord, Verdict
from core.types import POINTS, Finding

_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
_DRAWS = 4000
Pair = tuple[bool, bool]


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval and its n; NaN where it is not defined."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Agreement:
    """One caller against a reference, by study.

    name: who against whom. sensitivity, specificity: Wilson intervals (Wilson 1927). kappa: Cohen's
    (1960); see ``kappa`` for its interval.
    """

    name: str
    sensitivity: Figure
    specificity: Figure
    kappa: Figure


def of_release(
    records: Sequence[StudyRecord], release_sha256: str
) -> tuple[list[StudyRecord], int]:
    """The studies that this release assessed, in this mode, which has a digest of its own; and how
    many readings there are of the others, of which nothing follows for it."""
    own = [r for r in records if r.release_sha256 == release_sha256]
    others = (r for r in records if r.release_sha256 != release_sha256)
    return own, sum(len(_calls(r.decisions)) for r in others)


def with_readers(records: Sequence[StudyRecord]) -> list[Agreement]:
    """The release at each operating point against the readers together, and against each.

    records: of one release (``of_release``).
    Together: the studies on which all readers who said suspected or not suspected said the same. A
    reader's doubtful, a draft and a study that the release did not assess are left out.
    """
    found = []
    names = dict.fromkeys(r for record in records for r in _calls(record.decisions))
    for point in POINTS:
        called = [(_positive(r.result.finding, point), _calls(r.decisions)) for r in records]
        agreed = [(c, _unanimous(calls)) for c, calls in called]
        found.append(_agreement(f"All readers, {point}", agreed))
        if len(names) > 1:
            for name in names:
                pairs = [(c, calls.get(name)) for c, calls in called]
                found.append(_agreement(f"{name}, {point}", pairs))
    return found


def between_readers(records: Sequence[StudyRecord]) -> list[tuple[str, Figure]]:
    """Cohen's kappa of every two readers who called the same studies."""
    calls = [_calls(r.decisions) for r in records]
    names = dict.fromkeys(name for c in calls for name in c)
    found = []
    for one, two in itertools.combinations(names, 2):
        pairs = [(c[one], c[two]) for c in calls if one in c and two in c]
        if pairs:
            found.append((f"{one} and {two}", kappa(pairs)))
    return found


def wilson(positive: int, n: int) -> Figure:
    """A share with its Wilson score interval: sound for few cases and for 0 and 1."""
    if n == 0:
        return Figure(math.nan, math.nan, math.nan, 0)
    share = positive / n
    centre = share + _Z**2 / (2 * n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    return Figure(share, max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale), n)


def kappa(pairs: Sequence[Pair]) -> Figure:
    """Cohen's kappa of two callers; NaN where both always said the same one thing.

    Interval: the middle 95 % of kappa under the posterior of the four cells with Jeffreys' prior
    (Dirichlet, 1/2 each), drawn with a fixed seed. Unlike the bootstrap it does not shrink to a
    point where a few studies happen to agree.
    """
    table = np.zeros(4)
    for one, two in pairs:
        table[2 * one + two] += 1
    value = float(_kappa(table[None] / max(1, len(pairs)))[0])
    if math.isnan(value):
        return Figure(value, math.nan, math.nan, len(pairs))
    draws = _kappa(np.random.default_rng(0).dirichlet(table + 0.5, _DRAWS))
    low, high = np.percentile(draws, (2.5, 97.5))
    return Figure(value, min(float(low), value), max(float(high), value), len(pairs))


def _kappa(cells: np.ndarray) -> np.ndarray:
    """Kappa of each row of Nx4 shares: both no, only the second, only the first, both yes."""
    agree = cells[:, 0] + cells[:, 3]
    one, two = cells[:, 2] + cells[:, 3], cells[:, 1] + cells[:, 3]
    chance = one * two + (1 - one) * (1 - two)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance < 1, (agree - chance) / (1 - chance), math.nan)


def _agreement(name: str, pairs: Iterable[tuple[bool | None, bool | None]]) -> Agreement:
    """pairs: (what the release says, what the reader says), None where it does not say."""
    whole = [(c, t) for c, t in pairs if c is not None and t is not None]
    on_positive = [c for c, truth in whole if truth]
    on_negative = [not c for c, truth in whole if not truth]
    return Agreement(
        name,
        wilson(sum(on_positive), len(on_positive)),
        wilson(sum(on_negative), len(on_negative)),
        kappa(whole),
    )


def _positive(finding: Finding | None, point: str) -> bool | None:
    if finding is None:
        return None
    if point == "sensitive":
        return finding is not Finding.NOT_SUSPECTED
    return finding is Finding.SUSPECTED


def _calls(decisions: Iterable[Decision]) -> dict[str, bool]:
    """What each reader says, where it is yes or no."""
    return {
        d.reader: d.opinion.finding is Finding.SUSPECTED
        for d in decisions
        if d.opinion is not None
        and d.opinion.verdict is not Verdict.DRAFT
        and d.opinion.finding in (Finding.SUSPECTED, Finding.NOT_SUSPECTED)
    }


def _unanimous(calls: dict[str, bool]) -> bool | None:
    said = set(calls.values())
    return said.pop() if len(said) == 1 else None
