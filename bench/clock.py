"""Timing in rounds, and the table that says what came of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Way = Callable[[], object]


@dataclass(frozen=True)
class Timed:
    """Seconds an image of each round: by the clock, and of processor time."""

    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def timed(ways: Mapping[str, Way], images: int, rounds: int) -> dict[str, Timed]:
    """One round to warm up, then ``rounds``, in each of which every way has its turn.

    In turns, so that what else the computer does falls on all of them.
    """
    found = {name: Timed() for name in ways}
    for n in range(rounds + 1):
        for name, run in ways.items():
            wall, used = time.perf_counter(), time.process_time()
            run()
            if n:
                found[name].clock.append((time.perf_counter() - wall) / images)
                found[name].processor.append((time.process_time() - used) / images)
    return found


def table(found: Mapping[str, Timed], reference: str) -> str:
    """A line a way: ms an image (median, lowest to highest), and how much faster by either."""
    base = found[reference]
    lines = [f"{'':48}{'ms by clock':>24}{'ms of processor':>24}{'clock':>9}{'proc.':>9}"]
    for name, value in found.items():
        ratios = [_ratio(base.clock, value.clock), _ratio(base.processor, value.processor)]
        cells = f"{spread(value.clock):>24}{spread(value.processor):>24}"
        lines.append(f"{name:48}{cells}{ratios[0]:8.1f}x{ratios[1]:8.1f}x")
    return "\n".join(lines)


def _ratio(base: Sequence[float], other: Sequence[float]) -> float:
    return statistics.median(base) / max(1e-9, statistics.median(other))


def spread(seconds: Sequence[float]) -> str:
    """Milliseconds: the median (lowest to highest)."""
    ms = sorted(1000 * s for s in seconds)
    return f"{statistics.median(ms):.1f} ({ms[0]:.1f} to {ms[-1]:.1f})"
