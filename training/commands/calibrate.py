"""``python -m training calibrate``: a candidate release from a run."""

from __future__ import annotations

import argparse

from core.settings import Settings
from training.commands import _options

HELP = "make a candidate release from a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _options.run_folder(parser)
    parser.add_argument("--id", required=True, help="id of the release, such as 2026.12-1")
    parser.add_argument("--flip-average", action="store_true", help="score the mirror image too")
    parser.add_argument("--size", type=int, default=0, help="input size (default: as trained)")


def run(options: argparse.Namespace, settings: Settings) -> int:
    from training import candidate

    print(candidate.build(options.run_folder, options.id, options.flip_average, options.size))
    return 0
