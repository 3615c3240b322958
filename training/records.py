"""Figures as records: made, printed, written."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from core import files
from core.cascade import Cascade
from training import metrics
from training.data import split_hash

Figure: TypeAlias = dict[str, Any]
"""stage, part, source, level (image or study), metric, value, low, high (NaN without an interval),
n, and where labels are counted positives."""


def record(
    stage: str, part: str, source: str, metric: str, e: metrics.Estimate, level: str = "image"
) -> Figure:
    """One figure: what was measured on whom, and the estimate."""
    where = {"stage": stage, "part": part, "source": source, "level": level}
    return {**where, "metric": metric, **asdict(e)}


def table(records: list[Figure]) -> str:
    """The figures as text, one a line."""
    wide = max([28, *(1 + len(r["source"]) for r in records)])
    head = f"{'stage':<12}{'part':<27}{'source':<{wide}}{'level':<7}{'figure':<32}"
    lines = [head + "value [95 % interval] (n)"]
    for r in records:
        e = metrics.Estimate(r["value"], r["low"], r["high"], r["n"])
        where = f"{r['stage']:<12}{r['part']:<27}{r['source']:<{wide}}{r['level']:<7}"
        lines.append(f"{where}{r['metric']:<32}{e}{positives(r)}")
    return "\n".join(lines)


def positives(r: Figure) -> str:
    """What stands behind the n of a record: how many are positive, where that is known."""
    return f", {r['positives']} positive" if r.get("positives") is not None else ""


def about(cascade: Cascade, rows: pd.DataFrame, split: str, draws: int) -> dict[str, Any]:
    """What was measured, on what, with what; rows: the whole data, all splits."""
    return {
        "release": cascade.release.id,
        "release_sha256": cascade.release.sha256,
        "mode": cascade.release.mode,
        "split": split,
        "split_sha256": split_hash(rows),
        "device": cascade.device.description,
        "draws": draws,
    }


def write(
    records: list[Figure], folder: Path, about: dict[str, Any], name: str = "metrics.json"
) -> Path:
    """``metrics.json``: about (release, data, split, …, confusion) and figures; NaN as null."""
    table = pd.DataFrame(records)
    if "positives" in table:  # of some; beside those that have none they would become fractions
        table["positives"] = table.positives.astype("Int64")
    clean = json.loads(table.to_json(orient="records"))
    for r in clean:
        if r.get("positives", 0) is None:
            del r["positives"]
    path = folder / name
    files.write_json(path, {**about, "figures": clean})
    return path
