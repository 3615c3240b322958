"""The page Releases: which there are, which is in use, and what changes between two of them."""

from __future__ import annotations

import streamlit as st

from core.errors import WeightsInvalid
from core.settings import Settings
from pages import _shelf, _theme
from training import catalogue

LEAD = "Which model is in use, how good it is, and how to promote another one or roll back."
VIEWS = {"Releases": _shelf.listed, "Compare": _shelf.compare, "Add": _shelf.add}


def body() -> None:
    """The list and what can be done, one view at a time."""
    settings = Settings.from_environment()
    view = st.segmented_control(
        "View", list(VIEWS), default="Releases", required=True, key="releases-view",
        label_visibility="collapsed",
    )  # fmt: skip
    _theme.refused()
    if sentence := st.session_state.pop("done", None):
        _theme.html(f"<p class='soft' role='status'>{sentence}</p>")
    try:
        releases = catalogue.listing(settings.weights)
    except WeightsInvalid as error:
        _theme.notice(str(error))
        releases = []
    with _theme.one_of(VIEWS, view):
        VIEWS[view](settings, releases)


with _theme.frame("Releases", LEAD):
    body()
