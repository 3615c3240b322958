"""``python -m training distill``: a ResNet50 that starts from what an ImageNet network knows."""

from __future__ import annotations

import argparse

from core.settings import Settings
from training.commands import _options

HELP = "pre-train a ResNet50 from an ImageNet teacher"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from training.distill import Settings

    _options.of_class(parser, Settings)


def run(options: argparse.Namespace, settings: Settings) -> int:
    from core.allocator import keep_large_blocks
    from training import distill

    keep_large_blocks()
    print(distill.Distillation(_options.collect(options, distill.Settings, settings)).run())
    return 0
