"""``python -m core batch FOLDER --out FILE``: a table of everything below a folder."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.commands import _options
from core.settings import ENGINES, Settings

if TYPE_CHECKING:
    from core.batch.cluster import RayScorer
    from core.batch.scoring import Scorer

HELP = "score a folder or a ZIP archive into a table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="?", metavar="FOLDER", help="a folder, a ZIP archive, or s3://… and such"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="ends in .csv, .parquet or .jsonl")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was cut off")
    parser.add_argument(
        "--by", choices=("image", "study"), default="image", help="a row for each (default: image)"
    )
    parser.add_argument("--heatmaps", type=Path, metavar="DIR", help="a PNG for each assessed file")
    parser.add_argument("--summary", type=Path, metavar="FILE.html", help="a page about the run")
    _options.device(parser)
    parser.add_argument(
        "--engine",
        choices=(*ENGINES, "local", "ray"),
        help="what runs the network",
    )
    parser.add_argument("--ray-address", metavar="ADDRESS", help="of a cluster, for --engine ray")
    parser.add_argument(
        "--engine-info", action="store_true", help="say which engine would run, and why; no more"
    )
    parser.add_argument("--batch", type=_positive, default=64, help="files scored together")
    parser.add_argument(
        "--threads", type=_positive, default=os.cpu_count() or 1, help="threads that decode"
    )
    parser.add_argument(
        "--within-roots", action="store_true", help="read nothing outside of BONE_ROOTS"
    )


def run(options: argparse.Namespace, settings: Settings) -> int:
    if options.engine in ("local", "ray"):  # where it runs, not what runs the network
        settings = replace(settings, engine=Settings.from_environment().engine)
    if options.engine_info:
        return _explain_engine(settings)
    if options.folder is None or options.out is None:
        print("usage: python -m core batch FOLDER --out FILE", file=sys.stderr)
        return 2

    from core.batch import tables
    from core.batch.inputs import source_at

    tables.check_format(options.out)
    roots = settings.roots if options.within_roots else None
    source_at(options.folder, roots)  # what is wrong with it is said before torch is imported

    from core.batch.run import Order
    from core.batch.run import run as run_batch

    scorer = _scorer(options, settings)
    order = Order(options.folder, options.out, options.by, options.resume, options.summary, roots)
    with _stopped_by_signal() as stop:
        outcome = run_batch(order, scorer, stop, sys.stderr)
    if outcome.already:
        print(f"{options.out} is complete already; leave out --resume to score everything again.")
        return 0
    if outcome.stopped:
        print(f"Stopped after {outcome.done} of {outcome.total} files; go on with --resume.")
        return 1
    print(f"{outcome.total} files, {outcome.rejected} not assessed: {options.out}")
    return 0


def _scorer(options: argparse.Namespace, settings: Settings) -> Scorer | RayScorer:
    if options.engine == "ray":
        from core.batch.cluster import RayScorer

        roots = settings.roots if options.within_roots else None
        return RayScorer.of(
            settings,
            options.folder,
            options.batch,
            address=options.ray_address,
            heatmaps=options.heatmaps,
            roots=roots,
        )
    from core.batch.scoring import Scorer
    from core.engines import choice

    cascade = choice.load(settings, convert=True, many=True)
    return Scorer(cascade, settings.limits, options.batch, options.threads, options.heatmaps)


def _explain_engine(settings: Settings) -> int:
    from core.cascade import Cascade
    from core.engines import choice

    cascade = Cascade.load(settings.weights, settings.release, settings.device)
    chosen, reason = choice.choose(cascade, settings.engine, settings.home, convert=True)
    print(f"{chosen.engine.description}. {reason}")
    return 0


@contextmanager
def _stopped_by_signal() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM end the run after the batch at hand; a second Ctrl-C at once."""
    stop = threading.Event()

    def ask(number: int, _: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
