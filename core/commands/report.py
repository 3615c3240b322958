"""``python -m core report IMAGE... --out FILE``: the views of one study as a PDF or as JSON."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

from core.errors import NotWritable
from core.settings import Settings

HELP = "write a report of one study"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a view of the study")
    parser.add_argument("--out", required=True, type=_form, help="FILE.pdf or FILE.json")
    parser.add_argument("--names", action="store_true", help="with the names of the files")
    parser.add_argument("--point", choices=("sensitive", "specific"), default="sensitive")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"))


def _form(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (".pdf", ".json"):
        raise argparse.ArgumentTypeError("the name must end in .pdf or .json")
    return path


def run(options: argparse.Namespace, settings: Settings) -> int:
    from core import report
    from core.cascade import Cascade
    from core.files import write_atomically
    from core.pipeline import read_and_diagnose
    from core.study import combine

    cascade = Cascade.load(settings.weights, settings.release, settings.device)
    found = [read_and_diagnose(cascade, path, settings.limits) for path in options.images]
    radiographs, results = zip(*found)
    folder = str(options.images[0].parent)
    study = combine(folder, results, cascade.release)
    made = report.StudyReport(
        study, radiographs, cascade.release, datetime.now(UTC), options.point, options.names
    )
    if options.out.suffix.lower() == ".pdf":
        data = report.pdf(made)
    else:
        data = json.dumps(report.as_json(made), indent=1).encode()
    try:
        write_atomically(options.out, lambda path: path.write_bytes(data))
    except OSError as error:
        raise NotWritable(f"The report cannot be written to {options.out}.") from error
    return 0
