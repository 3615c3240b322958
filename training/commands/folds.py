"""``python -m training folds``: training and validation dealt into folds, for cross-fitting."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.settings import Settings
from training.commands import _options

HELP = "split training and validation into folds for cross-fitting"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _options.data(parser)
    parser.add_argument("--count", type=int, default=4, help="number of folds (default: 4)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the manifests")


def run(options: argparse.Namespace, settings: Settings) -> int:
    from training import folds

    for path in folds.write(options.data, options.count, options.out):
        print(path)
    return 0
