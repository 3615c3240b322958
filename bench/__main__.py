"""``python -m bench``: ratios within one run, median and spread over rounds.

Everything is measured in processor seconds of this process as well as by the clock: on a computer
that does other things beside it, only the former mean something, and still only as ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import ways
from core.settings import Settings


@dataclass(frozen=True)
class Timed:
    """Seconds an image of each round: by the clock, and of processor time."""

    clock: list[float]
    processor: list[float]


def timed(run: Callable[[], object], images: int, rounds: int) -> Timed:
    """One round to warm up, then ``rounds``."""
    run()
    clock, processor = [], []
    for _ in range(rounds):
        wall, used = time.perf_counter(), time.process_time()
        run()
        clock.append((time.perf_counter() - wall) / images)
        processor.append((time.process_time() - used) / images)
    return Timed(clock, processor)


def table(found: dict[str, Timed], reference: str) -> str:
    """A line a way: ms an image (median, lowest to highest), and how much faster by either."""
    base = found[reference]
    lines = [f"{'':44}{'ms by clock':>24}{'ms of processor':>24}{'clock':>9}{'proc.':>9}"]
    for name, value in found.items():
        ratios = [_ratio(base.clock, value.clock), _ratio(base.processor, value.processor)]
        cells = f"{_spread(value.clock):>24}{_spread(value.processor):>24}"
        lines.append(f"{name:44}{cells}{ratios[0]:8.1f}x{ratios[1]:8.1f}x")
    return "\n".join(lines)


def _ratio(base: Sequence[float], other: Sequence[float]) -> float:
    return statistics.median(base) / max(1e-9, statistics.median(other))


def _spread(seconds: Sequence[float]) -> str:
    ms = sorted(1000 * s for s in seconds)
    return f"{statistics.median(ms):.1f} ({ms[0]:.1f} to {ms[-1]:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--images", type=int, default=16, help="simulated radiographs of 512 px")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    parser.add_argument("--memory", action="store_true", help="also memory against folder size")
    options = parser.parse_args()
    settings = Settings.from_environment()
    if options.threads:
        ways.limit_threads(options.threads)
    files = ways.pictures(options.images)
    print(f"{len(files)} files, {options.rounds} rounds; ratios are against the first line\n")
    found = {
        name: timed(run, len(files), options.rounds)
        for name, run in ways.all_ways(files, settings).items()
    }
    print(table(found, next(iter(found))))
    bound = ways.bound(settings)
    best = min(statistics.median(t.processor) for n, t in found.items() if n.startswith("cascade"))
    print(
        f"\nbound for 1.2 passes by the best convolution here: {1000 * bound:.1f} ms of processor"
    )
    print(f"share of the bound, decoding included: {bound / best:.0%}")
    print("cold start to a loaded release: " + ", ".join(ways.cold_start()))
    if options.memory:
        print(ways.memory(Path(__file__).resolve().parent.parent))


if __name__ == "__main__":
    main()
