"""``python -m training average``: one network with the mean of several runs' weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.settings import Settings

HELP = "average the weights of runs of fit --arch"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder of a run, or the release they began with"
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder")


def run(options: argparse.Namespace, settings: Settings) -> int:
    from training import average

    print(average.build(options.runs, options.out))
    return 0
