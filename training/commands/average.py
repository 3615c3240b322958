"""``python -m training average``: one network with the mean of several runs' weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.settings import Settings

HELP = "the mean of runs of fit --arch"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="its folder, or the release they began with"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the mean")


def run(options: argparse.Namespace, settings: Settings) -> int:
    from training import average

    print(average.build(options.runs, options.out))
    return 0
