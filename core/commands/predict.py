"""``python -m core predict PATH...``: a sentence or a line of JSON for each input."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.commands import _options
from core.settings import Settings

if TYPE_CHECKING:
    from core.manifest import Release
    from core.types import ImageResult

HELP = "assess files and folders"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="a file, or a folder with its subfolders",
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON for each input")
    _options.device(parser)


def run(options: argparse.Namespace, settings: Settings) -> int:
    from core.engines import choice
    from core.pipeline import read_and_diagnose
    from core.words import printable

    paths = list(_files(options.paths))  # first: what cannot be read of them is said at once
    cascade = choice.load(settings)
    print(f"{cascade.release.id} on {cascade.engine.description}", file=sys.stderr)
    for path in paths:
        _, result = read_and_diagnose(cascade, path, settings.limits)
        result = replace(result, file=printable(result.file))
        said = _sentence(result, cascade.release)
        print(json.dumps(result.to_json()) if options.json else said, flush=True)
    return 0


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files given, and of a folder what a batch takes of it, in order; raises BatchFailed for
    one that cannot be read."""
    from core.batch.inputs import Folder

    for path in paths:
        if path.is_dir():
            yield from (path / name for name in Folder(path).names())
        else:
            yield path


def _sentence(result: ImageResult, release: Release) -> str:
    """What is said of one input, and after it what a reader must know before trusting that."""
    from core.notes import notes_of, probability_of
    from core.words import percent

    notes = notes_of(result, release)
    if result.body_part is None or result.fracture is None or result.reason is not None:
        return " ".join((f"{result.file}: rejected. {result.reason}", *notes))
    share = probability_of(result.fracture.probability, release, result.part)
    said = (
        f"{result.file}: {result.body_part.label.words} ({percent(result.body_part.probability)}), "
        f"{result.fracture.finding.words} ({share})"
    )
    return " ".join((f"{said}.", *notes)) if notes else said
