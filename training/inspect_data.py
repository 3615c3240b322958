"""``python -m training data``: what is in the data sets, before anybody trains on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.data import gather, split_hash, studies
from training.duplicates import Copies, Prints, look
from training.sources import SPLITS


def run(data: Sequence[str], out: Path | None = None) -> str:
    """The report as text; leaks are told, not refused. Raises DataInvalid for what is no data.

    data: as ``gather`` takes it. out: a CSV file for every row."""
    rows = gather(data)
    prints = look(rows.path.tolist())
    copies = Copies.find(rows, prints)
    if out:
        listed = rows.assign(unreadable=prints.reason, radiograph=copies.radiograph)
        out.parent.mkdir(parents=True, exist_ok=True)
        listed.assign(left_out=copies.left_out(rows)).to_csv(out, index=False)
    report = [_summary(rows, prints), _labels(rows)]
    return "\n\n".join([*report, _unreadable(rows, prints), _copies(rows, copies)])


def _summary(rows: pd.DataFrame, prints: Prints) -> str:
    """Pictures by source and split, patients, studies, unreadable files."""
    by_source = rows.groupby("source")
    table = pd.crosstab(rows.source, rows.split).reindex(columns=list(SPLITS), fill_value=0)
    table["all"] = table.sum(axis=1)
    table["patients"] = by_source.patient.nunique()
    table["studies"] = studies(rows)
    table["unreadable"] = rows.source[prints.reason != ""].value_counts()
    table["unreadable"] = table.unreadable.fillna(0).astype(int)
    crossing = int((rows.groupby("patient").split.nunique() > 1).sum())
    lines = [
        f"{len(rows)} pictures of {rows.patient.nunique()} patients",
        f"split SHA-256 {split_hash(rows)}",
        f"patients in more than one split: {crossing}{' (training refuses)' if crossing else ''}",
    ]
    return "\n".join([*lines, "", table.to_string()])


def _labels(rows: pd.DataFrame) -> str:
    """Pictures by part, source, meaning of the label, label and split."""
    words = rows.positive.map({1.0: "positive", 0.0: "negative"}).fillna("no label")
    means = rows.positive_means.where(rows.positive.notna()).fillna("")
    keys = [rows.part, rows.source, means.rename("label means"), words.rename("label")]
    table = pd.crosstab(keys, rows.split).reindex(columns=list(SPLITS), fill_value=0)
    return str(table.to_string())


def _unreadable(rows: pd.DataFrame, prints: Prints) -> str:
    """How many files cannot be read, why, and the first of each kind."""
    bad = rows.assign(reason=prints.reason)[prints.reason != ""]
    lines = [f"unreadable: {len(bad)}"]
    for reason, some in bad.groupby("reason"):
        lines.append(f"  {len(some)} x {reason} ({some.path.iloc[0]})")
    return "\n".join(lines)


def _copies(rows: pd.DataFrame, copies: Copies) -> str:
    """Radiographs that are there more than once: equal files, and all."""
    left_out = rows[copies.left_out(rows)].split.value_counts().reindex(SPLITS, fill_value=0)
    table = pd.DataFrame(
        {
            "same file": _count(rows, copies.exact),
            "same radiograph": _count(rows, copies.radiograph),
        }
    )
    title = "radiographs that are there more than once (near copies are counted on the right)"
    counts = ", ".join(f"{n} of {split}" for split, n in left_out.items())
    note = f"left out of training by default, so that none crosses: {counts}"
    return f"{title}\n{table.to_string()}\n{note}"


def _count(rows: pd.DataFrame, number: NDArray[np.int32]) -> dict[str, int]:
    of = rows.groupby(number)
    several = of.size() > 1

    def differ(column: str) -> int:
        return int((of[column].nunique() > 1).sum())

    return {
        "radiographs": int(several.sum()),
        "pictures": int(of.size()[several].sum()),
        "under several patients": differ("patient"),
        "in several sources": differ("source"),
        "with different labels": differ("positive"),
        "with different parts": differ("part"),
        "in several splits": differ("split"),
    }
