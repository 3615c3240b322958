"""Command line: ``python -m core predict PATH...`` and ``python -m core verify``.

Exit code 0 when every input was handled (a rejected image is handled), 2 for wrong usage, 1 when
the program failed.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import CascadeError
from core.registry import Registry
from core.settings import Settings

if TYPE_CHECKING:
    from core.cascade import Cascade
    from core.types import ImageResult


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    try:
        settings = _settings(options)
        return int(options.run(options, settings))
    except CascadeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        sys.stderr.close()
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m core", description="Read bone radiographs.")
    parser.add_argument("--weights", type=Path, help="folder of manifest.json")
    parser.add_argument("--release", help="release id or alias (default: champion)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    predict = commands.add_parser("predict", help="score files and folders")
    predict.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    predict.add_argument("--json", action="store_true", help="one line of JSON for each input")
    predict.add_argument("--device", choices=("auto", "cpu", "cuda"))
    predict.set_defaults(run=_predict)
    verify = commands.add_parser("verify", help="check the weights against the manifest")
    verify.set_defaults(run=_verify)
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    given = {k: getattr(options, k, None) for k in ("weights", "release", "device")}
    return replace(Settings.from_environment(), **{k: v for k, v in given.items() if v})


def _predict(options: argparse.Namespace, settings: Settings) -> int:
    from core.cascade import Cascade

    cascade = Cascade.load(settings.weights, settings.release, settings.device)
    print(f"{cascade.release.id} on {cascade.device.description}", file=sys.stderr)
    for path in _files(options.paths):
        result = _score(cascade, path, settings)
        print(json.dumps(result.to_json()) if options.json else _sentence(result), flush=True)
    return 0


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files given, and of a folder all that lie below it and are not hidden, in order."""
    for path in paths:
        if path.is_dir():
            below = (p for p in sorted(path.rglob("*")) if p.is_file())
            yield from (p for p in below if not any(s[0] == "." for s in p.relative_to(path).parts))
        else:
            yield path


def _score(cascade: Cascade, path: Path, settings: Settings) -> ImageResult:
    from core import imaging, pipeline
    from core.errors import ImageRejected

    started = time.perf_counter()
    try:
        radiograph = imaging.read(path, settings.limits)
    except ImageRejected as error:
        digest = pipeline.digest_of(path, settings.limits)
        result = pipeline.rejected(cascade, path.name, digest, error.reason, started)
    else:
        result = cascade.predict([radiograph])[0]
    return replace(result, file=str(path))


def _sentence(result: ImageResult) -> str:
    if result.body_part is None or result.fracture is None or result.reason is not None:
        return f"{result.file}: rejected. {result.reason}"
    finding = result.fracture.finding.value.replace("_", " ")
    return (
        f"{result.file}: {result.body_part.label.value} ({result.body_part.probability:.0%}), "
        f"{finding} ({result.fracture.probability:.0%})"
    )


def _verify(options: argparse.Namespace, settings: Settings) -> int:
    registry = Registry.open(settings.weights)
    registry.find(settings.release)
    failed = False
    for release in registry.releases.values():
        problems = registry.verify(release)
        failed |= bool(problems)
        print("\n".join(problems) or f"{release.id}: {len(release.files)} files, all as listed.")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
