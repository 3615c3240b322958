"""What one reader says of one study: drawn, and saved as it is said.

Everything is saved at once, as a new decision; the newest one counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

import streamlit as st

from core.store import Decision, Mark, Opinion, Store, StudyRecord, Verdict
from core.study import named
from core.types import BodyPart
from pages import _cascade, _reading, _theme
from pages._theme import html

BUTTONS = {
    Verdict.AGREE: "Agree",
    Verdict.DISAGREE: "Disagree",
    Verdict.SECOND_LOOK: "Second look",
}


@dataclass
class _Latest:
    """What this session knows of one reader's decision on one study.

    One for all runs of the page: Streamlit may answer a touch with what an earlier run had
    registered, and that must start from what was said last, too.
    """

    opinion: Opinion = field(default_factory=lambda: Opinion(Verdict.DRAFT))
    revision: int = 0


class OwnDecision:
    """The decision of ``reader`` on the study of ``record``, from which all that is saved starts.

    Whatever has a key has the study's id in it: what was pressed on one never counts for another.
    reader: "" where nobody said who reads; then nothing is saved.
    """

    def __init__(self, store: Store, record: StudyRecord, reader: str) -> None:
        self._store = store
        self._record = record
        self._reader = reader
        mine = [d for d in record.history if d.reader == reader]
        self._newest = mine[-1] if mine else None
        self._latest: _Latest = st.session_state.setdefault(
            f"latest-{record.id}-{reader}", _Latest()
        )
        if self._newest and self._newest.revision > self._latest.revision:
            opinion = self._newest.opinion or Opinion(Verdict.DRAFT)
            self._latest.opinion, self._latest.revision = opinion, self._newest.revision

    @property
    def opinion(self) -> Opinion:
        return self._latest.opinion

    @property
    def decided(self) -> bool:
        return self.opinion.verdict is not Verdict.DRAFT

    def draw(self) -> None:
        """Verdict, part and finding, mark, comment, undo."""
        opinion, result = self.opinion, self._record.result
        if result.finding:
            means = f"{named(result)}, {result.finding.words}"
            html(f"<p class='soft'>Agree means: {means}.</p>")
        with st.container(key="verdicts"):
            places = st.columns([4, 5, 6], gap="xsmall")  # as long as their words
        for digit, (verdict, label) in enumerate(BUTTONS.items(), 1):
            places[digit - 1].button(
                label,
                key=f"verdict-{verdict}-{self._record.id}",
                on_click=self.decide,
                args=(verdict,),
                type="primary" if opinion.verdict is verdict else "secondary",
                help=f"Key {digit}",
                width="stretch",
            )
        if opinion.verdict is Verdict.DISAGREE:
            if not opinion.says_with_what:
                html("<p class='soft'>Please give a body part, a finding or a comment.</p>")
            self._correct()
        self._marked()
        self._comment()
        saved, undo = st.columns([2, 1], vertical_alignment="center")
        with saved:
            html(f"<p class='soft' role='status'>{self._saved()}</p>")
        undo.button(
            "Undo",
            key=f"undo-{self._record.id}",
            on_click=self._undo,
            disabled=self._latest.revision == 0,
            width="stretch",
        )

    def decide(self, verdict: Verdict) -> None:
        """Agree, disagree or ask for a second look.

        Who agrees says what the release said. Who disagrees has not said yet with what: a reader's
        own part and finding may be signed, so they are only what the reader chose.
        """
        result, opinion = self._record.result, self.opinion
        part, finding = result.body_part, result.finding
        if verdict is not Verdict.AGREE:
            again = opinion.verdict is verdict  # says nothing new, but a comment may wait
            part, finding = (opinion.body_part, opinion.finding) if again else (None, None)
        self._save(replace(opinion, verdict=verdict, body_part=part, finding=finding))

    def mark(self, box: Mark) -> None:
        """The reader's one mark on a view, in the place of an earlier one."""
        others = tuple(m for m in self.opinion.marks if m.view != box.view)
        self._save(replace(self.opinion, marks=(*others, box)))

    def mark_on(self, view: int) -> Mark | None:
        return next((m for m in self.opinion.marks if m.view == view), None)

    def _correct(self) -> None:
        """The right body part and finding, where the reader disagrees."""
        part = self._field("body_part")
        st.selectbox(
            "Body part",
            self._parts(),
            index=None,
            format_func=lambda p: p.words.capitalize(),
            key=part,
            on_change=self._from_field,
            args=("body_part",),
        )
        finding = self._field("finding")
        st.segmented_control(
            "Finding",
            list(_reading.WORDS),
            format_func=_reading.WORDS.__getitem__,
            key=finding,
            on_change=self._from_field,
            args=("finding",),
        )

    def _parts(self) -> list[BodyPart]:
        """What a reader can name: the parts of the release in use and of the opinions there are."""
        decisions = [d for d in self._record.decisions if self.decided or d.reader == self._reader]
        opinions = [d.opinion for d in decisions if d.opinion]
        named = [self._record.result.body_part, *(o.body_part for o in opinions)]
        known = {*_cascade.parts(), *(p for p in named if p)} - {BodyPart.OTHER}
        return [*sorted(known), BodyPart.OTHER]

    def _comment(self) -> None:
        st.text_area(
            "Comment",
            key=self._field("comment"),
            on_change=self._from_field,
            args=("comment",),
            height=90,
            max_chars=2000,
        )

    def _field(self, name: str) -> str:
        """The key of the field for one attribute of the opinion, which shows what was said last.

        The field stays the same one whatever else is saved: what a reader types or chooses while
        the page runs is not lost with it, nor what could not be saved.
        """
        key = f"{name}-{self._record.id}-{self._reader}"
        said: Any = getattr(self.opinion, name)
        known = st.session_state.get(f"{key}-known")
        unsaid = known != said and st.session_state.get(key) in (known, said)
        if key not in st.session_state or unsaid:  # and else not: it would undo a click meanwhile
            st.session_state[key] = st.session_state[f"{key}-known"] = said
        return key

    def _from_field(self, name: str) -> None:
        key = f"{name}-{self._record.id}-{self._reader}"
        said = st.session_state[key]
        opinion = replace(self.opinion, **{name: said})
        if name == "finding":  # is of a part, by itself of the one that the program named
            part = self._record.result.body_part
            if said and opinion.body_part is None:
                opinion = replace(opinion, body_part=part)
            elif not said and opinion.body_part == part:
                opinion = replace(opinion, body_part=None)
        if self._save(opinion):
            st.session_state[f"{key}-known"] = said
        elif name != "comment":  # what was chosen is chosen again, what was written stays
            st.session_state[key] = getattr(self.opinion, name)

    def _unsaved(self) -> str | None:
        """A comment that stands in its field and could not be saved."""
        key = f"comment-{self._record.id}-{self._reader}"
        written = st.session_state.get(key)
        return written if written != st.session_state.get(f"{key}-known") else None

    def _marked(self) -> None:
        if not self.opinion.marks:
            said = "Optional: choose Mark above the picture and draw a box."
            html(f"<p class='soft'>{said}</p>")
            return
        views = ", ".join(str(m.view + 1) for m in self.opinion.marks)
        st.button(
            f"Remove the mark (view {views})",
            key=f"unmark-{self._record.id}",
            on_click=self._unmark,
        )

    def _unmark(self) -> None:
        self._save(replace(self.opinion, marks=()))

    def _saved(self) -> str:
        if self._unsaved() is not None:
            later = "The comment is not saved yet; your next action saves it"
            saved = self.opinion.comment.strip()
            return f"{later} in the place of “{escape(saved)}”." if saved else f"{later}."
        if self._newest is None:
            return "Changes are saved automatically."
        return f"Saved at {self._newest.made:%H:%M:%S} UTC."

    def _save(self, opinion: Opinion) -> bool:
        """Whether it is saved now, with what waits to be; else the page says why not."""
        written = self._unsaved()
        if written is not None:
            opinion = replace(opinion, comment=written)
        if opinion == self.opinion or not self._reader:
            return True
        return _theme.attempt(self._keep, self._store.decide, opinion)

    def _undo(self) -> None:
        if self._unsaved() is not None:
            said = "Your comment is not saved yet. Save or clear it, then undo."
            st.session_state[_theme.REFUSED] = said
            return
        _theme.ask(self._keep, self._store.undo)

    def _keep(self, act: Callable[..., Decision], *arguments: Opinion) -> None:
        """Have the store do it, and go on from what is in force then."""
        made = act(self._record.id, self._reader, *arguments, self._latest.revision)
        self._latest.opinion = made.opinion or Opinion(Verdict.DRAFT)
        self._latest.revision = made.revision
