"""The table of one batch: filter, sort, histogram, one radiograph at a time, downloads."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from core import imaging
from core.batch import tables
from core.batch.summary import WORDS, thumbnail
from core.errors import ImageRejected
from core.settings import Settings
from core.study import notes_of
from core.types import Finding
from pages import _access, _audit, _reading, _theme
from pages._batch_opened import CHANGED, Opened
from pages._batches import Batch
from pages._downloads import as_csv
from pages._rows import Column, Row, finding, rows

MOST_ROWS = 20_000  # on the page; the download has all
A_PAGE = 25
SIDE = 96
COLUMNS = (
    Column("Picture", "picture", 5.5),
    Column("Finding", "finding", 9.5),
    Column("Probability", "share", 9),
    Column("File"),
    Column("Body part", width=6),
    Column("Note", aside=True),
)
BESIDE = 4  # of them stand beside an open radiograph
AT_ONCE = 11  # rows: the list scrolls in itself, so that an opened radiograph stays beside it
ORDERS = ("As in the folder", "Most suspected first", "Least suspected first")
BAR = "#6f8192"


@dataclass
class _Seen:
    """What a session has read of one batch, so that a redraw reads only what is new."""

    offset: int = 0
    finished: bool = False
    records: list[dict[str, Any]] = field(default_factory=list)
    thumbnails: dict[str, str] = field(default_factory=dict)
    opened: Opened = field(default_factory=Opened)
    turned_to: tuple[str, int, int] | None = None  # open file, its page of the table, of how many
    told: bool = False  # the audit, that the results were shown
    noted: set[str] = field(default_factory=set)  # digests that it has as opened


def show(batch: Batch, settings: Settings) -> None:
    """Everything below the progress; nothing while there is no record."""
    seen = _read(batch)
    if not seen.records:
        return
    if not seen.told:
        _audit.write("result.shown", _access.actor(), batch=batch.folder.name)
        seen.told = True
    chosen = _filtered(seen.records)
    record = seen.opened.record(chosen)
    left, right = st.columns([5, 6] if record else [3, 1], gap="medium")
    with left:
        _table(chosen, record, batch, seen, settings)
    with right:
        if record is not None:
            seen.opened.draw(chosen, batch, settings)
        else:
            _histogram(chosen)
            _downloads(batch, seen)


def _read(batch: Batch) -> _Seen:
    kept: dict[str, _Seen] = st.session_state.setdefault("batches", {})
    seen = kept.setdefault(batch.folder.name, _Seen())
    if batch.finished != seen.finished:  # the journal has become the table: read that
        seen.offset, seen.finished, seen.records = 0, batch.finished, []
    for offset, record in batch.records(seen.offset):
        if len(seen.records) >= MOST_ROWS:
            break
        seen.offset = offset
        seen.records.append(record)
    return seen


def _filtered(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Widgets for finding, part, folder, probability and order; the records that are left."""
    parts = sorted({r["body_part"]["label"] for r in records if r["body_part"]})
    folders = sorted({str(PurePath(r["file"]).parent) for r in records})
    one, two, three, four, five = st.columns([3, 2, 2.5, 2.5, 3], vertical_alignment="bottom")
    names = [*WORDS, "rejected"]
    findings = one.multiselect(
        "Finding", names, format_func=lambda f: WORDS.get(f, "Not assessed"), key="batch-finding"
    )
    wanted = two.multiselect("Body part", parts, format_func=str.capitalize, key="batch-part")
    folder = three.selectbox("Folder", ["All", *folders], key="batch-source")
    low, high = four.slider("Probability", 0, 100, (0, 100), format="%d %%", key="batch-range")
    order = five.selectbox("Order", ORDERS, key="batch-order")

    def fits(record: dict[str, Any]) -> bool:
        probability = _probability(record)
        percent = -1.0 if probability is None else 100 * probability
        return (
            (not findings or _finding(record) in findings)
            and (not wanted or (record["body_part"] or {}).get("label") in wanted)
            and (folder == "All" or str(PurePath(record["file"]).parent) == folder)
            and ((low, high) == (0, 100) or low <= percent <= high)
        )

    found = [r for r in records if fits(r)]
    if order != ORDERS[0]:
        sign = 1 if order == ORDERS[1] else -1

        def urgency(record: dict[str, Any]) -> tuple[bool, int, float]:
            probability, said = _probability(record), record["fracture"]
            rank = _reading.rank(Finding(said["finding"]) if said else None)
            return probability is None, sign * rank, -sign * (probability or 0.0)

        found.sort(key=urgency)
    return found


def _finding(record: dict[str, Any]) -> str:
    return record["fracture"]["finding"] if record["fracture"] else "rejected"


def _probability(record: dict[str, Any]) -> float | None:
    return record["fracture"]["probability"] if record["fracture"] else None


def _histogram(records: Sequence[dict[str, Any]]) -> None:
    values = [100 * p for r in records if (p := _probability(r)) is not None]
    figure = go.Figure(
        go.Histogram(x=values, xbins={"start": 0, "end": 100, "size": 5}, marker_color=BAR)
    )
    figure.update_layout(
        height=210,
        margin={"l": 10, "r": 30, "t": 24, "b": 10},  # or the 100 % is past the edge, and left out
        title={"text": f"Probability, n = {len(values)}", "font": {"size": 13}},
        xaxis={"range": [0, 100], "tickvals": [0, 50, 100], "ticksuffix": " %"},
        bargap=0.05,
    )
    st.plotly_chart(figure, key="batch-histogram", config={"displayModeBar": False})


def _table(
    records: list[dict[str, Any]],
    record: dict[str, Any] | None,
    batch: Batch,
    seen: _Seen,
    settings: Settings,
) -> None:
    """One page of the table; the row that is chosen is opened beside it.

    record: the one that is open; None where none is, or the filters hide it.
    """
    pages = max(1, -(-len(records) // A_PAGE))
    top = st.container(horizontal=True, vertical_alignment="center")
    page = 1
    if pages > 1:
        _turn(records, record, pages, seen)
        page = int(top.number_input("Page", 1, pages, key="batch-page", width=140))
    with top:
        more = "" if len(seen.records) < MOST_ROWS else f" The first {MOST_ROWS} are shown here."
        hint = " A row opens its radiograph." if records else ""
        _theme.html(f"<p class='soft'>{len(records)} of {len(seen.records)} rows.{more}{hint}</p>")
    shown = records[(page - 1) * A_PAGE : page * A_PAGE]
    if not shown:
        return
    _note(shown, batch, seen)

    def opened(file: str) -> None:
        seen.opened.file = file

    columns = COLUMNS if record is None else COLUMNS[:BESIDE]
    rows(
        columns,
        [_row(r, batch, seen, settings, len(columns)) for r in shown],
        key=f"batch-table-{batch.folder.name}",
        label="Radiographs of the batch",
        opens="File",
        on_open=opened,
        current=record["file"] if record is not None else "",
        most=AT_ONCE,
    )


def _turn(
    records: list[dict[str, Any]], record: dict[str, Any] | None, pages: int, seen: _Seen
) -> None:
    """To the page of the open row where it came to lie on another one; else it is the reader's."""
    if record is None:
        seen.turned_to = None
        return
    there = (record["file"], records.index(record) // A_PAGE + 1, pages)
    if there != seen.turned_to:
        seen.turned_to, st.session_state["batch-page"] = there, there[1]


def _note(shown: Sequence[dict[str, Any]], batch: Batch, seen: _Seen) -> None:
    """Into the audit before their small pictures are made: one line for all that are new."""
    digests = dict.fromkeys(r["sha256"] for r in shown if r["sha256"])
    new = [digest for digest in digests if digest not in seen.noted]
    if new:
        facts = {f"sha256_{n}": digest for n, digest in enumerate(new, 1)}
        _audit.write("image.opened", _access.actor(), batch=batch.folder.name, **facts)
        seen.noted.update(new)


def _row(
    record: dict[str, Any], batch: Batch, seen: _Seen, settings: Settings, columns: int
) -> Row:
    fracture, probability = record["fracture"], _probability(record)
    cells = (
        _thumbnail(record, batch, seen, settings),
        finding(Finding(fracture["finding"]) if fracture else None),
        None if probability is None else 100 * probability,
        batch.short(record["file"]),
        record["body_part"]["label"].capitalize() if record["body_part"] else "",
        " ".join(filter(None, (record["reason"], *notes_of(tables.result_of(record))))),
    )
    return Row(record["file"], cells[:columns])


def _thumbnail(record: dict[str, Any], batch: Batch, seen: _Seen, settings: Settings) -> str:
    """A data URL, made once a session; empty for what could not be read."""
    key = record["sha256"]
    if key is None:
        return ""
    if record["file"] in seen.thumbnails:  # that one has gone or changed
        return ""
    if key not in seen.thumbnails:
        try:
            data = batch.bytes_of(record["file"], settings)
            if imaging.sha256(data) != key:
                raise ImageRejected(CHANGED)
            pixels = imaging.decode(data, record["file"], settings.limits).pixels
            url = "data:image/jpeg;base64," + base64.b64encode(thumbnail(pixels, SIDE)).decode()
        except ImageRejected:
            url, key = "", record["file"]  # another file with the same bytes may still be there
        seen.thumbnails[key] = url
        while len(seen.thumbnails) > 40 * A_PAGE:
            del seen.thumbnails[next(iter(seen.thumbnails))]
    return seen.thumbnails[key]


def _downloads(batch: Batch, seen: _Seen) -> None:
    # While its process ends the page is about to be drawn anew, and a click would be lost.
    if not batch.finished or batch.running:
        _theme.html("<p class='soft'>The downloads are here when the batch is finished.</p>")
        return

    actor = _access.actor()  # the download has no session to ask

    def csv() -> bytes:
        _audit.write("export.made", actor, kind="csv", batch=batch.folder.name)
        found = (tables.image_row(r) for _, r in batch.records())
        return as_csv(found, tables.IMAGE_COLUMNS).encode()

    def lines() -> bytes:
        _audit.write("export.made", actor, kind="json lines", batch=batch.folder.name)
        return "".join(
            json.dumps(r, ensure_ascii=False) + "\n" for _, r in batch.records()
        ).encode()

    st.download_button("CSV", csv, "results.csv", "text/csv", on_click="ignore", width="stretch")
    st.download_button(
        "JSON lines",
        lines,
        "results.jsonl",
        "application/jsonl",
        on_click="ignore",
        width="stretch",
    )
