"""All results of one page: progress, tally, downloads, the list of studies, and one study."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import streamlit as st

from core.cascade import Cascade
from core.settings import ImageLimits
from core.study import StudyResult, combine, group
from core.types import Finding, ImageResult
from pages import _access, _audit, _downloads, _reading, _sources, _theme
from pages._correct import Study
from pages._rows import ROW, Column, Row, finding, rows
from pages._scoring import Session
from pages._sources import Source
from pages._study import StudyCard
from pages._theme import html, style

ROWS_SHOWN = 4
ONE_ABOVE, MANY_ABOVE = 345, 470  # pixels that are not the picture's, with one study and a list
STRIP = 40  # and where a study has several views
AT_ONCE = 0.5  # seconds of scoring, before the page listens to the reader again
POLL = 0.6
NOT_YET = "Not read yet."
SEVERAL = "Please check the views: by their Patient ID they are of {} patients."
COLUMNS = (
    Column("Study"),
    Column("Views", "number", 4),
    Column("Body part", width=9),
    Column("Finding", "finding", 9),
    Column("Probability", "share", 10),
    Column("Note"),
)
ORDERS = ("As given", "Most suspected first")
TOGETHER = "study-of-all"


class Results:
    """The results of the files on the page, study by study."""

    def __init__(
        self, sources: Sequence[Source], cascade: Cascade, limits: ImageLimits, memory: Session
    ) -> None:
        memory.came(sources)
        self._sources = memory.once(sources)
        self._cascade = cascade
        self._limits = limits
        self._memory = memory
        self._found: dict[str, ImageResult] = {}
        self._drawn = False

    def show(self) -> None:
        """The study that is looked at as soon as one view of it is scored, then all the others."""
        self._memory.forget_parts(self._cascade.release)
        for source in self._sources:
            self._memory.peek(source, self._limits)
            if self._memory.known(source, self._cascade):
                self._score(source)
        studies = self._ordered(self._studies())
        position = self._position(studies)
        if studies[position].awaited == len(studies[position].sources):
            self._score(studies[position].sources[0])
            studies = self._ordered(self._studies())
            position = self._position(studies)
        awaited = self._awaited()
        if awaited:
            st.fragment(self._reading, run_every=POLL)(studies[position].key)
        else:
            with st.container():
                self._read(studies, position)
        above = ONE_ABOVE + (STRIP if len(studies[position].sources) > 1 else 0)
        if len(studies) > 1:
            above += MANY_ABOVE - ONE_ABOVE + ROW * min(len(studies), ROWS_SHOWN)
            self._pager(position, studies)
        style(f".st-key-picture {{ --above: {above}px; }}")
        others = {
            self._memory.study_of(study.sources[0]): f"{n + 1}: {study.name}"
            for n, study in enumerate(studies)
            if n != position
        }
        StudyCard(studies[position], self._cascade, self._memory, self._limits, others).draw()
        if awaited:
            self._score_some(studies[position])
            if not self._awaited():
                st.rerun()

    def _reading(self, key: str) -> None:
        """A fragment: progress and list while files are awaited; some are scored each time.

        So a click waits no longer than ``AT_ONCE``. All of the page is drawn again when there is
        something new in the study that is looked at, and at the end.
        """
        with _theme.boundary():
            studies = self._ordered(self._studies())
            shown = next(s for s in studies if s.key == key)
            if self._drawn:
                self._score_some(shown)
                studies = self._ordered(self._studies())
                now = next(s for s in studies if s.key == key)
                if now.awaited != shown.awaited or not self._awaited():
                    st.rerun()
            self._drawn = True
            done, total = len(self._found), len(self._sources)
            with st.container(key="status"):
                st.progress(done / total, text=f"{done} of {total} radiographs read")
            if len(studies) > 1:
                self._table(studies, key)

    def _read(self, studies: list[Study], position: int) -> None:
        """What stands in the place of ``_reading`` when all is scored."""
        with st.container(key="status"):
            self._finish(studies)
        if len(studies) > 1:
            self._table(studies, studies[position].key, selectable=True)

    def _studies(self) -> list[Study]:
        """All files in their studies, with what is scored by now."""
        keys = [self._memory.study_of(s) for s in self._sources]
        return [self._study(keys[views[0]], views) for views in group(keys)]

    def _study(self, key: str, positions: Sequence[int]) -> Study:
        sources = tuple(self._sources[n] for n in positions)
        release = self._cascade.release
        known = [self._found[s.id] for s in sources if s.id in self._found]
        views = tuple(
            self._found.get(s.id)
            or ImageResult(s.name, None, NOT_YET, release.id, release.sha256, 0.0)
            for s in sources
        )
        result = combine(key, known, release) if known else StudyResult(key, views)
        if (patients := self._memory.patients(sources)) > 1:
            result = replace(result, notes=(SEVERAL.format(patients), *result.notes))
        return Study(sources, replace(result, views=views), len(sources) - len(known))

    def _score(self, source: Source) -> None:
        self._found[source.id] = self._memory.result(source, self._cascade, self._limits)

    def _score_some(self, shown: Study) -> None:
        """What is awaited, the study that is looked at first, until ``AT_ONCE`` is over."""
        began = time.monotonic()
        for source in (*shown.sources, *self._sources):
            if source.id in self._found:
                continue
            if time.monotonic() - began > AT_ONCE:
                return
            self._score(source)

    def _awaited(self) -> int:
        """How many have no result yet."""
        return len(self._sources) - len(self._found)

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
        """By finding and probability, as on the worklist, if the reader wants it: the parts have
        thresholds of their own."""
        if st.session_state.get("order", ORDERS[0]) == ORDERS[0]:
            return studies

        def urgency(study: Study) -> tuple[int, float]:
            return _reading.rank(study.result.finding), -(study.result.probability or 0.0)

        return sorted(studies, key=urgency)

    def _table(
        self,
        studies: Sequence[Study],
        current: str,
        selectable: bool = False,
    ) -> None:
        by_key = {study.key: study for study in studies}
        rows(
            COLUMNS,
            [_row(study) for study in studies],
            key="summary",
            label="Studies",
            opens="Study",
            on_open=(lambda key: self._go(by_key[key])) if selectable else None,
            current=current,
            most=ROWS_SHOWN,
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

    def _finish(self, studies: Sequence[Study]) -> None:
        """Tally, grouping and downloads, in the place where the progress was."""
        records = [
            _downloads.Record(self._found[s.id], self._memory.chosen.get(s.id))
            for s in self._sources
        ]
        actor = _access.actor()  # the download has no session to ask

        def given(kind: str, text: Callable[[], str]) -> str:
            digests = _audit.numbered(r.result.sha256 for r in records)
            _audit.write("export.made", actor, kind=kind, **digests)
            return text()

        def csv() -> str:
            return given("csv", lambda: _downloads.to_csv(records))

        def lines() -> str:
            return given("json lines", lambda: _downloads.to_json_lines(records))

        with st.container(horizontal=True, vertical_alignment="center"):
            html(f"<p class='tally'>{_tally([s.result.finding for s in studies])}</p>")
            self._grouping(studies)
            _download("CSV", csv, "results.csv", "text/csv")
            _download("JSON lines", lines, "results.jsonl", "application/jsonl")
            st.button("Clear all", key="clear", on_click=_sources.clear)

    def _grouping(self, studies: Sequence[Study]) -> None:
        """All views into one study, and back."""
        moved = self._memory.moved
        if len(studies) > 1:
            everything = dict.fromkeys((s.id for s in self._sources), TOGETHER)
            st.button("All in one study", key="together", on_click=moved.update, args=(everything,))
        if moved:
            st.button("Group as given", key="apart", on_click=moved.clear)


def _download(label: str, data: Callable[[], str], name: str, mime: str) -> None:
    st.download_button(label, data, name, mime, key=f"download-{name}", on_click="ignore")


def _row(study: Study) -> Row:
    """One line of the list."""
    result = study.result
    part = result.body_part.words.capitalize() if result.body_part else ""
    chosen = any(view.chosen for view in result.counted)
    none = "Not read yet" if study.awaited == len(study.sources) else "Not assessed"
    one = len(study.sources) == 1
    refused = next((v.reason for v in result.views if v.reason), "") or ""
    cells = (
        study.name,
        len(study.sources),
        f"{part} (chosen)" if chosen else part,
        finding(result.finding, none),
        None if result.probability is None else 100 * result.probability,
        "" if study.awaited else (one and refused) or " ".join(result.notes),
    )
    return Row(study.key, cells)


def _tally(findings: Sequence[Finding | None]) -> str:
    """How many studies of each finding, the most urgent first."""
    counts = Counter(findings)
    words = [
        f"{_reading.badge(finding)}&nbsp;<b>{counts[finding]}</b>"
        for finding in (*_reading.WORDS, None)
        if counts[finding]
    ]
    return f"<span class='tallies'>{''.join(f'<span>{w}</span>' for w in words)}</span>"
