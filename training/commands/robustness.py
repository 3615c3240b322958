"""``python -m training robustness``: answers to radiographs that were turned, cut, stored again."""

from __future__ import annotations

import argparse

from core.settings import Settings
from training.commands import _options, heatmaps

HELP = "measure robustness to rotation, cropping, compression and brightness"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    heatmaps.add_arguments(parser)
    parser.add_argument(
        "--count", type=int, default=200, help="number of radiographs (default: 200)"
    )


def run(options: argparse.Namespace, settings: Settings) -> int:
    from training import robustness
    from training.data import read_all

    cascade = _options.loaded(settings)
    parts = cascade.release.parts
    rows = robustness.chosen(read_all(options.data), parts, options.split, options.count)
    records = robustness.measure(cascade, rows, options.draws)
    _options.show(records, cascade, options.out, "robustness.json", options.split)
    return 0
