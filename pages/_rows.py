"""A list of studies or files from which one is opened, by mouse or by key.

A table of ``st.dataframe`` opens what has the focus, so that nobody passes it with the Tab key, and
what is drawn on its canvas cannot be read aloud. This one is HTML, in ``pages/rows/``: Tab stops at
it once, arrows go from row to row, Enter opens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from core.types import Finding
from pages import _reading

FOLDER = Path(__file__).with_name("rows")
VIEWER = Path(__file__).with_name("viewer")
ROW, TALL = 32, 56  # pixels, as pages/rows/rows.css draws them
HEAD, BORDER = 34, 1


@dataclass(frozen=True)
class Column:
    """A column. kind: what its cells are; see ``Row``. width: in rem; 0 shares what is left.
    aside: left out on a narrow screen."""

    name: str
    kind: Literal["text", "number", "share", "finding", "picture"] = "text"
    width: float = 0
    aside: bool = False


@dataclass(frozen=True)
class Row:
    """A line, with a cell for each column: text and number as they are, a share in per cent or
    None, a finding as ``finding`` makes it, a picture as a data URL or "".

    below: a second line for the cell that opens the row, where no text column that is ``aside`` is
    seen.
    """

    id: str
    cells: tuple[Any, ...]
    below: str = ""


def finding(value: Finding | None, word: str = "Not assessed") -> dict[str, str]:
    """The cell of a finding. word: what stands where there is none."""
    if value is None:
        return {"state": "none", "word": word}
    return {"state": value.value, "word": _reading.WORDS[value]}


def rows(
    columns: Sequence[Column],
    lines: Sequence[Row],
    *,
    key: str,
    label: str,
    opens: str = "",
    on_open: Callable[[str], None] | None = None,
    current: str = "",
    most: int,
) -> None:
    """Draw the list; on_open gets the id of the row that is opened, before the page runs again.

    label: what the list is, for those who do not see it. opens: the column, of kind text, whose
    cell is the row's button; "" with on_open None. current: the id of a row that stands out, and at
    which Tab stops first. most: so many rows are seen at once, see ``height_of``. The height is
    known before the browser draws the list, so that nothing below it moves when it does.
    """
    tall = any(column.kind == "picture" for column in columns)
    known = {line.id for line in lines}

    def tell() -> None:
        asked = st.session_state[key].get("open")
        if on_open is not None and asked in known:  # a browser can send anything
            on_open(asked)

    message = {
        "columns": [vars(c) for c in columns],
        "rows": [vars(line) for line in lines],
        "label": label,
        "opens": opens if on_open else "",
        "current": current,
        "tall": tall,
        "height": (height := height_of(len(lines), most, tall)),
    }
    _component()(key=key, data=message, on_open_change=tell, height=height)


def height_of(lines: int, most: int, tall: bool = False) -> int:
    """Pixels of a list; where it has more than ``most`` lines the next one is seen by half, which
    says that there are more."""
    seen = lines if lines <= most else most + 0.5
    return HEAD + round((TALL if tall else ROW) * seen) + 2 * BORDER


@functools.cache
def _component() -> Any:
    html, css, js = (
        (FOLDER / f"rows.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    js = (VIEWER / "calls.js").read_text(encoding="utf-8") + js
    return st.components.v2.component("rows", html=html, css=css, js=js)
