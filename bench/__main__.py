"""``python -m bench [PART ...]``: ratios within one run, median and spread over rounds.

Everything is measured in processor seconds of this process as well as by the clock: on a computer
that does other things beside it, only the former mean something, and still only as ratios.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

from bench import bounds, clock, decoding, others, page, system, ways
from core.registry import Registry
from core.settings import Settings
from core.transforms import Preprocessing


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--images", type=int, default=16, help="simulated radiographs of 512 px")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"There is no part {', '.join(sorted(unknown))}.")
    settings = Settings.from_environment()
    if options.threads:
        ways.limit_threads(options.threads)
    for name in options.parts or PARTS:
        print(f"\n{name}: {options.rounds} rounds, median (lowest to highest)\n", flush=True)
        PARTS[name](settings, options)


def _spec(settings: Settings) -> Preprocessing:
    return Registry.open(settings.weights).find(settings.release).preprocessing


def _ways(settings: Settings, options: argparse.Namespace) -> None:
    """The cascade and what others do, from the bytes of files, against the usual app."""
    files, spec = ways.pictures(options.images), _spec(settings)
    ours, absent = ways.all_ways(files, settings)
    theirs, missing = others.rows(files, spec.size, options.threads)
    found = clock.timed(ours | theirs, len(files), options.rounds)
    print(clock.table(found, next(iter(found))))
    print("\n".join(absent + missing))
    for precision, seconds in bounds.all_bounds(spec.size, options.threads).items():
        used = [t for n, t in found.items() if n.startswith("cascade") and precision in n]
        line = f"bound for 1.2 passes by the best {precision} convolution: {1000 * seconds:.1f} ms"
        if used:
            best = min(statistics.median(t.processor) for t in used)
            line += f" of processor; share, decoding included: {seconds / best:.0%}"
        print(line)


def _decode(settings: Settings, options: argparse.Namespace) -> None:
    found = clock.timed(decoding.ways(settings, _spec(settings)), 1, 3 * options.rounds)
    print(clock.table(found, next(iter(found))))


def _cold(_: Settings, __: argparse.Namespace) -> None:
    print("\n".join(system.cold_start()))


def _memory(_: Settings, __: argparse.Namespace) -> None:
    print(system.memory())


def _page(settings: Settings, options: argparse.Namespace) -> None:
    for line in page.latency(settings, 3 * options.rounds):
        print(line, flush=True)


def _ray(_: Settings, options: argparse.Namespace) -> None:
    for line in system.ray(options.rounds):
        print(line, flush=True)


PARTS: dict[str, Callable[[Settings, argparse.Namespace], None]] = {
    "ways": _ways,
    "decode": _decode,
    "cold": _cold,
    "page": _page,
    "memory": _memory,
    "ray": _ray,
}


if __name__ == "__main__":
    main()
