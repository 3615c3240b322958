"""Curves of runs: one as it goes, or several laid over each other."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages._plot import COLOURS, figure
from training.curves import CHANGE, TRAINING, figures, kind_of, label_of
from training.look import CONFIG, SOFT

LOSS, RATE, SCORE = "loss", "rate", "score"


def draw(table: pd.DataFrame, key: str) -> None:
    """Loss, accuracy and AUROC of training and validation by branch, the learning rate, and how
    far logits change when a picture is cropped, where that was measured."""
    by_kind: dict[str, list[str]] = {"accuracy": [], "AUROC": [], "moved": []}
    for head in figures(table):
        by_kind[kind_of(head)].append(head)
    groups = {
        "Training loss": [LOSS],
        "Accuracy of stage 1": by_kind["accuracy"],
        "AUROC of each part": by_kind["AUROC"],
        "Learning rate": [RATE],
    }
    if by_kind["moved"]:
        groups[CHANGE] = by_kind["moved"]
    places = [place for _ in range(0, len(groups), 2) for place in st.columns(2)]
    for place, (title, names) in zip(places, groups.items()):
        with place:
            st.plotly_chart(
                _single(table, title, names), key=f"{title}-{key}", config=CONFIG, theme=None
            )
    with st.expander("As a table"):
        st.dataframe(table, hide_index=True, width="stretch", height=260)
        st.download_button(
            "CSV", partial(table.to_csv, index=False), "history.csv", "text/csv", on_click="ignore",
            key=f"history-{key}",
        )  # fmt: skip


def _single(table: pd.DataFrame, title: str, names: list[str]) -> go.Figure:
    shares = title.startswith(("Accuracy", "AUROC"))
    made = figure("pictures seen", title, share=shares)
    for number, name in enumerate(names):
        colour = COLOURS[number % len(COLOURS)]
        label = label_of(name)
        if shares and f"{TRAINING}{name}" in table:
            _line(made, table, f"{TRAINING}{name}", f"{label}, training", colour, "dot")
        _line(made, table, name, f"{label}, validation" if shares else label, colour, "solid")
    if not shares:
        made.update_yaxes(rangemode="tozero")
    for phase, rows in table.groupby("phase", sort=False):
        made.add_vline(
            x=rows.total.min(),
            line={"color": SOFT, "width": 0.5},
            annotation={
                "text": str(phase).replace("_", " "),
                "font": {"color": SOFT, "size": 10},
                "xanchor": "left",
            },
        )
    return made


def _line(
    made: go.Figure, table: pd.DataFrame, column: str, name: str, colour: str, dash: str
) -> None:
    rows = table[table[column].notna()]
    line = {"color": colour, "dash": dash, "width": 2}
    made.add_trace(
        go.Scatter(x=rows.total, y=rows[column], name=name, mode="lines+markers", line=line)
    )


def overlay(tables: Mapping[str, pd.DataFrame], column: str, smoothing: float) -> go.Figure:
    """One figure of several runs. smoothing: weight of what came before, 0 to under 1."""
    made = figure("pictures seen", column.replace("_", " "))
    for number, (name, table) in enumerate(tables.items()):
        if column not in table:
            continue
        rows = table[table[column].notna()]
        line: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "width": 2}
        smooth = rows[column].ewm(alpha=1 - smoothing).mean()
        made.add_trace(go.Scatter(x=rows.total, y=smooth, name=name, mode="lines", line=line))
    return made
