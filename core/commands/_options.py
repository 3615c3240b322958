"""Options that several commands have."""

from __future__ import annotations

import argparse

from core.settings import DEVICES


def device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", choices=DEVICES, help="what the networks run on (default: as BONE_DEVICE says)"
    )
