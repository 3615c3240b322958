"""What every page shares: the look, the boundary for errors, and the quiet line at the end."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from core.errors import CascadeError
from pages import _cascade

if TYPE_CHECKING:
    from core.cascade import Cascade

log = logging.getLogger(__name__)
STYLE = Path(__file__).with_name("_theme.css")
RESEARCH_ONLY = "Research use only, not a medical device"


@contextmanager
def frame(title: str, lead: str) -> Iterator[None]:
    """A page: style and heading before the block, boundary around it, quiet line after it.

    The cascade starts to load when all of the page is drawn.
    """
    st.html(STYLE)
    html(f'<header class="page"><h1>{escape(title)}</h1><p>{escape(lead)}</p></header>')
    with boundary():
        yield
    with boundary():
        _footer()


@contextmanager
def boundary() -> Iterator[None]:
    """The one place where an unexpected error stops: logged with its trace, shown as a sentence."""
    try:
        yield
    except CascadeError as error:
        log.warning("Shown to the reader: %s", error)
        notice(str(error))
    except Exception:
        number = secrets.token_hex(4)
        log.exception("Unexpected error %s", number)
        notice(f"Something went wrong and was not expected. It is in the log as error {number}.")


def html(markup: str) -> None:
    """Markup made here; every value inside must have gone through ``html.escape``."""
    st.html(markup)


def style(css: str) -> None:
    """Rules for this state of the page only."""
    st.html(f"<style>{css}</style>")


def notice(sentence: str) -> None:
    """One plain sentence about something that does not work."""
    html(f'<p class="notice" role="alert">{escape(sentence)}</p>')


def percent(value: float) -> str:
    """A probability in [0, 1] as a whole per cent; never 0 or 100 for what is not certain."""
    if 0 < value < 0.005:
        return "&lt;1&nbsp;%"
    if 0.995 <= value < 1:
        return "&gt;99&nbsp;%"
    return f"{100 * value:.0f}&nbsp;%"


def _footer() -> None:
    """Start the cascade, now that the page is drawn, and say what it is."""
    try:
        future = _cascade.loader().start()
    except CascadeError:  # the page itself says which setting has no meaning
        _footer_line(None)
        return
    waiting = not future.done()
    st.fragment(_footer_line, run_every=0.5 if waiting else None)(future, waiting)


def _footer_line(future: Future[Cascade] | None, waiting: bool = False) -> None:
    """Redrawn twice a second while the cascade loads, and then no more."""
    if future is not None and waiting and future.done():
        st.rerun()
    html(f'<footer class="quiet">{escape(_model(future))} · {RESEARCH_ONLY}</footer>')


def _model(future: Future[Cascade] | None) -> str:
    if future is not None and not future.done():
        return "Loading the model"
    if future is None or future.exception() is not None:
        return "No model"
    cascade = future.result()
    return f"Release {cascade.release.id} · {cascade.device.description}"
