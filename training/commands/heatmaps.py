"""``python -m training heatmaps``: where heatmaps point, against annotated boxes."""

from __future__ import annotations

import argparse

from core.settings import Settings
from training.commands import _options

HELP = "measure whether heatmaps point at the annotated boxes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _options.data(parser)
    _options.split(parser)
    _options.cascade(parser)
    _options.draws(parser)
    _options.out(parser, "the figures, as evaluate's --out")


def run(options: argparse.Namespace, settings: Settings) -> int:
    from training import heatmaps
    from training.data import read_all

    cascade = _options.loaded(settings)
    rows = heatmaps.chosen(read_all(options.data), cascade.release.parts, options.split)
    records = heatmaps.measure(cascade, rows, options.draws)
    _options.show(records, cascade, options.out, "heatmaps.json", options.split)
    return 0
