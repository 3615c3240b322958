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

from core.batch.progress import Code, Ending
from core.commands import _options
from core.errors import CascadeError
from core.settings import ENGINES, Settings

if TYPE_CHECKING:
    from core.batch.cluster import RayScorer
    from core.batch.run import Outcome
    from core.batch.scoring import Scorer

HELP = "assess a folder or a ZIP archive and write a table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        nargs="?",
        metavar="FOLDER",
        help="a folder, a ZIP archive, or an address such as s3://…",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="table to write: .csv, .parquet or .jsonl"
    )
    parser.add_argument("--resume", action="store_true", help="resume an interrupted run")
    parser.add_argument(
        "--by",
        choices=("image", "study"),
        default="image",
        help="one row an image or a study (default: image)",
    )
    parser.add_argument(
        "--heatmaps", type=Path, metavar="DIR", help="folder for a PNG of each assessed file"
    )
    parser.add_argument("--summary", type=Path, metavar="FILE.html", help="summary of the run")
    _options.device(parser)
    parser.add_argument(
        "--engine",
        choices=(*ENGINES, "local", "ray"),
        help="engine that runs the networks",
    )
    parser.add_argument(
        "--ray-address", metavar="ADDRESS", help="address of the cluster, for --engine ray"
    )
    parser.add_argument(
        "--engine-info", action="store_true", help="print which engine would run, and why, and exit"
    )
    parser.add_argument(
        "--batch", type=_positive, default=64, help="files that are assessed together (default: 64)"
    )
    parser.add_argument(
        "--threads", type=_positive, default=os.cpu_count() or 1, help="threads that decode files"
    )
    parser.add_argument(
        "--within-roots", action="store_true", help="read nothing outside BONE_ROOTS"
    )


def run(options: argparse.Namespace, settings: Settings) -> int:
    if options.engine in ("local", "ray"):  # where it runs, not what runs the network
        settings = replace(settings, engine=Settings.from_environment().engine)
    if options.engine_info:
        return _explain_engine(settings)
    if options.folder is None or options.out is None:
        print("usage: python -m core batch FOLDER --out FILE", file=sys.stderr)
        return 2
    try:
        outcome = _outcome(options, settings)
    except (CascadeError, OSError) as error:
        Ending.by(error).tell(sys.stderr)
        raise
    if outcome.already:
        print(f"{options.out} is already complete; omit --resume to assess everything again.")
        return 0
    if outcome.stopped:
        Ending(Code.STOPPED).tell(sys.stderr)
        print(f"Stopped after {outcome.done} of {outcome.total} files; continue with --resume.")
        return 1
    print(f"{outcome.total} files, {outcome.rejected} not assessed: {options.out}")
    return 0


def _outcome(options: argparse.Namespace, settings: Settings) -> Outcome:
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
        return run_batch(order, scorer, stop, sys.stderr)


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
