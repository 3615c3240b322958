"""What the reader may correct on a study: its body part, and which views belong to it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import streamlit as st

from core.cascade import Cascade
from core.study import StudyResult
from core.types import BodyPart
from pages import _reading, _theme
from pages._scoring import Session
from pages._sources import Source
from pages._theme import html

RECOGNISED, MIXED = "recognised", "mixed"
HERE = "This study"
NEW = "A new study"


@dataclass(frozen=True)
class Study:
    """The views of one study, in the order of ``result.views``.

    awaited: how many of them are not scored yet; the result is that of the others.
    """

    sources: tuple[Source, ...]
    result: StudyResult
    awaited: int = 0

    @property
    def key(self) -> str:
        """Tells this study's widgets from another's."""
        return self.sources[0].id

    @property
    def name(self) -> str:
        """One view is called as its file, several by their folder or the first file."""
        first = self.sources[0].name
        if len(self.sources) == 1:
            return first
        return first.rpartition("/")[0] or f"{first} …"


def part(study: Study, cascade: Cascade, memory: Session) -> None:
    """The list that corrects the body part. After a correction: as ``views``."""
    chosen = {memory.chosen.get(s.id) for s in study.sources}
    differs = len(chosen) > 1
    now = MIXED if differs else next(iter(chosen)) or RECOGNISED
    options = [*([MIXED] if differs else []), RECOGNISED, *cascade.release.parts, BodyPart.OTHER]
    first = next((v.body_part for v in study.result.views if v.body_part), None)
    said = f" ({first.label})" if first and first.label != BodyPart.OTHER else ""
    names = {RECOGNISED: f"As recognised{said}", BodyPart.OTHER: "Another body part"}
    names[MIXED] = "Different for each view"
    key = f"part-{study.key}{'-mixed' * differs}"  # else the box would keep what it said before

    def assess() -> None:
        named = st.session_state[key]
        if named == MIXED:
            return
        for source in study.sources:
            memory.chosen.pop(source.id, None)
            if named != RECOGNISED:
                memory.chosen[source.id] = BodyPart(named)
        st.session_state["leave"] = True

    st.selectbox(
        "Body part is wrong? Assess as",
        options,
        index=options.index(now),
        format_func=lambda p: names.get(p) or BodyPart(p).words.capitalize(),
        key=key,
        on_change=assess,
    )


def views(study: Study, memory: Session, others: dict[str, str]) -> None:
    """The views, and what moves them to another study. others: as in ``_study.StudyCard``.

    After a correction ``leave`` is set in the session: all of the page must be drawn again.
    """
    count = len(study.sources)
    if count == 1 and not others:
        return
    with st.expander("1 view" if count == 1 else f"{count} views", expanded=count > 1):
        html(_reading.views([s.name for s in study.sources], study.result.views))
        with st.popover("Regroup", width="stretch"):
            for n, source in enumerate(study.sources):
                _mover(n, source, memory, others)


def _mover(position: int, source: Source, memory: Session, others: dict[str, str]) -> None:
    places = {NEW: "", **{name: key for key, name in others.items()}}
    key = f"move-{source.id}"

    def move() -> None:
        place = st.session_state.pop(key)
        if place != HERE:
            # Another one each time: a view may have been moved to the last one since.
            memory.drops.moved[source.id] = places[place] or f"own-{secrets.token_hex(8)}"
            st.session_state["leave"] = True

    label = f"View {position + 1}, {_theme.plain(source.name)}, belongs to"
    st.selectbox(label, [HERE, *places], key=key, on_change=move)
