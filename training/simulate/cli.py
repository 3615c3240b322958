"""``python -m training simulate``: a folder of simulated radiographs, or the project's samples.

Only what parsing needs is imported here, so that the other commands work without
requirements-simulate.txt.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from .parts import OTHERS, SUPPORTED

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``simulate``."""
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


def run(args: argparse.Namespace) -> int:
    """Do what the options say: 0 if it was done, 1 if it cannot be, 2 if they make no sense."""
    if args.count < 1 or not 64 <= args.size <= 2048 or args.seed < 0:
        log.error("--count must be at least 1, --size between 64 and 2048, --seed not negative")
        return 2
    if args.workers is not None and args.workers < 1:
        log.error("--workers must be at least 1")
        return 2
    try:
        from .folder import write_folder, write_samples
        from .render import Order
    except ImportError as error:
        log.error("%s: install requirements-simulate.txt first", error)
        return 1
    started = time.perf_counter()
    if args.samples is not None:
        count = write_samples(args.samples)
    else:
        orders = [
            Order(args.seed, index, args.size, part=args.part, stamp=args.stamp)
            for index in range(args.count)
        ]
        count = write_folder(args.out, orders, args.dicom, args.workers)
    seconds = time.perf_counter() - started
    log.info("%d pictures in %.1f s, %.2f a second", count, seconds, count / seconds)
    return 0
