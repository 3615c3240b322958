"""``python -m training simulate``: a folder of simulated radiographs, or the project's samples."""

from __future__ import annotations

import argparse

from core.settings import Settings

HELP = "make simulated radiographs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from training.simulate import cli

    cli.add_arguments(parser)


def run(options: argparse.Namespace, settings: Settings) -> int:
    from training.simulate import cli

    return cli.run(options)
