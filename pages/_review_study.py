"""One study on the page Review: the picture, what the release said, what the readers say."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from html import escape

import streamlit as st

from core import film, imaging
from core.errors import PictureLost, StudyNotFound
from core.notes import probability_of
from core.settings import Settings
from core.store import (
    Decision,
    Mark,
    Query,
    Reassessment,
    Store,
    StudyRecord,
    Verdict,
    has_decided,
)
from core.store.export import told
from core.study import SIDES
from core.types import BodyPart, ImageResult, Radiograph
from pages import (
    _access,
    _downloads,
    _operating,
    _reading,
    _review_asked,
    _review_list,
    _review_report,
    _review_said,
    _theme,
    _views,
    _worklist,
)
from pages._review_decision import OwnDecision
from pages._review_list import ORDER
from pages._theme import html
from pages._viewer import Event, Prepared, viewer

PICTURES_KEPT = 8
SHOWN = "review-on-screen"  # the study whose panel this session has drawn to its end
DIGITS = "1 agree · 2 disagree · 3 second look"
BY_KEY = {1: Verdict.AGREE, 2: Verdict.DISAGREE, 3: Verdict.SECOND_LOOK}


class StudyPage:
    """Draws one study and takes what its reader does."""

    def __init__(self, store: Store, study: str) -> None:
        self._store = store
        self._id = study
        self._left = False
        self._release_of = _review_report.Releases()

    def draw(self) -> None:
        """The pager, then picture and panel; a study that is gone leads back to the list."""
        order = st.session_state.get(ORDER) or [e.id for e in self._store.worklist(Query())]
        self._pager(order)
        try:
            self._record = self._store.study(self._id)
        except StudyNotFound as error:
            _theme.notice(str(error))
            return
        self._written_down()
        self._own = OwnDecision(self._store, self._record, _worklist.reader())
        left, right = st.columns([7, 3], gap="medium")
        # First the picture is made: no name, result or button ever stands beside the one before it.
        place = right if st.session_state.get(SHOWN) == self._id else right.empty()
        with left, _theme.boundary():
            self._picture()
        st.session_state[SHOWN] = self._id  # a run that is cut short leaves some of this panel
        with place.container(key="panel"):
            self._panel()

    def _written_down(self) -> None:
        """In the audit, once a session, before anything of the study is shown."""
        known: set[str] = st.session_state.setdefault("review-shown", set())
        if self._id not in known:
            finding = self._record.result.finding
            self._store.audit(
                "result.shown",
                _access.actor(),
                study=self._id,
                release=self._record.release,
                finding=finding.value if finding else "refused",
            )
            known.add(self._id)

    # Where the reader is

    def _pager(self, order: list[str]) -> None:
        """Previous and next stay where they are; the list is one touch away."""
        place = order.index(self._id) if self._id in order else -1
        with st.container(key="pager"):
            list_, back, ahead, where = st.columns([1, 1, 1, 5], vertical_alignment="center")
        list_.button("Worklist", key="to-list", on_click=_review_list.close_study, width="stretch")
        back.button(
            "Previous",
            key="previous",
            on_click=self._go,
            args=(-1,),
            disabled=place <= 0,
            shortcut="P",
            width="stretch",
        )
        ahead.button(
            "Next",
            key="next",
            on_click=self._go,
            args=(1,),
            disabled=place < 0 or place + 1 >= len(order),
            shortcut="N",
            width="stretch",
        )
        with where:
            if place >= 0:
                html(f"<p class='tally'>Study <b>{place + 1}</b> of {len(order)}</p>")

    def _go(self, step: int) -> None:
        order = st.session_state.get(ORDER) or [e.id for e in self._store.worklist(Query())]
        place = order.index(self._id) + step if self._id in order else -1
        if 0 <= place < len(order):
            _review_list.open_study(order[place])
            self._left = True

    # The picture

    def _picture(self) -> None:
        views = self._record.result.views
        shown = self._shown()
        if not shown:
            gone = "The pictures of this study were removed at the end of their retention period."
            _theme.notice(gone if self._record.purged else "This study has no pictures.")
            return
        if len(shown) > 1:
            self._strip(shown)
        position = _views.position(self._id, shown)
        prepared = self._prepared(views[position])
        mark = self._own.mark_on(position)
        view = self._read_as(position)
        release = self._release_of(view)
        with st.container(key="picture"):
            viewer(
                prepared,
                view.heatmap,
                key="viewer",
                alt=f"Radiograph, view {position + 1} of {len(views)}",
                on_event=self._on_event,
                marks=bool(_worklist.reader()),
                mark=f"{mark.x0} {mark.y0} {mark.x1} {mark.y1}" if mark else "",
                others=self._marks_of_others(position),
                digits=DIGITS if _worklist.reader() else "",
                about=f"{self._id}/{position}",
                caption=_downloads.caption(
                    _downloads.Record(view, view.chosen), release, position + 1, len(views)
                ),
            )

    def _marks_of_others(
        self, position: int
    ) -> list[tuple[str, tuple[float, float, float, float]]]:
        """As soon as this reader may see them."""
        return [
            (decision.reader, (mark.x0, mark.y0, mark.x1, mark.y1))
            for decision in self._visible()
            if decision.reader != _worklist.reader() and decision.opinion
            for mark in decision.opinion.marks
            if mark.view == position
        ]

    def _shown(self) -> list[int]:
        """Positions of the views whose pictures are there."""
        return [n for n, stored in enumerate(self._record.stored) if stored]

    def _strip(self, shown: list[int]) -> None:
        def label(position: int) -> str:
            view = self._record.result.views[position]
            glyph = _reading.GLYPHS[view.fracture.finding if view.fracture else None]
            side = f", {SIDES[view.origin.side]}" if view.origin.side else ""
            return f"{glyph} View {position + 1}{side}"

        _views.strip(self._id, shown, label)

    def _read_as(self, position: int) -> ImageResult:
        """The view as the part that the reader wants to see the heatmap of."""
        first = self._record.result
        results = {first.body_part: first}
        results |= {a.result.body_part: a.result for a in self._asked()}
        if len(results) == 1:
            return first.views[position]

        def label(part: BodyPart | None) -> str:
            view = results[part].views[position]
            name = part.words.capitalize() if part else "Not assessed"
            if view.fracture is None:
                return name
            release = self._release_of(view)
            share = probability_of(view.fracture.probability, release, part)
            return f"{name} {_theme.unbroken(share)}"

        key = f"read-as-{self._id}-{len(results)}"
        part = st.segmented_control(
            "Heatmap for",
            list(results),
            default=list(results)[-1],
            key=key,
            required=True,
            format_func=label,
        )
        return results[part].views[position]

    def _prepared(self, view: ImageResult) -> Prepared:
        """The picture, decoded again where this session forgot it."""
        kept: dict[object, Prepared] = st.session_state.setdefault("review-pictures", {})
        key = view.sha256, view.origin.frame, view.photograph
        if key not in kept:
            while len(kept) >= PICTURES_KEPT:
                kept.pop(next(iter(kept)))
            self._store.audit("image.opened", _access.actor(), sha256=view.sha256)
            kept[key] = Prepared.of(_radiograph(self._store, view))
        return kept[key]

    def _on_event(self, event: Event) -> None:
        """What was done on the picture: a key for a step or a decision, or a mark.

        A key that was pressed after the one that leaves this study, and before the next one was
        there, decides nothing: its reader had not seen what it would have been about.
        """
        study, _, position = event.about.partition("/")
        if study != self._id or position not in map(str, self._shown()) or self._left:
            return
        if event.step:
            self._step(event.step)
        elif event.decision:
            self._own.decide(BY_KEY[event.decision])
        elif event.mark:
            self._own.mark(Mark(int(position), *(float(x) for x in event.mark.split())))

    def _step(self, step: int) -> None:
        """First through the views, then to the next study."""
        shown = self._shown()
        place = shown.index(_views.position(self._id, shown)) + step
        if 0 <= place < len(shown):
            _views.go(self._id, shown[place])
        else:
            self._go(step)

    # What is said

    def _panel(self) -> None:
        record = self._record
        status = _review_list.status(record.status, self._blind)
        html(
            f"<p class='cardname'><b>{escape(record.title)}</b></p>"
            f"<p class='soft'>{status}. Added by {escape(record.added_by)}, "
            f"{record.added:%Y-%m-%d %H:%M} UTC.</p>"
        )
        if record.newer:
            _theme.notice("Superseded: a newer study with these radiographs is on the worklist.")
            st.button(
                "Open the newer study",
                key="newer",
                on_click=_review_list.open_study,
                args=(record.newer,),
            )
        self._ask()
        html(_review_said.reading_of(self._record, self._asked(), self._release_of))
        _theme.refused()
        if not record.purged:
            self._decision()
        self._others()
        if record.result.body_part is not None:
            _operating.draw(record.result, self._release_of(record))
        radiographs = partial(_radiographs, self._store)
        _review_report.buttons(
            self._store, self._id, record.result.body_part, radiographs, self._own.decided
        )
        html(f"<p class='soft'>Release {escape(record.release)}</p>")

    def _decision(self) -> None:
        """What this reader says, once it is known who that is."""
        if not _worklist.reader():
            _worklist.ask_reader("reader-review")
            html("<p class='soft'>Enter your name to record a decision.</p>")
            return
        _worklist.reading_as()
        self._own.draw()

    def _ask(self) -> None:
        """The model of a part that this reader has just named; where it cannot, why."""
        part = _review_asked.wanted(self._record, self._own.opinion)
        if part is None:
            return
        with _theme.boundary(), st.spinner(f"Running the model of the {part}", show_time=True):
            _review_asked.ask(self._store, self._record, part, _worklist.reader())
            st.rerun()  # the picture can have this part's heatmap now

    def _visible(self) -> list[Decision]:
        """Decisions that this reader may see: all as soon as this reader has decided."""
        return told(self._record, _worklist.reader())

    @property
    def _blind(self) -> bool:
        """Whether this reader, with a name or without, has still to decide not knowing what the
        others say."""
        return not self._own.decided and not self._record.purged

    def _asked(self) -> tuple[Reassessment, ...]:
        opinions = tuple(d.opinion for d in self._visible() if d.opinion)
        return _review_asked.shown(self._record, opinions)

    def _others(self) -> None:
        """All readers side by side; others' are hidden until this reader has decided."""
        decisions = self._record.decisions
        # Of a purged study nothing else on the page says what this reader decided.
        reader = "" if self._record.purged else _worklist.reader()
        others = [d for d in decisions if d.reader != reader]
        if not others:
            return
        if self._blind:
            self._undisclosed(sum(has_decided([d], d.reader) for d in others))
            return
        html(_review_said.side_by_side(decisions))

    @staticmethod
    def _undisclosed(decided: int) -> None:
        """How many have decided; whoever only noted something has not."""
        if decided:
            other = "other " if _worklist.reader() else ""  # without a name it may be oneself
            count = f"{decided} {other}{'reader has' if decided == 1 else 'readers have'}"
            what = "it" if decided == 1 else "them"
            html(f"<p class='soft'>{count} decided. You will see {what} after you decide.</p>")


def _radiograph(store: Store, view: ImageResult) -> Radiograph:
    """The picture as it was assessed: of a photograph the film that was cut out of it."""
    data = store.pictures.get(str(view.sha256))
    limits = Settings.from_environment().limits
    radiograph = imaging.decode(data, "", limits, view.origin.frame)
    return film.as_seen(radiograph, film.way_of(view.photograph))


def _radiographs(store: Store, record: StudyRecord) -> tuple[Radiograph | None, ...]:
    """The pictures of a study, None where one is not there or damaged."""

    def read(view: ImageResult) -> Radiograph | None:
        with suppress(PictureLost):
            return _radiograph(store, view)
        return None

    views = zip(record.result.views, record.stored)
    return tuple(read(view) if stored else None for view, stored in views)
