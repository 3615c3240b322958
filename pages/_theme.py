"""What every page shares: the look, the boundary for errors, and the quiet line at the end."""

from __future__ import annotations

import logging
import re
import secrets
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path

import streamlit as st

from core import words
from core.errors import CascadeError
from pages import _audit, _cascade, _streamlit

log = logging.getLogger(__name__)
STYLE = Path(__file__).with_name("_theme.css")
NO_MODEL = "No model"
REFUSED = "refused"  # in the session: why the last button did nothing
POLL_SECONDS = 1.0
NEWS_SECONDS = 30.0  # how soon a session learns that another release was promoted
_MARKDOWN = re.compile(r"[\\`*_\[\]<>~$&|]")
_SHORTHAND = re.compile(r":(?=\S)")  # Streamlit's own: colours, icons, emoji
WORD_JOINER = "\u2060"  # not seen
RESEARCH_ONLY = "Research use only, not a medical device"


@contextmanager
def frame(title: str, lead: str) -> Iterator[None]:
    """A page: style and heading before the block, boundary around it, quiet line after it.

    The cascade starts to load when all of the page has been drawn.
    """
    _streamlit.through_navigation()
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
    except (CascadeError, OSError) as error:
        notice(sentence(error))
    except Exception:
        number = secrets.token_hex(4)
        log.exception("Unexpected error %s", number, extra={"error": number})
        notice(f"An unexpected error occurred. It is in the log as error {number}.")


def sentence(error: CascadeError | OSError) -> str:
    """What is shown of an error that was expected, and logged.

    Of what the disk refused without the path, which is the server's; a number leads to it. The
    sentence itself is not logged: it may have a file's name, and that a patient's.
    """
    if isinstance(error, CascadeError):
        log.warning("Shown to the reader: %s%s", type(error).__name__, _raised_at(error))
        return str(error)
    number, why = secrets.token_hex(4), error.strerror or type(error).__name__
    log.error("The disk refused, %s", number, exc_info=error, extra={"error": number})
    return (
        f"A file or folder could not be read or written ({why}), so this was not done. It is in "
        f"the log as error {number}."
    )


def _raised_at(error: CascadeError) -> str:
    """Where it came up, " at file:line"; "" for one that was never raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def ask(action: Callable[..., object], *arguments: object) -> None:
    """For a button, which acts outside of any boundary: do it, and keep a refusal for the page."""
    attempt(action, *arguments)


def attempt(action: Callable[..., object], *arguments: object) -> bool:
    """The same for who must know whether it was done."""
    try:
        action(*arguments)
    except (CascadeError, OSError) as error:
        st.session_state[REFUSED] = sentence(error)
        return False
    return True


def refused() -> None:
    """Show what the last button was refused for, once."""
    if said := st.session_state.pop(REFUSED, None):
        notice(said)


@contextmanager
def one_of(views: Iterable[str], chosen: str) -> Iterator[None]:
    """Draw the chosen view of a page, and take away at once what another one has left.

    Each view has a place of its own: in one that they shared, what the old one had drawn would
    stand in the new one's columns until the new one is whole.
    """
    places = {view: st.empty() for view in views}
    with places[chosen].container():
        yield


def plain(text: str) -> str:
    """For a label, which Streamlit reads as Markdown: what a file says, as it stands there."""
    return _SHORTHAND.sub(f":{WORD_JOINER}", _MARKDOWN.sub(r"\\\g<0>", text))


def html(markup: str) -> None:
    """Markup made here; every value inside must have gone through ``html.escape``."""
    st.html(markup)


def style(css: str) -> None:
    """Rules for this state of the page only."""
    st.html(f"<style>{css}</style>")


def notice(sentence: str) -> None:
    """One plain sentence about something that does not work."""
    html(f'<p class="notice" role="alert">{escape(sentence)}</p>')


def percent(value: float, beside: Collection[float] = ()) -> str:
    """``core.words.percent`` as markup that is not broken."""
    return unbroken(words.percent(value, beside))


def unbroken(figure: str) -> str:
    """A figure as markup of one line."""
    return escape(figure).replace(" ", "&nbsp;")


def _footer() -> None:
    try:
        loader = _cascade.loader()
    except CascadeError:  # the page itself says which setting has no meaning
        _line(NO_MODEL)
        return
    every = NEWS_SECONDS if loader.done else POLL_SECONDS
    st.fragment(_model_line, run_every=every)(loader, loader.done)


def _model_line(loader: _cascade.Loader, done: bool) -> None:
    """Redrawn while the cascade loads, and then no more.

    Only the second time does it ask for the cascade: by then the browser has the page, and the
    import of torch does not compete with what the browser still fetches.
    """
    if loader.done and not done:  # asked first: in the page's own run that is at once, and what a
        st.rerun()  # click has just said is not drawn over because of it
    if st.session_state.setdefault("drawn", False):
        loader.start()
        _audit.warm()
    st.session_state["drawn"] = True
    if not loader.done:
        _line("Loading the model")
    elif loader.failure is not None:
        _line(NO_MODEL)
    else:
        cascade = loader.start().result()
        if cascade.trouble:
            html(f"<p class='soft' role='status'>{cascade.trouble}</p>")
        _line(f"Release {cascade.release.id} · {cascade.engine.description}")
        _tell_of_newer()


def _tell_of_newer() -> None:
    """A session keeps the release that it began with, and learns that there is another."""
    if not (newer := _cascade.newer()):
        return
    with st.container(key="newer", horizontal=True, vertical_alignment="center"):
        html(
            f"<p class='soft' role='status'>Release {escape(newer)} is in use now. This "
            "session keeps the one it began with.</p>"
        )
        # By a callback, which runs before anything that may ask for another run and lose the click.
        if st.button("Use the new release", key="use-newer", on_click=_cascade.change):
            st.rerun()


def _line(model: str) -> None:
    html(f'<footer class="quiet">{escape(model)} · {RESEARCH_ONLY}</footer>')
