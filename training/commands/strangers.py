"""``python -m training strangers``: drawn pictures that are no radiographs."""

from __future__ import annotations

import argparse

from core.settings import Settings
from training.commands import _options

HELP = "measure out-of-distribution refusal"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _options.cascade(parser)
    parser.add_argument(
        "--count", type=int, default=100, help="pictures of each kind (default: 100)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="random seed of the pictures (default: 1)"
    )
    _options.out(parser, "strangers.json, as evaluate's --out")


def run(options: argparse.Namespace, settings: Settings) -> int:
    from training import strangers

    cascade = _options.loaded(settings)
    records = strangers.measure(cascade, options.count, options.seed)
    _options.show(records, cascade, options.out, "strangers.json")
    return 0
