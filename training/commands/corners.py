"""``python -m training corners``: weights of the rule that finds a film's corners."""

from __future__ import annotations

import argparse

from core.settings import Settings
from training.commands import _options

HELP = "train the choice of the quadrilateral that is the film"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _options.data(parser)
    parser.add_argument(
        "--count", type=int, default=260, help="training radiographs (default: 260)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="random seed of the photographs (default: 1)"
    )


def run(options: argparse.Namespace, settings: Settings) -> int:
    from training import corners
    from training.data import read_all

    print(corners.learn(read_all(options.data), options.count, options.seed))
    return 0
