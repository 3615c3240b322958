"""``python -m training data``: what is in the data sets."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.settings import Settings
from training.commands import _options

HELP = "show what is in the data sets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _options.data(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE.csv",
        help="every row, with why it is unreadable and the number of its radiograph",
    )  # fmt: skip


def run(options: argparse.Namespace, settings: Settings) -> int:
    from training import inspect_data

    print(inspect_data.run(options.data, options.out))
    return 0
