"""The operating point that the reader works at, and the share of patients who have it.

Both belong to the session, not to a page: what is chosen on one is there on the next. The share is
said for each body part by itself: that of elbows says nothing of shoulders.
"""

from __future__ import annotations

import streamlit as st

from core.manifest import Release
from core.operating import performance
from core.report import GONE
from core.study import StudyResult
from core.types import POINTS, BodyPart
from pages import _kept, _reading
from pages._theme import html

PREVALENCE = 20  # per cent, where the slider stands until the reader moves it
GIVEN = "operating-given"  # in the session: the parts for which the reader said how many


def chosen(part: BodyPart | None) -> tuple[str, float | None]:
    """(name of the operating point, prevalence of the part in [0, 1]); None until the reader said
    one."""
    share = _kept.said(f"prevalence-{part}", PREVALENCE) / 100
    return _kept.said("point", POINTS[0]), share if part in _given() else None


def _given() -> set[str]:
    given: set[str] = st.session_state.setdefault(GIVEN, set())
    return given


def _give(part: BodyPart) -> None:
    """Kept here, as the study that is drawn next may have no figures, and so no slider."""
    _kept.keep(f"prevalence-{part}", st.session_state[f"prevalence-{part}"])
    _given().add(part)


def draw(result: StudyResult, release: Release | None) -> None:
    """The choice of both, and what they mean for this study, folded. release: None where it is
    gone."""
    with st.expander("Sensitivity and predictive values"):
        _draw(result, release)


def _draw(result: StudyResult, release: Release | None) -> None:
    if release is None:
        html(f"<p class='soft'>{GONE}</p>")
        return
    point = st.segmented_control(
        "Operating point",
        POINTS,
        default=_kept.first("point", POINTS[0]),
        key="point",
        required=True,
        format_func=str.capitalize,
    )
    _kept.keep("point", point)
    part = result.body_part
    found = part and performance(release, part, point)
    if part is None or not found:
        html("<p class='soft'>This release has no such operating point for this body part.</p>")
    else:
        st.slider(
            f"Prevalence among your patients ({part.words})",
            1,
            99,
            _kept.first(f"prevalence-{part}", PREVALENCE),
            format="%d %%",
            key=f"prevalence-{part}",
            on_change=_give,
            args=(part,),
            help="The report shows predictive values only after you set this.",
        )
        _, prevalence = chosen(part)
        html(_reading.operating(found, result, prevalence))
