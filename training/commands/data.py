"""``python -m training data``: what is in the data sets."""

from __future__ import annotations

import argparse

from core.settings import Settings

HELP = "show what is in the data sets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from training import inspect_data

    inspect_data.add_arguments(parser)


def run(options: argparse.Namespace, settings: Settings) -> int:
    from training import inspect_data

    print(inspect_data.run(options))
    return 0
