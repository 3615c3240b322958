"""The operating point that the reader works at, and the share of patients who have it.

Both belong to the session, not to a page: what is chosen on one is there on the next.
"""

from __future__ import annotations

import streamlit as st

from core.operating import POINTS, performance
from core.registry import Release
from core.study import StudyResult
from pages import _reading
from pages._theme import html

PREVALENCE = 20  # per cent, until the reader says otherwise
KEPT = "operating"


def chosen() -> tuple[str, float]:
    """(name of the operating point, prevalence in [0, 1])."""
    point, share = st.session_state.get(KEPT, (POINTS[0], PREVALENCE))
    return st.session_state.get("point", point), st.session_state.get("prevalence", share) / 100


def draw(result: StudyResult, release: Release) -> None:
    """The choice of both, and what they mean for this study."""
    point, share = st.session_state.get(KEPT, (POINTS[0], PREVALENCE))
    st.session_state.setdefault("point", point)
    st.session_state.setdefault("prevalence", share)
    st.segmented_control(
        "Operating point", POINTS, key="point", required=True, format_func=str.capitalize
    )
    part = result.body_part
    found = part and performance(release, part, st.session_state["point"])
    if not found:
        html("<p class='soft'>This release has no such operating point for this part.</p>")
    else:
        st.slider("Share of your patients who have it", 1, 99, format="%d %%", key="prevalence")
        html(_reading.operating(found, result, st.session_state["prevalence"] / 100))
    # Streamlit forgets the state of a widget as soon as another page is drawn without it.
    st.session_state[KEPT] = (st.session_state["point"], st.session_state["prevalence"])
