"""Which view of a study is looked at, and the strip to choose it from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from pages import _theme


def position(study: str, positions: Sequence[int]) -> int:
    """The view that is looked at: one of the positions, the first of them at first."""
    chosen: int | None = st.session_state.get(f"view-{study}")
    return chosen if chosen is not None and chosen in positions else positions[0]


def go(study: str, there: int) -> None:
    st.session_state[f"view-{study}"] = there


def strip(study: str, positions: Sequence[int], label: Callable[[int], str]) -> None:
    """Draw the strip. label: a view in words, by its position.

    Buttons, and no control that has a value: a browser sends the values of its controls with
    whatever it sends, and where a key has moved the view since it was drawn, that is an old one
    which would move it back.
    """
    there = position(study, positions)
    with st.container(key="strip", horizontal=True, gap=None):
        for one in positions:
            st.button(
                _theme.plain(label(one)),
                key=f"view-{study}-{one}",
                type="primary" if one == there else "secondary",
                on_click=go,
                args=(study, one),
            )
