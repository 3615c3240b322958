"""One study on the page Review: the picture, what the release said, what the readers say.

Everything a reader does is saved at once, as a new decision; the newest one counts.
"""

from __future__ import annotations

from dataclasses import replace
from html import escape

import streamlit as st

from core import imaging
from core.errors import CascadeError, StudyNotFound
from core.settings import Settings
from core.store import Decision, Mark, Opinion, Query, Store, StudyRecord, Verdict
from core.types import BodyPart, Finding
from pages import _reading, _review_list, _theme, _worklist
from pages._review_list import ORDER, STATUS, VERDICTS
from pages._theme import html, percent
from pages._viewer import Event, Prepared, viewer

PICTURES_KEPT = 8
DIGITS = "1 agree · 2 disagree · 3 second look"
BY_KEY = {1: Verdict.AGREE, 2: Verdict.DISAGREE, 3: Verdict.SECOND_LOOK}
BUTTONS = {
    Verdict.AGREE: "Agree",
    Verdict.DISAGREE: "Disagree",
    Verdict.SECOND_LOOK: "Second look",
}
OTHER_WAY = {
    Finding.SUSPECTED: Finding.NOT_SUSPECTED,
    Finding.NOT_SUSPECTED: Finding.SUSPECTED,
}
NOTICE = "review-notice"


class StudyPage:
    """Draws one study and takes what its reader does."""

    def __init__(self, store: Store, study: str) -> None:
        self._store = store
        self._id = study

    def draw(self) -> None:
        """The pager, then picture and panel; a study that is gone leads back to the list."""
        order = st.session_state.get(ORDER) or [e.id for e in self._store.worklist(Query())]
        self._pager(order)
        try:
            self._record = self._store.study(self._id)
        except StudyNotFound as error:
            _theme.notice(str(error))
            return
        self._remember()
        left, right = st.columns([7, 3], gap="medium")
        with right, st.container(key="panel"):
            self._panel()
        with left:
            self._picture()

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

    # The picture

    def _picture(self) -> None:
        views = self._record.result.views
        shown = [n for n, stored in enumerate(self._record.stored) if stored]
        if not shown:
            gone = "The pictures of this study were removed, because their time was over."
            _theme.notice(gone if self._record.purged else "This study has no pictures.")
            return
        if len(shown) > 1:
            self._strip(shown)
        position = self._position(shown)
        prepared = self._prepared(str(views[position].sha256))
        mark = self._mark_on(position)
        with st.container(key="picture"):
            viewer(
                prepared,
                views[position].heatmap,
                key="viewer",
                alt=f"Radiograph, view {position + 1} of {len(views)}",
                on_event=self._on_event,
                marks=bool(_worklist.reader()),
                mark=f"{mark.x0} {mark.y0} {mark.x1} {mark.y1}" if mark else "",
                digits=DIGITS if _worklist.reader() else "",
            )

    def _strip(self, shown: list[int]) -> None:
        def label(position: int) -> str:
            fracture = self._record.result.views[position].fracture
            glyph = _reading.GLYPHS[fracture.finding if fracture else None]
            return f"{glyph} View {position + 1}"

        key = f"review-view-{self._id}"
        st.session_state.setdefault(key, shown[0])
        st.segmented_control(
            "View",
            shown,
            key=key,
            required=True,
            format_func=label,
            label_visibility="collapsed",
        )

    def _position(self, shown: list[int]) -> int:
        position = st.session_state.get(f"review-view-{self._id}", shown[0])
        return position if position in shown else shown[0]

    def _prepared(self, sha256: str) -> Prepared:
        """The picture, decoded again where this session forgot it."""
        kept: dict[str, Prepared] = st.session_state.setdefault("review-pictures", {})
        if sha256 not in kept:
            while len(kept) >= PICTURES_KEPT:
                kept.pop(next(iter(kept)))
            data = self._store.pictures.get(sha256)
            limits = Settings.from_environment().limits
            kept[sha256] = Prepared.of(imaging.decode(data, "", limits))
        return kept[sha256]

    def _mark_on(self, position: int) -> Mark | None:
        return next((m for m in self._opinion.marks if m.view == position), None)

    def _on_event(self, event: Event) -> None:
        """What was done on the picture: a key for a step or a decision, or a mark."""
        if event.step:
            self._step(event.step)
        elif event.decision:
            self._decide(BY_KEY[event.decision])
        elif event.mark:
            digests = [v.sha256 for v in self._record.result.views]
            if event.view not in digests:
                return
            view = digests.index(event.view)
            box = Mark(view, *(float(x) for x in event.mark.split()))
            others = tuple(m for m in self._opinion.marks if m.view != view)
            self._save(replace(self._opinion, marks=(*others, box)))

    def _step(self, step: int) -> None:
        """First through the views, then to the next study."""
        shown = [n for n, stored in enumerate(self._record.stored) if stored]
        place = shown.index(self._position(shown)) + step
        if 0 <= place < len(shown):
            st.session_state[f"review-view-{self._id}"] = shown[place]
        else:
            self._go(step)

    # What is said

    def _panel(self) -> None:
        record = self._record
        html(
            f"<p class='cardname'><b>{escape(record.title)}</b></p>"
            f"<p class='soft'>{STATUS[record.status]}. Added by {escape(record.added_by)}, "
            f"{record.added:%Y-%m-%d %H:%M} UTC.</p>{_reading_of(record)}"
        )
        if st.session_state.get(NOTICE):
            _theme.notice(st.session_state.pop(NOTICE))
        if not _worklist.reader():
            _worklist.ask_reader("reader-review")
            html("<p class='soft'>To decide, say who you are.</p>")
        else:
            self._decision()
        self._others()
        html(f"<p class='soft'>Release {escape(record.release)}</p>")

    def _decision(self) -> None:
        """The reader's own: verdict, part and finding, mark, comment, undo."""
        opinion = self._opinion
        with st.container(key="verdicts", horizontal=True, gap="small"):
            for verdict, label in BUTTONS.items():
                st.button(
                    label,
                    key=f"verdict-{verdict}",
                    on_click=self._decide,
                    args=(verdict,),
                    type="primary" if opinion.verdict is verdict else "secondary",
                )
        if opinion.verdict is Verdict.DISAGREE:
            self._correct()
        self._marked()
        key = f"comment-{self._id}-{self._revision}"
        st.text_area(
            "Comment",
            value=opinion.comment,
            key=key,
            on_change=lambda: self._save(replace(self._opinion, comment=st.session_state[key])),
            height=90,
            max_chars=2000,
        )
        saved, undo = st.columns([2, 1], vertical_alignment="center")
        with saved:
            html(f"<p class='soft' role='status'>{self._saved()}</p>")
        undo.button(
            "Undo",
            key="undo",
            on_click=self._undo,
            disabled=self._revision == 0,
            width="stretch",
        )

    def _correct(self) -> None:
        """The right body part and finding, where the reader disagrees."""
        part, finding = f"part-{self._id}-{self._revision}", f"finding-{self._id}-{self._revision}"
        opinion = self._opinion
        st.selectbox(
            "Body part",
            list(BodyPart),
            index=list(BodyPart).index(opinion.body_part) if opinion.body_part else None,
            format_func=str.capitalize,
            key=part,
            on_change=lambda: self._save(
                replace(self._opinion, body_part=BodyPart(st.session_state[part]))
            ),
        )
        st.segmented_control(
            "Finding",
            list(_reading.WORDS),
            default=opinion.finding,
            format_func=_reading.WORDS.get,
            key=finding,
            on_change=lambda: self._save(replace(self._opinion, finding=st.session_state[finding])),
        )

    def _marked(self) -> None:
        if not self._opinion.marks:
            html("<p class='soft'>Mark the finding on the picture with the tool Mark.</p>")
            return
        views = ", ".join(str(m.view + 1) for m in self._opinion.marks)
        st.button(
            f"Remove the mark (view {views})",
            key="unmark",
            on_click=lambda: self._save(replace(self._opinion, marks=())),
        )

    def _saved(self) -> str:
        if self._decision_made is None:
            return "Saved as you go."
        return f"Saved, {self._decision_made.made:%H:%M:%S} UTC."

    def _others(self) -> None:
        """All readers side by side; others' are hidden until this reader has decided."""
        decisions = self._record.decisions
        reader = _worklist.reader()
        others = [d for d in decisions if d.reader != reader]
        if not others:
            return
        if reader and self._opinion.verdict is Verdict.DRAFT:
            count = f"{len(others)} other {'reader has' if len(others) == 1 else 'readers have'}"
            html(f"<p class='soft'>{count} decided. It is shown when you have.</p>")
            return
        head = "".join(f"<th>{escape(d.reader)}</th>" for d in decisions)
        rows = "".join(
            f"<tr><th>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
            for name, cells in _side_by_side(decisions)
        )
        html(f"<table class='details readers'><tr><th></th>{head}</tr>{rows}</table>")

    # What is saved

    def _remember(self) -> None:
        """What the page shows of this reader, from which everything that is saved starts."""
        reader = _worklist.reader()
        mine = [d for d in self._record.history if d.reader == reader]
        self._decision_made: Decision | None = mine[-1] if mine else None
        self._revision = mine[-1].revision if mine else 0
        opinion = mine[-1].opinion if mine else None
        self._opinion = opinion or Opinion(Verdict.DRAFT)

    def _decide(self, verdict: Verdict) -> None:
        result, opinion = self._record.result, self._opinion
        part, finding = result.body_part, result.finding
        if verdict is Verdict.DISAGREE:
            if opinion.verdict is Verdict.DISAGREE:
                return
            finding = OTHER_WAY.get(finding) if finding else None
        elif verdict is Verdict.SECOND_LOOK:
            part = finding = None
        self._save(replace(opinion, verdict=verdict, body_part=part, finding=finding))

    def _save(self, opinion: Opinion) -> None:
        if opinion == self._opinion or not _worklist.reader():
            return
        try:
            made = self._store.decide(self._id, _worklist.reader(), opinion, self._revision)
        except CascadeError as error:
            st.session_state[NOTICE] = str(error)
            return
        # Two things done in quick succession: the second starts from the first.
        self._opinion, self._revision = opinion, made.revision

    def _undo(self) -> None:
        try:
            self._store.undo(self._id, _worklist.reader(), self._revision)
        except CascadeError as error:
            st.session_state[NOTICE] = str(error)


def _reading_of(record: StudyRecord) -> str:
    """What the release said, in one glance."""
    result = record.result
    part = result.body_part.capitalize() if result.body_part else "Not assessed"
    number = "" if result.probability is None else percent(result.probability)
    notes = "".join(f"<p class='caution'>{escape(str(n))}</p>" for n in result.notes)
    meant = escape(record.label_means) or "not recorded"
    views = len(result.counted)
    mean = f"The mean of {views} views." if views > 1 else ""
    return (
        f"<dl class='reading'><dt>Body part</dt><dd><div class='value'>{part}</div></dd>"
        f"<dt>Finding: {meant}</dt><dd><div class='value'>{_reading.badge(result.finding)}"
        f"<span class='number'>{number}</span></div><div class='soft'>{mean}</div></dd></dl>{notes}"
    )


def _side_by_side(decisions: tuple[Decision, ...]) -> list[tuple[str, list[str]]]:
    """Rows of the table of readers: a name and a cell for each reader, as markup."""
    said = [(d, d.opinion) for d in decisions if d.opinion is not None]
    return [
        ("Verdict", [VERDICTS[o.verdict] for _, o in said]),
        ("Body part", [(o.body_part or "–").capitalize() for _, o in said]),
        ("Finding", [_reading.WORDS[o.finding] if o.finding else "–" for _, o in said]),
        ("Mark", [", ".join(f"view {m.view + 1}" for m in o.marks) or "–" for _, o in said]),
        ("Comment", [escape(o.comment) or "–" for _, o in said]),
        ("When (UTC)", [f"{d.made:%Y-%m-%d %H:%M}" for d, _ in said]),
    ]
