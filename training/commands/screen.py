"""``python -m training screen``: networks side by side, before a candidate is made of one."""

from __future__ import annotations

import argparse

from core.settings import Settings
from training.commands import _options

HELP = "compare networks of fit --arch on validation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "networks",
        nargs="+",
        metavar="RUN",
        help="folder of a run, or a release, or several joined by + for their mean",
    )
    _options.data(parser)
    _options.draws(parser)


def run(options: argparse.Namespace, settings: Settings) -> int:
    from training import records, screen

    print(records.table(screen.measure(options.networks, options.data, draws=options.draws)))
    return 0
