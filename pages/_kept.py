"""What a reader set in a widget, kept in the session while other pages are looked at.

Streamlit forgets the state of a widget as soon as a page is drawn without it. What the widget
begins with is given as its default: a value put into its state is lost where the run is cut short.
"""

from __future__ import annotations

from typing import Any, TypeVar

import streamlit as st

T = TypeVar("T")
KEPT, FIRST = "kept", "kept-first"


def first(key: str, default: T) -> T:
    """What the widget of that key begins with; the same for as long as it is on the page."""
    begun: dict[str, Any] = st.session_state.setdefault(FIRST, {})
    if key not in st.session_state or key not in begun:
        begun[key] = st.session_state.setdefault(KEPT, {}).get(key, default)
    value: T = begun[key]
    return value


def keep(key: str, value: T) -> T:
    """Note what the widget says; it is returned as it is."""
    st.session_state.setdefault(KEPT, {})[key] = value
    return value


def said(key: str, default: T) -> T:
    """What it says now, or said last, wherever on the page it is drawn."""
    kept = st.session_state.get(KEPT, {}).get(key, default)
    value: T = st.session_state.get(key, kept)
    return value
