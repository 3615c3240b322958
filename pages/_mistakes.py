"""The worst mistakes of an evaluation, with their pictures where they are on this machine."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from core import words
from core.errors import CascadeError
from core.settings import Settings
from pages import _reading, _theme
from pages._theme import percent
from training.measured import Measured, code

MOST = 12
A_ROW = 4
SIDE = 512
NO_PICTURES = (
    "The pictures are not on this server: register the data set under Training, Data sets."
)
AMBIGUOUS = ""  # in the place of a path


def worst(scores: pd.DataFrame, most: int = MOST) -> pd.DataFrame:
    """The labelled pictures whose probability is farthest from the label, the farthest first."""
    known = scores[scores.positive.notna() & scores.probability.notna()]
    error = (known.probability - known.positive).abs()
    return known.assign(error=error).sort_values("error", ascending=False, kind="stable").head(most)


def gallery(chosen: Measured) -> None:
    """A tile a picture: what was said, what the label is, and the picture if it is here. Where none
    of them is, the table alone."""
    from pages._figures import NO_ROWS

    scores = chosen.scores()
    if scores is None:
        _theme.notice(NO_ROWS)
        return
    rows = worst(scores)
    paths = _paths(chosen)
    if all(paths.get((str(row.source), str(row.id))) is None for row in rows.itertuples()):
        _theme.html(f"<p class='soft'>{NO_PICTURES}</p>")
        _table(rows)
        return
    _theme.html(
        "<p class='soft'>The label may be wrong, not the model: look at the picture first.</p>"
    )
    for start in range(0, len(rows), A_ROW):
        for place, row in zip(st.columns(A_ROW), rows.iloc[start : start + A_ROW].itertuples()):
            with place, _theme.boundary():
                _tile(row, paths.get((str(row.source), str(row.id))))
    with st.expander("As a table"):
        _table(rows)


def _table(rows: pd.DataFrame) -> None:
    shown = rows.assign(
        probability=[words.percent(p) for p in rows.probability],
        finding=rows.finding.map({f.value: word for f, word in _reading.WORDS.items()}),
        label=rows.positive.map({1.0: "positive", 0.0: "negative"}),
    )[["part", "probability", "finding", "label", "source", "id"]]
    shown = shown.rename(columns=str.capitalize)
    st.dataframe(shown, hide_index=True, width="stretch", height="content")


def _tile(row: Any, path: str | None) -> None:
    """row: of ``itertuples``, with the columns of ``Measured.scores``."""
    with st.container(key=f"mistake-{row.source}-{row.id}"):
        if not path:
            why = (
                "Not on this machine"
                if path is None
                else "Two data sets have a picture of this name"
            )
            _theme.html(f"<div class='thumb'>{why}</div>")
        else:
            _picture(path)
    label = "positive" if row.positive == 1 else "negative"
    _theme.html(
        f"<p class='soft'><b>{escape(str(row.part)).capitalize()}</b>: {percent(row.probability)}, "
        f"label {label}<br>{escape(str(row.source))} {escape(str(row.id))}</p>"
    )


def _picture(path: str) -> None:
    """Through the decode boundary, and only from a folder that may be read."""
    from core import roots
    from core.transforms import Preprocessing, to_canvas
    from training.data import read_picture

    settings = Settings.from_environment()
    try:
        found = roots.resolve(path, (*settings.roots, settings.home / "images"))
        radiograph = read_picture(found, settings.limits)
    except CascadeError as error:
        _theme.html(f"<div class='thumb'>{escape(str(error))}</div>")
        return
    st.image(to_canvas(radiograph.pixels, Preprocessing(size=SIDE)), width="stretch")


def _paths(chosen: Measured) -> dict[tuple[str, str], str]:
    """Where the pictures lie, by source and id: of the data of the run that was measured, and of
    the registered; AMBIGUOUS where two of the latter mean two pictures by one name."""
    from pages._configure import registered

    own: list[str] = []
    if chosen.folder is not None:
        try:
            job = json.loads((chosen.folder.parent / "job.json").read_text(encoding="utf-8"))
            own = [*job["settings"]["data"]]
        except (OSError, ValueError, KeyError):
            pass
    others = [d.specification for d in registered().all()]
    return _together(others) | _together(own)


def _together(specifications: list[str]) -> dict[tuple[str, str], str]:
    """A picture of another patient beside a mistake would be worse than none."""
    found: dict[tuple[str, str], str] = {}
    for listed in map(_listed, dict.fromkeys(specifications)):
        twice = {name for name in listed.keys() & found.keys() if listed[name] != found[name]}
        found |= listed | dict.fromkeys(twice, AMBIGUOUS)
    return found


@st.cache_data(ttl=600, max_entries=4, show_spinner="Looking for the pictures.")
def _listed(specification: str) -> dict[tuple[str, str], str]:
    """Paths of one data set; empty where it is not here any more."""
    from training.data import DataInvalid, gather

    try:
        rows = gather([specification])
    except (OSError, DataInvalid):
        return {}
    known = zip(rows.source, rows.id, rows.path)
    return named({(str(s), str(i)): str(Path(p).absolute()) for s, i, p in known})


def named(paths: dict[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """By the code of a picture too, as the rows that came with a release have it."""
    return paths | {(s, code(s, i)): path for (s, i), path in paths.items()}
