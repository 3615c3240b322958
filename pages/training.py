"""The page Training: data sets, new runs, and the runs as they go."""

from __future__ import annotations

from collections import Counter
from functools import partial

import streamlit as st

from pages import _configure, _curves, _runs, _theme
from training import curves, look

LEAD = (
    "Retrain the cascade. Each run is a process of its own and continues when this page is closed."
)
VIEWS = ("Runs", "New run", "Compare", "Data sets")


def body() -> None:
    """One view at a time, so that only what is looked at is drawn."""
    state = st.session_state
    view = st.segmented_control(
        "View",
        VIEWS,
        default=state.get("view", VIEWS[0]),
        key=f"view-{state.get('view-turn', 0)}",
        required=True,
        label_visibility="collapsed",
    )
    state["view"] = view
    with _theme.one_of(VIEWS, view):
        if view == "New run":
            _theme.refused()
            _configure.new_run()
        elif view == "Compare":
            _compare()
        elif view == "Data sets":
            _configure.data_sets()
        else:
            _runs.listed()


def _compare() -> None:
    """Runs laid over each other, smoothed, and all of it as CSV."""
    records = _runs.queue().records()
    tables = {r.id: _runs.history(r.folder) for r in records}
    names = {r.id: f"{r.job.name} ({r.id[:15]})" for r in records if tables[r.id] is not None}
    twice = [n for n, count in Counter(names.values()).items() if count > 1]
    names = {i: f"{n}, {i}" if n in twice else n for i, n in names.items()}
    if not names:
        _theme.html("<p class='lead'>No run has been validated yet.</p>")
        return
    which, what, how = st.columns([4, 2, 2])
    chosen = which.multiselect(
        "Runs", list(names), list(names)[:3], format_func=lambda run: names.get(run, run)
    )
    found = {names[i]: t for i in chosen if (t := tables[i]) is not None}
    columns = list(dict.fromkeys(h for t in found.values() for h in curves.figures(t)))
    figure = what.selectbox("Figure", [_curves.SCORE, _curves.LOSS, _curves.RATE, *columns])
    smoothing = how.slider("Smoothing", 0.0, 0.95, 0.0, 0.05)
    if not found:
        return
    drawn = _curves.overlay(found, figure, smoothing)
    drawn.update_layout(height=460)
    st.plotly_chart(drawn, key="overlay", config=look.CONFIG, theme=None)
    import pandas as pd

    from core.spreadsheet import harmless  # a run's name is a person's words

    each = [t.assign(run=harmless(name)) for name, t in found.items()]
    whole = pd.concat(each, ignore_index=True)
    with st.expander("As a table"):
        st.dataframe(whole, hide_index=True, width="stretch")
    data = partial(whole.to_csv, index=False)
    st.download_button("CSV", data, "runs.csv", "text/csv", on_click="ignore")


with _theme.frame("Training", LEAD):
    body()
