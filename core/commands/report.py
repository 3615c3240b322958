"""``python -m core report IMAGE... --out FILE``: a study as PDF, JSON or DICOM SR."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from core.commands import _options
from core.errors import NotWritable
from core.settings import Settings
from core.types import POINTS

if TYPE_CHECKING:
    from core.cascade import Cascade

HELP = "write a report of one study"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a view of the study")
    parser.add_argument("--out", required=True, type=_form, help="FILE.pdf, .json or .dcm")
    parser.add_argument("--names", action="store_true", help="include the names of the files")
    parser.add_argument(
        "--point",
        choices=POINTS,
        default=POINTS[0],
        help="operating point to report figures of (default: sensitive)",
    )
    parser.add_argument(
        "--prevalence",
        type=_share,
        metavar="PER_CENT",
        help="prevalence among your patients, for the predictive values",
    )
    _options.device(parser)


def _form(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (".pdf", ".json", ".dcm"):
        raise argparse.ArgumentTypeError("the name must end in .pdf, .json or .dcm")
    return path


def _share(text: str) -> float:
    try:
        share = float(text) / 100
    except ValueError as error:
        raise argparse.ArgumentTypeError("the prevalence must be a number") from error
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError("the prevalence must lie between 0 and 100")
    return share


def run(options: argparse.Namespace, settings: Settings) -> int:
    from core.engines import choice
    from core.files import write_atomically

    cascade = choice.load(settings)
    if options.out.suffix.lower() == ".dcm":
        data = _structured(options.images, cascade, settings)
    else:
        data = _page(options, cascade, settings)
    try:
        write_atomically(options.out, lambda path: path.write_bytes(data))
    except OSError as error:
        raise NotWritable(f"The report cannot be written to {options.out}.") from error
    return 0


def _page(options: argparse.Namespace, cascade: Cascade, settings: Settings) -> bytes:
    from core import report
    from core.errors import ImageRejected
    from core.header import SEVERAL_PATIENTS
    from core.pipeline import read_and_diagnose
    from core.study import combine

    found = [read_and_diagnose(cascade, path, settings.limits) for path in options.images]
    radiographs, results = zip(*found)
    headers = [r.header for r in radiographs if r is not None and r.header is not None]
    if len({h.patient for h in headers}) > 1:
        raise ImageRejected(SEVERAL_PATIENTS)
    study = combine(str(options.images[0].parent), results, cascade.release)
    made = report.StudyReport(
        study,
        radiographs,
        cascade.release,
        datetime.now(UTC),
        options.point,
        options.names,
        options.prevalence,
    )
    if options.out.suffix.lower() == ".pdf":
        return report.pdf(made)
    return json.dumps(report.as_json(made), indent=1).encode()


def _structured(images: Sequence[Path], cascade: Cascade, settings: Settings) -> bytes:
    """A DICOM structured report: it belongs into the study of its pictures, so these are DICOM."""
    from core import imaging
    from core.dicom_out import reply
    from core.dicom_out.encoding import encoded
    from core.dicom_out.structured import structured_report

    files = [(p.name, imaging.load(p, settings.limits)) for p in images]
    return encoded(structured_report(reply.assess(cascade, files, settings.limits)))
