"""All results of one page: progress, tally, downloads, the list of studies, and one study."""

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
from core.study import combine, group
from core.types import Finding, ImageResult
from pages import _downloads, _reading, _sources
from pages._correct import Study
from pages._scoring import Session
from pages._sources import Source
from pages._study import StudyCard
from pages._theme import html, style

ROWS_SHOWN = 4
ROW = 30  # pixels
ONE_ABOVE, MANY_ABOVE = 345, 470  # pixels that are not the picture's, with one study and a list
REDRAW = 0.5  # seconds between two drawings of a list that grows
CURRENT = "#2a333a"
BAR = "#6f8192"  # not the accent: that is kept for findings
ORDERS = ("As given", "Most suspected first")
TOGETHER = "study-of-all"


class Results:
    """The results of the files on the page, study by study."""

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
        listing = st.empty()
        self._score(status, listing)
        studies = self._studies()
        self._finish(status, studies)
        position = 0
        above = ONE_ABOVE
        if len(studies) > 1:
            above = MANY_ABOVE + ROW * min(len(studies), ROWS_SHOWN)
            studies = self._ordered(studies)
            position = self._position(studies)
            self._table(listing, studies, position, selectable=True)
            self._pager(position, studies)
        style(f".st-key-picture {{ --above: {above}px; }}")
        others = {
            self._memory.study_of(study.sources[0]): f"{n + 1}: {_name(study)}"
            for n, study in enumerate(studies)
            if n != position
        }
        StudyCard(studies[position], self._cascade, self._memory, self._limits, others).draw()

    def _score(self, status: DeltaGenerator, listing: DeltaGenerator) -> None:
        """Every file; while many are awaited, the list grows."""
        drawn = time.monotonic()
        for _ in self._scored(status):
            if time.monotonic() - drawn > REDRAW and len(self._sources) > 1:
                self._table(listing, self._studies(), -1)
                drawn = time.monotonic()

    def _studies(self) -> list[Study]:
        """What is scored by now, grouped."""
        known = [s for s in self._sources if s.id in self._found]
        keys = [self._memory.study_of(s) for s in known]
        return [
            Study(
                tuple(known[n] for n in views),
                combine(
                    keys[views[0]], [self._found[known[n].id] for n in views], self._cascade.release
                ),
            )
            for views in group(keys)
        ]

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

    def _position(self, studies: Sequence[Study]) -> int:
        """Where the study stands that the reader looks at; it may have moved."""
        shown = st.session_state.get("shown")
        ids = [{s.id for s in study.sources} for study in studies]
        position = next((n for n, views in enumerate(ids) if shown in views), 0)
        beyond = position + st.session_state.pop("beyond", 0)
        if 0 <= beyond < len(studies):
            position = beyond
        self._go(studies[position])
        return position

    def _go(self, study: Study) -> None:
        st.session_state["shown"] = study.key

    def _ordered(self, studies: list[Study]) -> list[Study]:
        """By probability, if the reader wants it."""
        if st.session_state.get("order", ORDERS[0]) == ORDERS[0]:
            return studies

        def urgency(study: Study) -> float:
            found = study.result.probability
            return 1.0 if found is None else -found

        return sorted(studies, key=urgency)

    def _table(
        self,
        place: DeltaGenerator,
        studies: Sequence[Study],
        position: int,
        selectable: bool = False,
    ) -> None:
        rows = pd.DataFrame([_row(study) for study in studies])
        shown = min(len(rows), ROWS_SHOWN)
        key = f"summary-{hash(tuple(study.key for study in studies))}"

        def select() -> None:
            for row, _ in st.session_state[key].selection.cells:
                self._go(studies[row])

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

    def _pager(self, position: int, studies: Sequence[Study]) -> None:
        """Previous and next stay where they are, so that a pointer need not move."""
        total = len(studies)
        with st.container(key="pager"):
            back, ahead, where, order = st.columns([1, 1, 3, 3], vertical_alignment="center")
        for place, label, step, key in ((back, "Previous", -1, "P"), (ahead, "Next", 1, "N")):
            there = position + step
            place.button(
                label,
                key=label.lower(),
                on_click=self._go,
                args=(studies[there % total],),
                disabled=not 0 <= there < total,
                shortcut=key,
                width="stretch",
            )
        with where:
            html(f"<p class='tally'>Study <b>{position + 1}</b> of {total}</p>")
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

    def _finish(self, status: DeltaGenerator, studies: Sequence[Study]) -> None:
        """Tally, grouping and downloads, in the place where the progress was."""
        records = [
            _downloads.Record(self._found[s.id], self._memory.chosen.get(s.id))
            for s in self._sources
        ]
        with status.container(horizontal=True, vertical_alignment="center"):
            html(f"<p class='tally'>{_tally([s.result.finding for s in studies])}</p>")
            self._grouping(studies)
            _download("CSV", _downloads.to_csv(records), "results.csv", "text/csv")
            _download(
                "JSON lines",
                _downloads.to_json_lines(records),
                "results.jsonl",
                "application/jsonl",
            )
            st.button("Clear all", key="clear", on_click=_sources.clear)

    def _grouping(self, studies: Sequence[Study]) -> None:
        """All views into one study, and back."""
        moved = self._memory.moved
        if len(studies) > 1:
            everything = dict.fromkeys((s.id for s in self._sources), TOGETHER)
            st.button("All in one study", key="together", on_click=moved.update, args=(everything,))
        if moved:
            st.button("Group as given", key="apart", on_click=moved.clear)


def _download(label: str, data: str, name: str, mime: str) -> None:
    st.download_button(label, data, name, mime, key=f"download-{name}", on_click="ignore")


def _columns() -> dict[str, object]:
    column = st.column_config
    return {
        "Views": column.NumberColumn(width="small"),
        "Probability": column.ProgressColumn(
            min_value=0, max_value=100, format="%.0f %%", color=BAR
        ),
        "Note": column.TextColumn(width="large"),
    }


def _mark(row: pd.Series, position: int) -> list[str]:
    """The line of the study that is shown stands on a lighter ground."""
    return [f"background-color: {CURRENT}" if row.name == position else ""] * len(row)


def _name(study: Study) -> str:
    """A study of one view is called as its file, another by its folder or first file."""
    if len(study.sources) == 1:
        return study.sources[0].name
    folder, _, _ = study.sources[0].name.rpartition("/")
    return folder or f"{study.sources[0].name} …"


def _row(study: Study) -> dict[str, object]:
    """One line of the list."""
    result = study.result
    part = result.body_part.capitalize() if result.body_part else ""
    chosen = any(view.chosen for view in result.counted)
    word = _reading.WORDS[result.finding] if result.finding else "Not assessed"
    refused = next((v.reason for v in result.views if v.reason), "")
    return {
        "Study": _name(study),
        "Views": len(study.sources),
        "Body part": f"{part} (chosen)" if chosen else part,
        "Finding": f"{_reading.GLYPHS[result.finding]} {word}",
        "Probability": math.nan if result.probability is None else 100 * result.probability,
        "Note": refused if len(study.sources) == 1 else " ".join(result.notes),
    }


def _tally(findings: Sequence[Finding | None]) -> str:
    """How many studies of each finding, the most urgent first."""
    counts = Counter(findings)
    words = [
        f"{_reading.badge(finding)}&nbsp;<b>{counts[finding]}</b>"
        for finding in (*_reading.WORDS, None)
        if counts[finding]
    ]
    return f"<span class='tallies'>{''.join(f'<span>{w}</span>' for w in words)}</span>"
