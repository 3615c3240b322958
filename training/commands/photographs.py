"""``python -m training photographs``: answers to simulated photographs of films."""

from __future__ import annotations

import argparse

from core.settings import Settings
from training.commands import _options, robustness

HELP = "measure robustness to photographs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    robustness.add_arguments(parser)
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of the photographs (default: 0)"
    )
    parser.add_argument(
        "--plain",
        type=int,
        default=2000,
        help="radiographs to count false alarms on (default: 2000)",
    )


def run(options: argparse.Namespace, settings: Settings) -> int:
    from training import photographs
    from training.data import read_all
    from training.robustness import chosen

    rows = read_all(options.data)
    cascade = _options.loaded(settings)
    some = chosen(rows, cascade.release.parts, options.split, options.count)
    records = photographs.measure(cascade, some, options.draws, options.seed)
    plain = photographs.plain(rows, options.split, options.plain)
    records += photographs.false_alarms(plain, options.draws)
    _options.show(records, cascade, options.out, "photographs.json", options.split)
    return 0
