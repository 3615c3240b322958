"""A photograph of a film on the page: what was photographed, with corners that can be moved."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import streamlit as st

from core import film
from core.film import Wish
from core.manifest import Release
from core.operating import photographed
from core.settings import ImageLimits
from core.types import ImageResult
from pages._reading import estimate
from pages._scoring import Session
from pages._sources import Source
from pages._theme import html
from pages._viewer import FOLDER as VIEWER
from pages._viewer import Prepared, framed

FOLDER = Path(__file__).with_name("film")


def question(source: Source, prepared: Prepared, memory: Session) -> None:
    """Of a picture that was read as it is and may be a photograph: ask, once; else nothing.

    Where the middle was taken there is no such question, and the way back stands ``beside`` it.
    """
    if source.id in memory.ways or not memory.suspected(source, prepared):
        return
    with st.container(key="film-question", horizontal=True, vertical_alignment="center"):
        taken = prepared.radiograph.photograph
        if taken is not None and taken.guessed:
            html(
                "<p class='caution' role='status'>No film was clearly found in this photograph, so "
                "its middle was used. Please move the corners to those of the film.</p>"
            )
        else:
            html(
                "<p class='caution' role='status'>This looks like a photograph of a film. "
                "Straighten it?</p>"
            )
            _choice("Straighten", source, memory, Wish.PHOTOGRAPH)
            _choice("Leave it as it is", source, memory, Wish.AS_TAKEN)


def by_hand(source: Source, result: ImageResult, memory: Session) -> None:
    """For a picture that nothing gave away: the reader says that it is a photograph."""
    if result.photograph is None or result.photograph.corners is None:
        _choice("This is a photograph of a film", source, memory, Wish.PHOTOGRAPH)


def beside(source: Source, result: ImageResult, memory: Session, limits: ImageLimits) -> None:
    """The photograph with the corners of what was cut out of it, and the way back."""
    taken = result.photograph
    if taken is None or taken.corners is None:
        return

    photograph, shape = memory.taken(source, limits)
    memory.filmed[source.id] = shape

    def moved() -> None:
        event = st.session_state["film"].get("event")
        if not isinstance(event, dict):
            return
        # It may be of the photograph before this one: what keys do is told a moment later.
        whose = str(event.get("id"))
        if (its := memory.filmed.get(whose)) is None:
            return
        given = film.checked(event.get("corners"), its, limits.min_side)
        if given is not None:
            _go(whose, memory, given)

    header = {
        "id": source.id,
        "corners": [list(c) for c in taken.corners],
        **bounds(shape, limits),
        "alt": "The photograph as it was taken, with the film's corners",
    }
    message = framed(header, [photograph])
    _component()(key="film", data=message, on_event_change=moved)
    with st.container(horizontal=True):
        _choice("Find the film again", source, memory, Wish.PHOTOGRAPH)
        _choice("Read it without straightening", source, memory, Wish.AS_TAKEN)


def bounds(shape: tuple[int, int], limits: ImageLimits) -> dict[str, Any]:
    """What the browser holds corners against, so that ``film.checked`` takes what it takes.

    shape: (height, width) of the photograph. smallest: share of it. least, longest: in pixels, of
    the mean sides; what is cut out has sides that differ from these by at most STRETCH.
    """
    return {
        "smallest": film.SMALLEST,
        "size": [shape[1], shape[0]],
        "least": limits.min_side * film.STRETCH,
        "longest": film.LARGEST / film.STRETCH,
    }


def mark(release: Release) -> str:
    """ "From a photograph", with what was measured of results from photographs, as markup."""
    found = photographed(release)
    if found is None:
        said = "The reliability of such results was not measured for this release."
    else:
        share, n = found
        said = (
            "On simulated photographs the finding was the same as on the radiograph itself in "
            f"{estimate(share)} of {n}."
        )
    return f"<p class='caution'><b>From a photograph.</b> {said}</p>"


def _choice(label: str, source: Source, memory: Session, way: film.Way) -> None:
    key = f"film-{label.split(maxsplit=1)[0].lower()}-{source.id}"
    st.button(label, key=key, on_click=_go, args=(source.id, memory, way))


def _go(source: str, memory: Session, way: film.Way) -> None:
    memory.ways[source] = way
    st.session_state["leave"] = True


@functools.cache
def _component() -> Any:
    scripts = [VIEWER / "calls.js", VIEWER / "decode.js", FOLDER / "film.js"]
    return st.components.v2.component(
        "film",
        html=(FOLDER / "film.html").read_text(encoding="utf-8"),
        css=(FOLDER / "film.css").read_text(encoding="utf-8"),
        js="\n".join(path.read_text(encoding="utf-8") for path in scripts),
    )
