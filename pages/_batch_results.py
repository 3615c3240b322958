"""The table of one batch: filter, sort, histogram, one radiograph at a time, downloads."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from core import imaging, registry
from core.batch import tables
from core.batch.kept import Batch
from core.batch.summary import thumbnail
from core.errors import ImageRejected
from core.manifest import Release
from core.notes import notes_of
from core.settings import Settings
from core.spreadsheet import as_csv
from core.types import Finding
from pages import _access, _audit, _reading, _summary, _theme
from pages._batch_opened import CHANGED, Opened
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
# Beside an open radiograph, which tells its own; on a narrow screen the name has the room.
BESIDE = tuple(replace(column, aside=column.kind == "share") for column in COLUMNS[:4])
AT_ONCE = 11  # rows: the list scrolls in itself, so that an opened radiograph stays beside it
ORDERS = ("Most suspicious first", "Least suspicious first", "As in the folder")
BAR = "#6f8192"
READ = "batches"  # in the session: the ``_Seen`` of the batch that is looked at, by its name
TOLD = "batches-told"  # in the session: those of which the audit knows that they were shown


@dataclass
class _Seen:
    """What a session has read of one batch, so that a redraw reads only what is new."""

    begun: int = 0  # ``Batch.begun``: another one has other rows
    offset: int = 0
    finished: bool = False
    records: list[dict[str, Any]] = field(default_factory=list)
    thumbnails: dict[str, str] = field(default_factory=dict)
    opened: Opened = field(default_factory=Opened)
    turned_to: tuple[str, int, int] | None = None  # open file, its page of the table, of how many
    noted: set[str] = field(default_factory=set)  # digests that it has as opened
    releases: dict[tuple[str, str], Release | None] = field(default_factory=dict)

    def scored_by(self, record: dict[str, Any], settings: Settings) -> Release | None:
        """The release that scored a file, as it was used; None where it is not here."""
        which = (record["release"], record["release_sha256"])
        if which not in self.releases:
            self.releases[which] = registry.used(settings.weights, *which)
        return self.releases[which]


@dataclass(frozen=True)
class _Filters:
    """What the reader wants to see; empty means all. folder: None for all. low, high: per cent."""

    findings: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    folder: str | None = None
    low: int = 0
    high: int = 100

    def fits(self, record: dict[str, Any]) -> bool:
        probability = _probability(record)
        percent = -1.0 if probability is None else 100 * probability
        return (
            (not self.findings or _finding(record) in self.findings)
            and (not self.parts or (record["body_part"] or {}).get("label") in self.parts)
            and (self.folder is None or _folder(record) == self.folder)
            and ((self.low, self.high) == (0, 100) or self.low <= percent <= self.high)
        )


def show(batch: Batch, settings: Settings) -> None:
    """Everything below the progress; nothing while there is no record."""
    seen = _read(batch)
    if not seen.records:
        return
    told: set[str] = st.session_state.setdefault(TOLD, set())
    if batch.folder.name not in told:
        _audit.write("result.shown", _access.actor(), batch=batch.folder.name)
        told.add(batch.folder.name)
    filters, order = _asked(seen.records, batch.running)
    chosen = _ordered([r for r in seen.records if filters.fits(r)], order)
    record = seen.opened.record(chosen)
    left, right = st.columns([2, 3] if record else [3, 1], gap="medium")
    with left:
        _table(chosen, record, batch, seen, settings)
    with right:
        if record is not None:
            seen.opened.draw(chosen, batch, settings, seen.scored_by(record, settings))
        else:
            _histogram(chosen)
            _downloads(batch, len(seen.records), len(chosen), filters)


def tally(batch: Batch, total: int) -> str:
    """How many of its files have which finding; empty where these are more than are read here."""
    records = _read(batch).records
    if not records or len(records) != total:
        return ""
    findings = [Finding(r["fracture"]["finding"]) if r["fracture"] else None for r in records]
    return f"{_summary.tally(findings)} · {total} {'file' if total == 1 else 'files'}"


def forget() -> None:
    """Give back what was read of a batch that is looked at no more."""
    st.session_state.pop(READ, None)


def _read(batch: Batch) -> _Seen:
    """Of the batch that is looked at; of another one nothing is kept, as each may be of 90 MB."""
    name, kept = batch.folder.name, st.session_state.get(READ, {})
    seen: _Seen = kept.get(name) or _Seen()
    if (begun := batch.begun) not in (0, seen.begun):
        seen = _Seen(begun)
    st.session_state[READ] = {name: seen}
    if batch.finished != seen.finished:  # the journal has become the table: read that
        seen.offset, seen.finished, seen.records = 0, batch.finished, []
    for offset, record in batch.records(seen.offset):
        if len(seen.records) >= MOST_ROWS:
            break
        seen.offset = offset
        seen.records.append(record)
    return seen


def _asked(records: Sequence[dict[str, Any]], running: bool) -> tuple[_Filters, str]:
    """Widgets for finding, part, folder, probability and order.

    running: in the order of the folder, as each that comes would move the others, and go before
    what was read already.
    """
    parts = sorted({r["body_part"]["label"] for r in records if r["body_part"]})
    folders = sorted({_folder(r) for r in records})
    one, two, three, four, five = st.columns([3, 2, 2.5, 2.5, 3], vertical_alignment="bottom")
    names = [*(f.value for f in reversed(Finding)), "rejected"]
    findings = one.multiselect(
        "Finding",
        names,
        format_func=lambda f: "Not assessed" if f == "rejected" else _reading.WORDS[Finding(f)],
        key="batch-finding",
    )
    wanted = two.multiselect("Body part", parts, format_func=str.capitalize, key="batch-part")
    # No option is "All": a folder may be called that.
    folder = three.selectbox("Folder", folders, None, placeholder="All", key="batch-source")
    low, high = four.slider("Probability", 0, 100, (0, 100), format="%d %%", key="batch-range")
    if running:
        order = five.selectbox("Order", ORDERS[-1:], key="batch-order-running", disabled=True)
    else:
        order = five.selectbox("Order", ORDERS, key="batch-order")
    return _Filters(tuple(findings), tuple(wanted), folder, low, high), order


def _ordered(records: list[dict[str, Any]], order: str) -> list[dict[str, Any]]:
    if order == ORDERS[-1]:
        return records
    sign = 1 if order == ORDERS[0] else -1

    def urgency(record: dict[str, Any]) -> tuple[bool, int, float]:
        probability, said = _probability(record), record["fracture"]
        rank = _reading.rank(Finding(said["finding"]) if said else None)
        return probability is None, sign * rank, -sign * (probability or 0.0)

    return sorted(records, key=urgency)


def _folder(record: dict[str, Any]) -> str:
    return str(PurePath(record["file"]).parent)


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
        title={"text": f"n = {len(values)}", "font": {"size": 13}},
        xaxis={
            "range": [0, 100],
            "tickvals": [0, 50, 100],
            "ticktext": ["0 %", "50 %", "100 %"],
            "title": "Probability of the finding",
        },
        yaxis={"title": "Radiographs", "tickformat": "d", "rangemode": "tozero", "nticks": 4},
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
        more = "" if len(seen.records) < MOST_ROWS else f" Only the first {MOST_ROWS} are shown."
        hint = " Open a row to see its radiograph." if records else ""
        _theme.html(f"<p class='soft'>{len(records)} of {len(seen.records)} rows.{more}{hint}</p>")
    shown = records[(page - 1) * A_PAGE : page * A_PAGE]
    if not shown:
        return
    _note(shown, batch, seen)

    def opened(file: str) -> None:
        seen.opened.file = file

    columns = COLUMNS if record is None else BESIDE
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
        facts = _audit.numbered(new)
        _audit.write("image.opened", _access.actor(), batch=batch.folder.name, **facts)
        seen.noted.update(new)


def _row(
    record: dict[str, Any], batch: Batch, seen: _Seen, settings: Settings, columns: int
) -> Row:
    fracture, probability = record["fracture"], _probability(record)
    notes = notes_of(tables.result_of(record), seen.scored_by(record, settings))
    note = " ".join(filter(None, (record["reason"], *notes)))
    cells = (
        _thumbnail(record, batch, seen, settings),
        finding(Finding(fracture["finding"]) if fracture else None),
        None if probability is None else 100 * probability,
        batch.short(record["file"]),
        record["body_part"]["label"].capitalize() if record["body_part"] else "",
        note,
    )
    return Row(record["file"], cells[:columns], below=note)


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
            small = thumbnail(data, record, SIDE, settings.limits)
            url = "data:image/jpeg;base64," + base64.b64encode(small).decode()
        except ImageRejected:
            url, key = "", record["file"]  # another file with the same bytes may still be there
        seen.thumbnails[key] = url
        while len(seen.thumbnails) > 40 * A_PAGE:
            del seen.thumbnails[next(iter(seen.thumbnails))]
    return seen.thumbnails[key]


def _downloads(batch: Batch, read: int, chosen: int, filters: _Filters) -> None:
    """What the filters leave of all that the batch has, in its order, and how much that is.

    read, chosen: of how many rows the table knows, and how many the filters leave of these.
    """
    # While its process ends the page is about to be drawn anew, and a click would be lost.
    if not batch.finished or batch.running:
        _theme.html("<p class='soft'>Downloads are available when the batch is finished.</p>")
        return

    actor = _access.actor()  # the download has no session to ask
    filtered = filters != _Filters()
    total = max(read, batch.progress().total)
    if not filtered:
        which = f"all {total}"
    else:  # beyond what the table has read nothing is counted yet
        which = f"{chosen} of {total}" if read == total else "the filtered rows"

    def given(kind: str) -> Iterator[dict[str, Any]]:
        facts: dict[str, Any] = {"filtered": True} if filtered else {}
        _audit.write("export.made", actor, kind=kind, batch=batch.folder.name, **facts)
        return (r for _, r in batch.records() if filters.fits(r))

    def csv() -> bytes:
        return as_csv(map(tables.image_row, given("csv")), tables.IMAGE_COLUMNS).encode()

    def lines() -> bytes:
        found = given("json lines")
        return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in found).encode()

    for label, data, name, mime in (
        ("CSV", csv, "results.csv", "text/csv"),
        ("JSON lines", lines, "results.jsonl", "application/jsonl"),
    ):
        st.download_button(
            f"{label} of {which}",
            data,
            name,
            mime,
            key=f"{name}-{batch.folder.name}",
            on_click="ignore",
            width="stretch",
        )
