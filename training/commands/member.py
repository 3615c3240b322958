"""``python -m training member``: one more network beside a release's own."""

from __future__ import annotations

import argparse

from core.settings import Settings
from training.commands import _options

HELP = "add a network to a release's ensemble"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from training.member import Settings

    _options.of_class(parser, Settings)


def run(options: argparse.Namespace, settings: Settings) -> int:
    from training import member

    print(member.build(_options.collect(options, member.Settings, settings), settings))
    return 0
