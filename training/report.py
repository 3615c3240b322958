"""The figures of an evaluation in one HTML page that needs no network."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core import files
from core.manifest import Release
from core.types import BodyPart
from training import figures, measured, plots
from training.look import BACK, CONFIG, FONT, INK, LINE, PANEL, SOFT
from training.metrics import FEWEST_OF_A_CLASS
from training.plots import WORDS

if TYPE_CHECKING:
    import plotly.graph_objects as go

Key = tuple[str, str, str]
_AT_A_GLANCE: dict[str, Key] = {
    "AUROC": ("fracture", "image", "auroc"),
    "AUROC, study": ("fracture", "study", "auroc"),
    "Accuracy (balanced)": ("fracture", "image", "accuracy (balanced)"),
    "Always the commoner label": ("fracture", "image", "accuracy of the majority class"),
    "Known-patient baseline (memoriser)": ("memoriser", "image", "accuracy"),
    "Kappa (balanced), study": ("fracture", "study", "kappa (balanced)"),
    "Calibration error (ECE)": ("fracture", "image", "ece"),
}
# The labels that a figure rests on: with fewer than FEWEST_OF_A_CLASS of one it is not written.
_RESTS_ON = {
    "auroc": ("positive", "negative"),
    "sensitivity": ("positive",),
    "specificity": ("negative",),
}


def at_a_glance(records: list[dict[str, Any]]) -> pd.DataFrame:
    """The chief figures on all real radiographs, a row a part, with how many images they are of;
    without the columns that no part has."""
    found: dict[str, dict[str, str]] = {}
    names = {key: name for name, key in _AT_A_GLANCE.items()}
    for r in records:
        name = names.get((r["stage"], r["level"], r["metric"]))
        if r["source"] == "all" and name is not None:
            row = found.setdefault(r["part"], {})
            row[name] = _unless_few(r)
            if name == "AUROC":
                row |= _counts(r)
    table = _table(found.values(), [*_AT_A_GLANCE, *_COUNTS])
    return table.set_index(pd.Index(list(found), name="Part", dtype=object))


_COUNTS = ("n", "Positive")
_OF_KIND: dict[str, tuple[str, str]] = {
    "Body part right": ("body_part", "accuracy"),
    "AUROC": ("fracture", "auroc"),
    "Sensitivity (balanced)": ("fracture", "sensitivity (balanced)"),
    "Specificity (balanced)": ("fracture", "specificity (balanced)"),
}


def by_kind(records: list[dict[str, Any]]) -> pd.DataFrame:
    """The chief figures by view and by metal in the picture, by image, at the balanced point.

    A row a part and kind of picture; empty where the data set told neither. Without the columns
    that no row has.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    for r in records:
        if not r["source"].startswith((figures.VIEW, figures.METAL, figures.NO_METAL)):
            continue
        row = found.setdefault((r["part"], r["source"]), _counts(r))
        row |= {k: _unless_few(r) for k, v in _OF_KIND.items() if v == (r["stage"], r["metric"])}
    rows = [{"Part": part, "Pictures": kind, **row} for (part, kind), row in found.items()]
    return _table(rows, ["Part", "Pictures", *_OF_KIND, *_COUNTS])


def _table(rows: Iterable[dict[str, str]], columns: list[str]) -> pd.DataFrame:
    """Without the columns that are empty throughout."""
    rows = list(rows)
    filled = [c for c in columns if any(row.get(c) for row in rows)]
    return pd.DataFrame([[row.get(c, "") for c in filled] for row in rows], columns=filled)


def _counts(r: dict[str, Any]) -> dict[str, str]:
    """Of how many pictures a figure is, and how many are positive where that is known."""
    return {"n": str(r["n"]), "Positive": str(r.get("positives", ""))}


def _unless_few(r: dict[str, Any]) -> str:
    """``_text``, or that the figure rests on too few pictures to be read as one."""
    if (positives := r.get("positives")) is not None:
        known = {"positive": positives, "negative": r["n"] - positives}
        for label in _RESTS_ON.get(r["metric"].partition(" (")[0], ()):
            if known[label] < FEWEST_OF_A_CLASS:
                return f"too few ({known[label]} {label})"
    return _text(r)


def _text(r: dict[str, Any]) -> str:
    """``0.830 [0.781, 0.872]``; a figure read from metrics.json has None where it has no value, or
    no interval."""
    value, low, high = (r[k] for k in ("value", "low", "high"))
    if value is None or np.isnan(value):
        return "not defined"
    if low is None or np.isnan(low):
        return f"{value:.3f} (no interval)"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def all_figures(records: list[dict[str, Any]]) -> pd.DataFrame:
    """Every record as a row of text."""
    columns = ("stage", "part", "source", "level", "metric")
    said = [{**r, "metric": WORDS.get(r["metric"], r["metric"])} for r in records]
    rows = [[*(str(r[c]) for c in columns), _text(r), str(r["n"])] for r in said]
    return pd.DataFrame(rows, columns=[*columns[:4], "figure", "value [95 % interval]", "n"])


def _html_table(table: pd.DataFrame) -> str:
    head = "".join(f"<th>{escape(str(c))}</th>" for c in table.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(v))}</td>" for v in row) + "</tr>"
        for row in table.itertuples(index=False)
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


# Nothing is fetched from anywhere, whatever stands in the page.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
_STYLE = f"""
:root {{ color-scheme: dark; overflow-y: scroll; }}
body {{ background: {BACK}; color: {INK}; font: 15px/1.5 {FONT}; margin: 0 auto; padding: 2rem;
  max-width: 1280px; font-variant-numeric: tabular-nums; }}
h1 {{ font-size: 1.35rem; font-weight: 600; margin: 0; }}
h2 {{ font-size: 1.1rem; font-weight: 600; margin: 2.4rem 0 .6rem; padding-top: 1rem;
  border-top: 1px solid {LINE}; }}
h3 {{ font-size: .95rem; font-weight: 600; margin: 0; padding: .8rem 1rem 0; color: {SOFT}; }}
p {{ max-width: 52rem; margin: .4rem 0; }} .soft, footer {{ color: {SOFT}; }}
.plots {{ display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 1rem; }}
@media (max-width: 960px) {{ .plots {{ grid-template-columns: minmax(0, 1fr); }} }}
section {{ background: {PANEL}; border: 1px solid {LINE}; border-radius: 4px; min-width: 0; }}
.wide {{ overflow-x: auto; }} table {{ border-collapse: collapse; font-size: .87rem; }}
th, td {{ text-align: left; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid {LINE};
  white-space: nowrap; }} th {{ color: {SOFT}; font-weight: 400; }}
summary {{ cursor: pointer; margin: 2.4rem 0 .6rem; }}
footer {{ border-top: 1px solid {LINE}; margin-top: 2.4rem; padding-top: .6rem;
  font-size: .82rem; }}
"""
_LEGEND = (
    "Intervals are 95 %, from resampling patients; figures of too few patients have none. The "
    "memoriser recalls a patient's label from training and sees no pixels: where splits share no "
    "patient it knows only the majority label. "
    "By study: what the program says of one, the mean of the views that it recognised as the part, "
    "of the worse side where the files name both; of all views where it recognised most as another "
    "part or none. The operating points were chosen by image, and are marked on the curve by "
    "image. A positive label means "
)


def page(
    scored: pd.DataFrame, records: list[dict[str, Any]], about: dict[str, Any], release: Release
) -> str:
    """The whole page. scored, records and about as ``training.evaluation`` makes them."""
    from plotly.offline import get_plotlyjs

    matrix = figures.confusion(scored)
    parts = "".join(_part(plots.real(scored, p), p, release, records) for p in release.parts)
    body_part = _panel("Confusion matrix of stage 1", plots.confusion(matrix))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Evaluation of {escape(release.id)}</title><style>{_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body>{_heading(about, release)}"
        f"{_html_table(at_a_glance(records).reset_index())}{_by_kind(records)}"
        f"<h2>Body part</h2>{body_part}{parts}"
        f"<details><summary>All figures ({len(records)})</summary>"
        f"{_html_table(all_figures(records))}</details>"
        f"<footer>Release {escape(release.id)} · {escape(str(about['device']))} · "
        "research use only, not a medical device</footer></body></html>"
    )


def _by_kind(records: list[dict[str, Any]]) -> str:
    table = by_kind(records)
    return "" if table.empty else f"<h2>By view and by metal</h2>{_html_table(table)}"


def _heading(about: dict[str, Any], release: Release) -> str:
    meaning = "; ".join(
        f"{release.stages[p].label_means or 'not stated'} ({p})" for p in release.parts
    )
    warning = measured.caution(about)
    return (
        f"<h1>Evaluation of release {escape(release.id)} on the {escape(about['split'])} split</h1>"
        f'<p class="soft">Split {escape(about["split_sha256"][:12])}, weights '
        f"{escape(about['release_sha256'][:12])}, {about['draws']} bootstrap draws.</p>"
        f"{f'<p>{escape(warning)}</p>' if warning else ''}"
        f"<p>{escape(_LEGEND + meaning)}.</p>"
    )


def _part(
    rows: pd.DataFrame, part: BodyPart, release: Release, records: list[dict[str, Any]]
) -> str:
    head = f"<h2>{part.capitalize()}</h2>"
    if rows.empty:
        return f'{head}<p class="soft">There is no labelled real radiograph of this body part.</p>'
    drawn = plots.of_part(rows, release, part, records)
    panels = "".join(_panel(title, figure) for title, figure in drawn.items())
    return f'{head}<div class="plots">{panels}</div>'


def _panel(title: str, figure: go.Figure) -> str:
    config = CONFIG | {"responsive": True}
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config=config)
    return f"<section><h3>{escape(title)}</h3>{drawn}</section>"


def write(
    folder: Path,
    scored: pd.DataFrame,
    records: list[dict[str, Any]],
    about: dict[str, Any],
    release: Release,
) -> Path:
    """``report.html`` in the folder; see ``page``."""
    text = page(scored, records, about, release)
    path = folder / "report.html"
    files.write_atomically(path, lambda p: p.write_text(text, encoding="utf-8"))
    return path
