"""``python -m training fit``: train the cascade, or with ``--arch`` a network beside it."""

from __future__ import annotations

import argparse

from core.settings import Settings
from training.commands import _options

HELP = "train the trunk and all branches"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from training.fit import Settings

    _options.of_class(parser, Settings)


def run(options: argparse.Namespace, settings: Settings) -> int:
    from core.architectures import RESNET50
    from training import distributed, fit, fit_member

    asked = _options.collect(options, fit.Settings, settings)
    kind = fit.Run if asked.arch == RESNET50 else fit_member.MemberRun
    with distributed.processes(asked.device):
        path = kind(asked).fit()
        if distributed.first():
            print(path)
    return 0
