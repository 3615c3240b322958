"""Tables that somebody opens in a spreadsheet, which runs what begins like a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def harmless(value: Any) -> Any:
    """A cell that no spreadsheet runs: text that begins like a formula gets an apostrophe."""
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return "'" + value
    return value


def write_csv(file: TextIO, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """A line for each row into an open file, every cell ``harmless``; one that is missing is empty.

    file: opened with ``newline=""``.
    """
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    writer.writerows({k: harmless(v) for k, v in row.items()} for row in rows)


def as_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """What ``write_csv`` writes."""
    out = io.StringIO(newline="")
    write_csv(out, rows, columns)
    return out.getvalue()
