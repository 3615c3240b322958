"""``python -m core dicom IMAGE.dcm... --out DIR``: everything that is replied to a study."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from core.commands import _options
from core.settings import Settings

HELP = "write DICOM objects and a FHIR report for a study"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE.dcm", help="files of a study"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="output folder")
    _options.device(parser)


def run(options: argparse.Namespace, settings: Settings) -> int:
    from core import imaging
    from core.dicom_out import reply
    from core.engines import choice
    from core.errors import NotWritable

    files = [(p.name, imaging.load(p, settings.limits)) for p in options.images]
    cascade = choice.load(settings)
    assessment = reply.assess(cascade, files, settings.limits)
    for unread in assessment.refused:
        print(f"{unread.file}: {unread.reason}", file=sys.stderr)
    try:
        for path in reply.write(assessment, options.out):
            print(path)
    except OSError as error:
        raise NotWritable(f"The objects cannot be written to {options.out}.") from error
    return 0
