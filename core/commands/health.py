"""``python -m core health``: release, store, disk, device and PACS as JSON, for a supervisor."""

from __future__ import annotations

import argparse
import json

from core.health import examine
from core.settings import Settings

HELP = "check release, store, disk, device and PACS queues, and print JSON"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none of its own."""


def run(_: argparse.Namespace, settings: Settings) -> int:
    found = examine(settings)
    well = all(f.ok for f in found)
    parts = {f.name: {"ok": f.ok, "detail": f.detail} for f in found}
    home = str(settings.home.absolute())  # of another user's home, all may be well and this is not
    print(json.dumps({"ok": well, "home": home, **parts}, ensure_ascii=False))
    return 0 if well else 1
