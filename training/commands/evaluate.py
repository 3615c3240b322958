"""``python -m training evaluate``: score a release on one split, say and write its figures."""

from __future__ import annotations

import argparse

from core.settings import Settings
from training.commands import _options

HELP = "evaluate a release on one split"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _options.data(parser)
    _options.split(parser)
    _options.cascade(parser)
    _options.draws(parser)
    parser.add_argument(
        "--copies",
        action="store_true",
        help="also give figures without pictures that have a copy in the training split",
    )
    parser.add_argument("--baseline", choices=("lite2",), help="also evaluate a baseline")
    _options.out(parser, "metrics.json, scores.csv, report.html")


def run(options: argparse.Namespace, settings: Settings) -> int:
    from training import evaluation

    evaluation.run(_options.collect(options, evaluation.Settings, settings), print)
    return 0
