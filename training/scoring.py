"""``python -m training evaluate``: score a release on one split, say and write its figures."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from core.cascade import Cascade
from core.settings import Settings
from core.types import Mode
from training import duplicates, ensemble, evaluate, learned, memoriser, report
from training.data import read_all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", action="append", required=True, metavar="KIND:PATH")
    parser.add_argument("--split", choices=("train", "val", "test"), default="val")
    parser.add_argument("--weights", type=Path, default=Settings.from_environment().weights)
    parser.add_argument("--release", default="champion")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws (default: 1000)")
    parser.add_argument(
        "--copies",
        action="store_true",
        help="also give the figures without pictures that have a copy in the training split",
    )
    parser.add_argument(
        "--mode", type=Mode, choices=[*Mode], help="as the release is used (default: as it says)"
    )
    parser.add_argument("--baseline", choices=("lite2",), help="measure the yardstick beside it")
    parser.add_argument("--out", type=Path, help="folder for metrics.json, scores.csv, report.html")


def run(options: argparse.Namespace) -> Iterator[str]:
    """What there is to print, as soon as it is known."""
    rows = read_all(options.data)
    if options.copies:
        rows["seen"] = duplicates.seen_in_training(rows)
    cascade = Cascade.load(options.weights, options.release, options.device).in_mode(options.mode)
    held = rows[rows.split == options.split]
    told = learned.tell(options.weights, held, options.split, cascade.release.training_data)
    scored = evaluate.predict(cascade, held)
    scored["recalled"] = memoriser.recall(scored, rows[rows.split == "train"])
    records = evaluate.figures(scored, cascade, options.draws)
    records += ensemble.figures(scored, cascade, options.draws)
    about = evaluate.about(cascade, rows, options.split, options.draws) | told
    about["confusion"] = evaluate.confusion(scored)
    yield evaluate.table(records)
    if options.out:
        yield from write(options.out, scored, records, about, cascade)
    if options.baseline:  # after what is there already: it may not come to its end
        from training import baseline

        count = len(records)
        records += baseline.figures(rows, options.split, options.draws)
        yield evaluate.table(records[count:])
        if options.out:
            write(options.out, scored, records, about, cascade)


def write(
    out: Path,
    scored: pd.DataFrame,
    records: list[dict[str, Any]],
    about: dict[str, Any],
    cascade: Cascade,
) -> list[str]:
    """``metrics.json``, ``scores.csv`` and ``report.html`` in the folder ``out``; returns the paths
    of the first and the last."""
    written = evaluate.write(records, out, about)
    scored.drop(columns="path").to_csv(out / "scores.csv", index=False)
    return [str(p) for p in (written, report.write(out, scored, records, about, cascade.release))]
