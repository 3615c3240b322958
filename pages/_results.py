"""All results of one page: progress, tally, downloads, summary of many, and the cards."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.cascade import Cascade
from core.settings import ImageLimits
from core.types import Finding, ImageResult
from pages import _card, _downloads, _sources
from pages._scoring import Session
from pages._sources import Source
from pages._theme import html

ROWS_SHOWN = 6
ROW = 30  # pixels
REDRAW = 0.5  # seconds between two drawings of a summary that grows
CURRENT = "#2a333a"
BAR = "#6f8192"  # not the accent: that is kept for findings
ORDERS = ("As given", "Most suspected first")
SCALED = (
    "A heatmap shows where the positive evidence lies, not the outline of a lesion. It is scaled "
    "by the probability, so that a faint one goes with a low probability."
)
GLYPHS = {
    Finding.SUSPECTED: "▲ Suspected",
    Finding.DOUBTFUL: "◇ Doubtful",
    Finding.NOT_SUSPECTED: "○ Not suspected",
}


class Results:
    """The results of the files on the page, drawn as soon as each is known."""

    def __init__(
        self, sources: Sequence[Source], cascade: Cascade, limits: ImageLimits, memory: Session
    ) -> None:
        self._sources = list(sources)
        self._cascade = cascade
        self._limits = limits
        self._memory = memory
        self._found: dict[str, ImageResult] = {}

    def show(self) -> None:
        """Score what has no score yet, and draw everything."""
        status = st.container(key="status").empty()
        if len(self._sources) <= _sources.MOST_CARDS:
            for source in self._scored(status):
                self._card(source)
        else:
            self._browse(status)
        self._finish(status)
        html(f"<p class='soft'>{SCALED}</p>")

    def _scored(self, status: DeltaGenerator) -> Iterator[Source]:
        """Each source when its result is there; progress as soon as more than one is awaited."""
        sources, total = self._sources, len(self._sources)
        awaited = self._awaited()
        for n, source in enumerate(sources):
            if awaited > 1:
                status.progress(n / total, text=f"{n} of {total} radiographs read")
            self._found[source.id] = self._memory.result(source, self._cascade, self._limits)
            yield source

    def _awaited(self) -> int:
        """How many have no result yet."""
        return sum(not self._memory.known(s, self._cascade) for s in self._sources)

    def _browse(self, status: DeltaGenerator) -> None:
        """Many: a summary, and one card at a time."""
        self._order()
        position = self._position()
        table = st.empty()
        self._pager(position)
        place = st.container()
        drawn = -math.inf if self._awaited() else math.inf
        for n, source in enumerate(self._scored(status)):
            if time.monotonic() - drawn > REDRAW:
                self._table(table, position)
                drawn = time.monotonic()
            if n == position:
                with place:
                    self._card(source)
        self._table(table, position, selectable=True)

    def _position(self) -> int:
        """Where the radiograph stands that the reader looks at; it may have moved."""
        shown = st.session_state.get("shown")
        return next((n for n, s in enumerate(self._sources) if s.id == shown), 0)

    def _go(self, position: int) -> None:
        st.session_state["shown"] = self._sources[position].id

    def _order(self) -> None:
        """By probability, if the reader wants it and every result is there."""
        if self._awaited() or st.session_state.get("order", ORDERS[0]) == ORDERS[0]:
            return

        def urgency(source: Source) -> float:
            found = self._memory.result(source, self._cascade, self._limits).fracture
            return -found.probability if found else 1.0

        self._sources.sort(key=urgency)

    def _table(self, place: DeltaGenerator, position: int, selectable: bool = False) -> None:
        rows = pd.DataFrame([self._row(s) for s in self._sources])
        shown = min(len(rows), ROWS_SHOWN)
        key = f"summary-{hash(tuple(s.id for s in self._sources))}"

        def select() -> None:
            for row, _ in st.session_state[key].selection.cells:
                self._go(row)

        chosen = {"key": key, "on_select": select, "selection_mode": "single-cell"}
        place.dataframe(
            rows.style.apply(_mark, axis=1, position=position),
            hide_index=True,
            width="stretch",
            row_height=ROW,
            height=ROW * shown + 38,
            column_config=_columns(),
            **(chosen if selectable else {}),
        )

    def _row(self, source: Source) -> dict[str, object]:
        """One line of the summary; empty where the result is not there yet."""
        row: dict[str, object] = {"File": source.name}
        result = self._found.get(source.id)
        if result is None:
            return row | {"Body part": "", "Finding": "", "Probability": math.nan, "Note": ""}
        part = self._memory.chosen.get(source.id)
        body = f"{part} (chosen)" if part else result.body_part.label if result.body_part else ""
        fracture = result.fracture
        return row | {
            "Body part": body.capitalize(),
            "Finding": GLYPHS[fracture.finding] if fracture else "– Not assessed",
            "Probability": 100 * fracture.probability if fracture else math.nan,
            "Note": result.reason or "",
        }

    def _pager(self, position: int) -> None:
        """Previous and next stay where they are, so that a pointer need not move."""
        total = len(self._sources)
        with st.container(key="pager"):
            back, ahead, where, order = st.columns([1, 1, 3, 3], vertical_alignment="center")
        back.button(
            "Previous",
            key="previous",
            on_click=self._go,
            args=(position - 1,),
            disabled=position == 0,
            shortcut="P",
            width="stretch",
        )
        ahead.button(
            "Next",
            key="next",
            on_click=self._go,
            args=(position + 1,),
            disabled=position == total - 1,
            shortcut="N",
            width="stretch",
        )
        with where:
            html(f"<p class='tally'>Radiograph <b>{position + 1}</b> of {total}</p>")
        order.segmented_control(
            "Order",
            ORDERS,
            default=ORDERS[0],
            key="order",
            required=True,
            label_visibility="collapsed",
            on_change=st.session_state.pop,
            args=("shown", None),
        )

    def _card(self, source: Source) -> None:
        result = self._found[source.id]
        view = None
        if result.body_part is not None:
            view = self._memory.view(source, self._limits)
        card = _card.Card(source, result, view, self._memory.chosen.get(source.id))
        _card.draw(card, self._cascade, self._memory)

    def _finish(self, status: DeltaGenerator) -> None:
        """Tally and downloads, in the place where the progress was."""
        records = [
            _downloads.Record(self._found[s.id], self._memory.chosen.get(s.id))
            for s in self._sources
        ]
        with status.container(horizontal=True, vertical_alignment="center"):
            html(f"<p class='tally'>{_tally(list(self._found.values()))}</p>")
            _download("CSV", _downloads.to_csv(records), "results.csv", "text/csv")
            _download(
                "JSON lines",
                _downloads.to_json_lines(records),
                "results.jsonl",
                "application/jsonl",
            )
            st.button("Clear all", key="clear", on_click=_sources.clear)


def _download(label: str, data: str, name: str, mime: str) -> None:
    st.download_button(label, data, name, mime, key=f"download-{name}", on_click="ignore")


def _columns() -> dict[str, object]:
    column = st.column_config
    return {
        "Probability": column.ProgressColumn(
            min_value=0, max_value=100, format="%.0f %%", color=BAR
        ),
        "Note": column.TextColumn(width="large"),
    }


def _mark(row: pd.Series, position: int) -> list[str]:
    """The line of the radiograph that is shown stands on a lighter ground."""
    return [f"background-color: {CURRENT}" if row.name == position else ""] * len(row)


def _tally(results: Sequence[ImageResult]) -> str:
    """How many of each finding, the most urgent first."""
    counts = Counter(r.fracture.finding if r.fracture else None for r in results)
    words = [
        f"{_card.badge(finding)}&nbsp;<b>{counts[finding]}</b>"
        for finding in (*_card.WORDS, None)
        if counts[finding]
    ]
    return f"<span class='tallies'>{''.join(f'<span>{w}</span>' for w in words)}</span>"
