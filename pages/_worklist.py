"""The worklist as the pages share it: one store, the reader's name, and "Add to worklist"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import streamlit as st

from core.settings import Settings
from pages import _theme

if TYPE_CHECKING:
    from core.registry import Release
    from core.store import Store
    from core.study import StudyResult

PURGE_SECONDS = 3600
NAME = "Your name or initials"


def store() -> Store:
    """The store that all sessions share; what is past its time is removed once an hour.

    Raises StoreUnavailable, SettingsInvalid.
    """
    _purge()
    return _opened()


@st.cache_resource(show_spinner=False)
def _opened() -> Store:
    from core.store import Store

    return Store.open(Settings.from_environment())


@st.cache_data(show_spinner=False, ttl=PURGE_SECONDS)
def _purge() -> int:
    return _opened().purge()


def reader() -> str:
    """Who reads in this session, as the decisions and the audit name them; "" if nobody said."""
    return str(st.session_state.get("reader", "")).strip()


def ask_reader(key: str) -> None:
    """A field for the reader's name; every page of the session knows it afterwards."""

    def keep() -> None:
        st.session_state["reader"] = st.session_state[key]

    st.text_input(
        NAME,
        value=reader(),
        key=key,
        max_chars=60,
        on_change=keep,
        help="Stands beside your decisions, in the audit and in the exports.",
    )


def add(
    title: str,
    result: StudyResult,
    release: Release,
    pictures: Callable[[], Mapping[str, bytes]],
    key: str,
    disabled: bool = False,
) -> None:
    """Draw "Add to worklist" for one study, as `Store.add_study` takes it.

    pictures: the encoded files by SHA-256, asked for only when the study is added; from then on
    they are kept on disk. key: tells this button from those of other studies. disabled: shows that
    it can be done later.
    """
    done = f"on-worklist-{key}"
    if st.session_state.get(done):
        _theme.html("<p class='soft'>On the worklist: see the page Review.</p>")
        return
    if reader():
        place = st.container()
    else:
        place = st.popover("Add to worklist", width="stretch", disabled=disabled)
    with place, _theme.boundary():
        label = "Add to worklist"
        if not reader():
            ask_reader(f"reader-{key}")
            label = "Add"
        if st.button(label, key=f"add-{key}", width="stretch", disabled=disabled) and reader():
            store().add_study(title, result, release, pictures(), reader())
            st.session_state[done] = True
            st.rerun()
