"""``python -m training quantise``: int8 networks of a release, and whether they may be used."""

from __future__ import annotations

import argparse

from core.settings import Settings
from training.commands import _options

HELP = "make int8 networks and check them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _options.data(parser)
    _options.release(parser)
    parser.add_argument(
        "--calibration", type=int, default=300, help="calibration pictures (default: 300)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of the choice of pictures (default: 0)"
    )


def run(options: argparse.Namespace, settings: Settings) -> int:
    from core.cascade import Cascade
    from training import quantise
    from training.data import read_all

    # int8 is for the CPU, and is checked in each mode that the release has.
    cascade = Cascade.load(settings.weights, settings.release, "cpu")
    rows = read_all(options.data)
    print(quantise.run(cascade, rows, settings.home, options.calibration, options.seed))
    return 0
