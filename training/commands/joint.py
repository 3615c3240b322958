"""``python -m training joint``: the heads of a run before its branches are trained."""

from __future__ import annotations

import argparse

from core.settings import Settings
from training.commands import _options

HELP = "evaluate the heads of a run's joint phase"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _options.run_folder(parser)
    _options.data(parser)
    _options.split(parser)
    _options.draws(parser)


def run(options: argparse.Namespace, settings: Settings) -> int:
    from training import joint, records

    found = joint.measure(options.run_folder, options.data, options.split, options.draws)
    print(records.table(found))
    return 0
