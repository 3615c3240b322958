"""``python -m training simulate``: a folder of simulated radiographs, or the project's samples.

What requirements-simulate.txt installs is imported by ``run`` alone: other commands do without.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from core.settings import Settings
from training.simulate.parts import OTHERS, SUPPORTED

HELP = "make simulated radiographs"
log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, metavar="DIR", help="folder to fill")
    target.add_argument("--samples", type=Path, metavar="DIR", help="write the project's samples")
    parser.add_argument("--count", type=int, default=100, help="number of pictures (100)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same files")
    parser.add_argument("--size", type=int, default=512, help="longest side in pixels (512)")
    parser.add_argument("--part", choices=(*SUPPORTED, *OTHERS), help="only this part")
    parser.add_argument("--dicom", action="store_true", help="also write 12-bit DICOM files")
    parser.add_argument("--stamp", action="store_true", help="write SIMULATED into each picture")
    parser.add_argument("--workers", type=int, help="processes (one for each core)")


def run(options: argparse.Namespace, settings: Settings) -> int:
    """Do what the options say: 0 if it was done, 1 if it cannot be, 2 if they make no sense."""
    if options.count < 1 or not 64 <= options.size <= 2048 or options.seed < 0:
        log.error("--count must be at least 1, --size between 64 and 2048, --seed not negative")
        return 2
    if options.workers is not None and options.workers < 1:
        log.error("--workers must be at least 1")
        return 2
    try:
        from training.simulate.folder import write_folder, write_samples
        from training.simulate.render import Order
    except ImportError as error:
        log.error("%s: install requirements-simulate.txt first", error)
        return 1
    started = time.perf_counter()
    if options.samples is not None:
        count = write_samples(options.samples)
    else:
        orders = [
            Order(options.seed, index, options.size, part=options.part, stamp=options.stamp)
            for index in range(options.count)
        ]
        count = write_folder(options.out, orders, options.dicom, options.workers)
    seconds = time.perf_counter() - started
    log.info("%d pictures in %.1f s, %.2f a second", count, seconds, count / seconds)
    return 0
