"""The operating point that the reader works at, and the share of patients who have it.

Both belong to the session, not to a page: what is chosen on one is there on the next.
"""

from __future__ import annotations

import streamlit as st

from core.manifest import Release
from core.operating import POINTS, performance
from core.report import GONE
from core.study import StudyResult
from pages import _reading
from pages._theme import html

PREVALENCE = 20  # per cent, where the slider stands until the reader moves it
KEPT, FIRST, GIVEN = "operating", "operating-first", "operating-given"


def chosen() -> tuple[str, float | None]:
    """(name of the operating point, prevalence in [0, 1]); None until the reader said one."""
    point, share = st.session_state.get(KEPT, (POINTS[0], PREVALENCE))
    given = st.session_state.get(GIVEN, False)
    share = st.session_state.get("prevalence", share) / 100 if given else None
    return st.session_state.get("point", point), share


def _given() -> None:
    st.session_state[GIVEN] = True


def draw(result: StudyResult, release: Release | None) -> None:
    """The choice of both, and what they mean for this study. release: None where it is gone."""
    if release is None:
        html(f"<p class='soft'>{GONE}</p>")
        return
    # Streamlit forgets the state of a widget as soon as another page is drawn without it. What it
    # begins with is a default: a value put into its state is lost where the run is cut short.
    kept, kept_share = st.session_state.get(KEPT, (POINTS[0], PREVALENCE))
    first, first_share = st.session_state.get(FIRST, (kept, kept_share))
    first = first if "point" in st.session_state else kept
    # The slider is forgotten also while a study is shown that it has no figures for.
    first_share = first_share if "prevalence" in st.session_state else kept_share
    st.session_state[FIRST] = first, first_share
    point = st.segmented_control(
        "Operating point",
        POINTS,
        default=first,
        key="point",
        required=True,
        format_func=str.capitalize,
    )
    part = result.body_part
    found = part and performance(release, part, point)
    share = st.session_state.get("prevalence", kept_share)
    if not found:
        html("<p class='soft'>This release has no such operating point for this part.</p>")
    else:
        label = "Share of your patients who have it"
        share = st.slider(
            label,
            1,
            99,
            first_share,
            format="%d %%",
            key="prevalence",
            on_change=_given,
            help="A report has predictive values once you have said it.",
        )
        html(_reading.operating(found, result, share / 100))
    st.session_state[KEPT] = (point, share)
