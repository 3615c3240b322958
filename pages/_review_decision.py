"""What one reader says of one study: drawn, and saved as it is said.

Everything is saved at once, as a new decision; the newest one counts.
"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from core.errors import CascadeError
from core.store import Mark, Opinion, Store, StudyRecord, Verdict
from core.types import BodyPart, Finding
from pages import _reading
from pages._theme import html

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


class OwnDecision:
    """The decision of ``reader`` on the study of ``record``, from which all that is saved starts.

    reader: "" where nobody said who reads; then nothing is saved.
    """

    def __init__(self, store: Store, record: StudyRecord, reader: str) -> None:
        self._store = store
        self._record = record
        self._reader = reader
        mine = [d for d in record.history if d.reader == reader]
        self._newest = mine[-1] if mine else None
        self._revision = mine[-1].revision if mine else 0
        self.opinion = (mine[-1].opinion if mine else None) or Opinion(Verdict.DRAFT)

    @property
    def decided(self) -> bool:
        return self.opinion.verdict is not Verdict.DRAFT

    def draw(self) -> None:
        """Verdict, part and finding, mark, comment, undo."""
        opinion = self.opinion
        with st.container(key="verdicts", horizontal=True, gap="small"):
            for verdict, label in BUTTONS.items():
                st.button(
                    label,
                    key=f"verdict-{verdict}",
                    on_click=self.decide,
                    args=(verdict,),
                    type="primary" if opinion.verdict is verdict else "secondary",
                )
        if opinion.verdict is Verdict.DISAGREE:
            self._correct()
        self._marked()
        self._comment()
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

    def decide(self, verdict: Verdict) -> None:
        """Agree, disagree or ask for a second look, with the part and finding that follow."""
        result, opinion = self._record.result, self.opinion
        part, finding = result.body_part, result.finding
        if verdict is Verdict.DISAGREE:
            if opinion.verdict is Verdict.DISAGREE:
                return
            finding = OTHER_WAY.get(finding) if finding else None
        elif verdict is Verdict.SECOND_LOOK:
            part = finding = None
        self._save(replace(opinion, verdict=verdict, body_part=part, finding=finding))

    def mark(self, box: Mark) -> None:
        """The reader's one mark on a view, in the place of an earlier one."""
        others = tuple(m for m in self.opinion.marks if m.view != box.view)
        self._save(replace(self.opinion, marks=(*others, box)))

    def mark_on(self, view: int) -> Mark | None:
        return next((m for m in self.opinion.marks if m.view == view), None)

    def _correct(self) -> None:
        """The right body part and finding, where the reader disagrees."""
        opinion, place = self.opinion, f"{self._record.id}-{self._revision}"
        part, finding = f"part-{place}", f"finding-{place}"
        st.selectbox(
            "Body part",
            list(BodyPart),
            index=list(BodyPart).index(opinion.body_part) if opinion.body_part else None,
            format_func=str.capitalize,
            key=part,
            on_change=lambda: self._save(
                replace(self.opinion, body_part=BodyPart(st.session_state[part]))
            ),
        )
        st.segmented_control(
            "Finding",
            list(_reading.WORDS),
            default=opinion.finding,
            format_func=_reading.WORDS.get,
            key=finding,
            on_change=lambda: self._save(replace(self.opinion, finding=st.session_state[finding])),
        )

    def _comment(self) -> None:
        """The field stays whatever else is saved, so that nobody types into one that is gone."""
        key = f"comment-{self._record.id}-{self._reader}"
        known = f"{key}-known"
        if key not in st.session_state or st.session_state.get(known) != self.opinion.comment:
            st.session_state[key] = st.session_state[known] = self.opinion.comment

        def save() -> None:
            st.session_state[known] = st.session_state[key]
            self._save(replace(self.opinion, comment=st.session_state[key]))

        st.text_area("Comment", key=key, on_change=save, height=90, max_chars=2000)

    def _marked(self) -> None:
        if not self.opinion.marks:
            html("<p class='soft'>Mark the finding on the picture with the tool Mark.</p>")
            return
        views = ", ".join(str(m.view + 1) for m in self.opinion.marks)
        st.button(
            f"Remove the mark (view {views})",
            key="unmark",
            on_click=lambda: self._save(replace(self.opinion, marks=())),
        )

    def _saved(self) -> str:
        if self._newest is None:
            return "Saved as you go."
        return f"Saved, {self._newest.made:%H:%M:%S} UTC."

    def _save(self, opinion: Opinion) -> None:
        if opinion == self.opinion or not self._reader:
            return
        try:
            made = self._store.decide(self._record.id, self._reader, opinion, self._revision)
        except CascadeError as error:
            st.session_state[NOTICE] = str(error)
            return
        # Two things done in quick succession: the second starts from the first.
        self.opinion, self._revision = opinion, made.revision

    def _undo(self) -> None:
        try:
            self._store.undo(self._record.id, self._reader, self._revision)
        except CascadeError as error:
            st.session_state[NOTICE] = str(error)
