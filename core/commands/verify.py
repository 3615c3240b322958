"""``python -m core verify``: the weights against the manifest."""

from __future__ import annotations

import argparse

from core.registry import Registry
from core.settings import Settings

HELP = "check the weights against the manifest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none of its own."""


def run(_: argparse.Namespace, settings: Settings) -> int:
    registry = Registry.open(settings.weights)
    registry.find(settings.release)
    for release_id, problem in registry.unreadable.items():
        print(f"{release_id}: {problem}")
    failed = bool(registry.unreadable)
    for release in registry.releases.values():
        problems = registry.verify(release)
        failed |= bool(problems)
        for part, missing in release.absent.items():
            names = ", ".join(missing)
            print(f"{release.id}: the fracture model of the {part} is not installed ({names}).")
        print("\n".join(problems) or f"{release.id}: {len(release.files)} files, all as listed.")
    return int(failed)
