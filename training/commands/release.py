"""``python -m training release``: a run's candidate becomes a release."""

from __future__ import annotations

import argparse

from core.settings import CHAMPION, Settings
from training.commands import _options

HELP = "put a candidate into weights/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _options.run_folder(parser)
    _options.weights(parser)
    parser.add_argument(
        "--alias", default=CHAMPION,
        help="name that it gets (default: champion; the old one becomes previous). The release "
        "that loses its name is removed unless another alias names it",
    )  # fmt: skip
    parser.add_argument(
        "--optional", action="append", default=[], metavar="PART",
        help="a part whose files need not be installed; may be given several times",
    )  # fmt: skip


def run(options: argparse.Namespace, settings: Settings) -> int:
    from training import release

    print(release.publish(options.run_folder, settings.weights, options.alias, options.optional))
    return 0
