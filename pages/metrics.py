"""The page Metrics: how good a release or a run is, and on whom."""

from __future__ import annotations

import streamlit as st

from core.errors import WeightsInvalid
from core.registry import Registry
from core.settings import Settings
from pages import _figures, _mistakes, _theme
from training.measured import Measured, caution, evaluations

LEAD = "Every figure with its interval, by image and by study, on the split that it names."


def body() -> None:
    """Choose what was measured, then one kind of view of it at a time."""
    settings = Settings.from_environment()
    try:
        registry = Registry.open(settings.weights)
    except WeightsInvalid as error:
        _theme.notice(str(error))
        registry = None
    found = evaluations(registry, settings.home / "runs")
    if not found:
        _theme.html(
            "<p class='lead'>Nothing has been measured yet. Evaluate a finished run on the page "
            "<b>Training</b>, or run <code>python -m training evaluate --out</code>.</p>"
        )
        return
    what, how = st.columns([2, 3], vertical_alignment="bottom")
    by_name = {e.name: e for e in found}
    chosen = by_name[what.selectbox("Release or run", list(by_name))]
    view = how.segmented_control(
        "View", list(VIEWS), default="Figures", required=True, key="metrics-view"
    )
    _about(chosen)
    with _theme.one_of(VIEWS, view):
        VIEWS[view](chosen)


def _about(chosen: Measured) -> None:
    m = chosen.metrics
    _theme.html(
        f"<p class='soft'>Split “{m.get('split')}” ({str(m.get('split_sha256'))[:12]}), weights "
        f"{str(m.get('release_sha256'))[:12]}, {m.get('device')}; 95 % intervals from "
        f"{m.get('draws')} bootstrap draws over patients.</p>"
    )
    if warning := caution(m):
        _theme.notice(warning)


VIEWS = {
    "Figures": _figures.table,
    "Curves": _figures.curves,
    "Threshold": _figures.threshold_explorer,
    "Body part": _figures.body_part,
    "Heatmaps": _figures.heatmaps,
    "Mistakes": _mistakes.gallery,
}

with _theme.frame("Metrics", LEAD):
    body()
