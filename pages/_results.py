"""All results of one page: progress, tally, downloads, the list of studies, and one study."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.cascade import Cascade
from core.settings import ImageLimits
from core.study import StudyResult, combine, group
from core.types import ImageResult
from pages import _downloads, _kept, _reading, _sources, _summary, _theme, _views
from pages._correct import Study
from pages._scoring import Session
from pages._sources import MOST_FILES, Source
from pages._study import StudyCard
from pages._theme import html

AT_ONCE = 0.5  # seconds of scoring, before the page listens to the reader again
POLL = 0.6
TOO_MANY = (
    "Only {} of {} files are assessed here, those of the last drop first. The page Batch takes "
    "more: a folder, or a ZIP archive."
)
CUT = "{} not assessed: this page takes no more files."
SEVERAL = "Please check the views: their Patient IDs are those of {} patients."
TWOFOLD = "Please check the views: two folders with the same name were dropped together."
READING = "diagnose-reading"  # in the session: whether files were awaited when all was drawn last
STAYS = "diagnose-stays"  # in the session: key of the study that was shown when all was read
ON_SCREEN = "diagnose-on-screen"  # in the session: ids of the views of the study drawn last
ORDERS = ("Most suspicious first", "As given")
TOGETHER = "study-of-all"


class Results:
    """The results of the files on the page, study by study."""

    def __init__(
        self, sources: Sequence[Source], cascade: Cascade, limits: ImageLimits, memory: Session
    ) -> None:
        self._memory = memory
        drops = memory.drops
        drops.came(sources)
        self._given = sources
        for source in sources:
            memory.peek(source, limits)
        once = drops.once(sources)
        read = _read_here(once, memory)
        self._sources = [s for s in once if s.id in read]
        self._rest = [s for s in once if s.id not in read]
        if drops.drop != drops.led:
            if drops.led:  # of the first drop all begins at the first study
                self._go_to_new([s for s in sources if drops.of[s.id] > drops.led])
            # Only now: a run may be cut off wherever it looks at the session's state, by a click or
            # a poll, and the next one finds no file new.
            drops.led = drops.drop
        self._cascade = cascade
        self._limits = limits
        self._found: dict[str, ImageResult] = {}
        self._drawn = False

    def show(self) -> None:
        """The study that is looked at as soon as its view on the page is scored, then the rest."""
        self._memory.forget_parts(self._cascade.release)
        if self._rest:
            here = len(self._sources)
            _theme.notice(TOO_MANY.format(here, here + len(self._rest)))
        for source in self._sources:
            if self._memory.known(source, self._cascade):
                self._score(source)
        studies = self._ordered(self._studies())
        position = self._position(studies)
        view = _looked_at(studies[position])
        with self._place(view):
            studies = self._ordered(self._studies())
            position = self._position(studies)
            st.session_state[ON_SCREEN] = {s.id for s in studies[position].sources}
            self._draw(studies, position)

    def _place(self, view: Source) -> DeltaGenerator:
        """Where all is drawn, with the view that is looked at scored.

        While that takes its time, nothing of another study, perhaps of another patient, is left
        there. A study that stays, such as one that is assessed as another part, is not taken away:
        what has the focus would lose it.
        """
        if view.id in self._found:
            return st.container()
        if view.id in st.session_state.get(ON_SCREEN, ()):
            self._score(view)
            return st.container()
        place = st.empty()  # and nothing in it: a container would have what the old one had
        with st.spinner(f"Reading {_theme.plain(view.name)}"):
            self._score(view)
        return place.container()

    def _draw(self, studies: list[Study], position: int) -> None:
        """Progress or exports, the list, and the study that is looked at; then the rest is read."""
        awaited = self._awaited()
        if not awaited and st.session_state.pop(READING, False):
            st.session_state[STAYS] = studies[position].key
        if awaited:
            st.session_state[READING] = True
            st.fragment(self._reading, run_every=POLL)(studies[position].key)
        else:
            with st.container():
                self._read(studies, position)
        if len(studies) > 1:
            self._pager(position, studies)
        _summary.above(len(studies), len(studies[position].sources))
        others = {
            self._memory.drops.study_of(study.sources[0]): f"{n + 1}: {study.name}"
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
                st.progress(done / total, text=f"{done} of {total} radiographs assessed")
            if len(studies) > 1:
                _summary.table(studies, key)

    def _read(self, studies: list[Study], position: int) -> None:
        """What stands in the place of ``_reading`` when all is scored."""
        with st.container(key="status"):
            self._finish(studies)
        if len(studies) > 1:
            _summary.table(studies, studies[position].key, self._go)

    def _studies(self) -> list[Study]:
        """All files in their studies, with what is scored by now."""
        keys = [self._memory.drops.study_of(s) for s in self._sources]
        cut = Counter(self._memory.drops.study_of(s) for s in self._rest)
        return [self._study(keys[views[0]], views, cut[keys[views[0]]]) for views in group(keys)]

    def _study(self, key: str, positions: Sequence[int], cut: int) -> Study:
        """cut: how many of its files are not among those that are read."""
        sources = tuple(self._sources[n] for n in positions)
        release = self._cascade.release
        known = [self._found[s.id] for s in sources if s.id in self._found]
        views = tuple(
            self._found.get(s.id)
            or ImageResult(s.name, None, _reading.NOT_YET, release.id, release.sha256, 0.0)
            for s in sources
        )
        result = combine(key, known, release) if known else StudyResult(key, views)
        if (patients := self._memory.patients(sources)) > 1:
            result = replace(result, notes=(SEVERAL.format(patients), *result.notes))
        if self._memory.drops.is_twofold(sources):
            result = replace(result, notes=(TWOFOLD, *result.notes))
        if cut:
            one = "1 of its files was" if cut == 1 else f"{cut} of its files were"
            result = replace(result, notes=(CUT.format(one), *result.notes))
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
        """Where the study stands that the reader looks at; it may have moved, or lost a view."""
        shown = st.session_state.get("shown", ())
        at = {s.id: n for n, study in enumerate(studies) for s in study.sources}
        position = next((at[view] for view in shown if view in at), 0)
        beyond = position + st.session_state.pop("beyond", 0)
        if 0 <= beyond < len(studies):
            position = beyond
        self._go(studies[position])
        return position

    def _go(self, study: Study) -> None:
        st.session_state["shown"] = tuple(s.id for s in study.sources)

    def _go_to_new(self, new: Sequence[Source]) -> None:
        """To what was dropped last: who drops the next patient must not go on seeing this one.

        Of a file that two folders of one name have, it is the one of the folder that came again.
        """
        drops = self._memory.drops.of
        for source in new:
            if same := [s for s in self._sources if _same(s, source)]:
                first = next((s for s in same if drops[s.id] == drops[source.id]), same[0])
                st.session_state["shown"] = (first.id,)
                return

    def _remove(self, study: Study, neighbour: Study) -> None:
        """Take a study from the page, with whatever was dropped a second time of it and what of it
        is not read here."""
        key = self._memory.drops.study_of(study.sources[0])
        views = [*study.sources, *(s for s in self._rest if self._memory.drops.study_of(s) == key)]
        others = {s.id for s in (*self._sources, *self._rest)} - {s.id for s in views}
        given = [s for s in self._given if s.id not in others]
        gone = {s.id for s in given if any(_same(s, view) for view in views)}
        self._go(neighbour)
        _sources.remove(gone)
        self._memory.forget(gone)

    def _ordered(self, studies: list[Study]) -> list[Study]:
        """By finding and probability, as on the worklist: the parts have thresholds of their own.

        As given if the reader wants it so, and while files are read: each would move the others.
        """
        if self._awaited() or not _sorted():
            return studies

        def urgency(study: Study) -> tuple[int, float]:
            return _reading.rank(study.result.finding), -(study.result.probability or 0.0)

        return sorted(studies, key=urgency)

    def _pager(self, position: int, studies: Sequence[Study]) -> None:
        """Previous and next stay where they are, so that a pointer need not move."""
        total = len(studies)
        with st.container(key="pager"):
            back, ahead, where, away, join = st.columns(
                [1, 1, 2.3, 1.5, 2.2], vertical_alignment="center"
            )
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
            before = self._before(position, studies)
            html(f"<p class='tally'>Study <b>{position + 1}</b> of {total}{before}</p>")
        neighbour = position + 1 if position + 1 < total else position - 1
        away.button(
            "Remove this study",
            key=f"remove-{studies[position].key}",
            on_click=self._remove,
            args=(studies[position], studies[neighbour]),
            type="tertiary",
        )
        join.button(
            "All in one study",
            key="together",
            on_click=self._memory.drops.moved.update,
            args=(dict.fromkeys((s.id for s in self._sources), TOGETHER),),
            disabled=self._awaited() > 0,
            type="tertiary",
        )

    def _before(self, position: int, studies: Sequence[Study]) -> str:
        """How many are more suspicious than the study that was shown when all was read.

        It stays, as nobody's picture may turn into another's by itself; but *Next* leads on from
        the place that it has then, and they stand before it.
        """
        stays = studies[position].key == st.session_state.get(STAYS)
        if not (position and stays) or self._awaited() or not _sorted():
            return ""
        return f" <span class='soft'>{position} more suspicious</span>"

    def _finish(self, studies: Sequence[Study]) -> None:
        """Tally, grouping, order and downloads, in the place where the progress was."""
        records = [
            _downloads.Record(self._found[s.id], self._memory.chosen.get(s.id))
            for s in self._sources
        ]
        with st.container(
            horizontal=True, horizontal_alignment="right", vertical_alignment="center"
        ):
            if len(studies) > 1:  # of one study it is the finding beside the picture
                html(f"<p class='tally'>{_summary.tally([s.result.finding for s in studies])}</p>")
                _order()
            if moved := self._memory.drops.moved:
                st.button("Undo grouping", key="apart", on_click=moved.clear)
            _downloads.offer(records)
            with st.popover("Clear all"):
                count = len(self._given)
                some = f"all {count} files and photographs" if count > 1 else "the file"
                html(f"<p class='soft'>Removes {some} from this page.</p>")
                st.button("Clear", key="clear", on_click=_sources.clear)


def _sorted() -> bool:
    """Whether the reader wants the studies by what was found."""
    return bool(_kept.said("order", ORDERS[0]) == ORDERS[0])


def _order() -> None:
    said = st.segmented_control(
        "Order",
        ORDERS,
        default=_kept.first("order", ORDERS[0]),
        key="order",
        required=True,
        label_visibility="collapsed",
        width="content",
        on_change=st.session_state.pop,
        args=("shown", None),
    )
    _kept.keep("order", said)


def _read_here(sources: Sequence[Source], memory: Session) -> set[str]:
    """The ids of those that the page has room for: whole studies, those of the last drop first.

    Only a study that is larger than all the room is cut: of another one a part would say what the
    whole does not.
    """
    by_study: dict[str, list[Source]] = {}
    for source in sources:
        by_study.setdefault(memory.drops.study_of(source), []).append(source)
    read: set[str] = set()
    for study in sorted(by_study.values(), key=lambda views: min(map(memory.drops.age, views))):
        room = MOST_FILES - len(read)
        if len(study) <= room or len(study) > MOST_FILES:
            read |= {s.id for s in sorted(study, key=memory.drops.age)[:room]}
    return read


def _looked_at(study: Study) -> Source:
    """The view of it that is on the page, or would be."""
    return study.sources[_views.position(study.key, range(len(study.sources)))]


def _same(one: Source, other: Source) -> bool:
    """Whether it is the same file, dropped once or again."""
    if one.id == other.id:
        return True
    alike = one.name == other.name and one.size == other.size > 0
    return alike and one.read() == other.read()
