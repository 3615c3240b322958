"""The look of the plots on the pages."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from training import look
from training.look import CONFIG

# Told apart by lightness as well; the accent is kept for findings.
COLOURS = ("#d9dee2", "#7fa6c9", "#b59ad0", "#8fbf9f", "#c9a58b", "#6f8192", "#d98fa6", "#a0a86b")


def figure(x: str, y: str, share: bool = False, height: int = 300) -> go.Figure:
    """An empty plot. share: y goes from 0 to 1."""
    made = look.empty(x, y).update_layout(
        font_size=12,
        legend={"y": -0.28, "font": {"size": 11}},
        margin={"l": 60, "r": 16, "t": 24, "b": 60},
        height=height,
        hovermode="x unified",
        showlegend=True,
        uirevision="kept",  # a zoom outlives the next point
    )
    return made.update_yaxes(range=[-0.02, 1.02]) if share else made


def chart(drawn: go.Figure, key: str) -> None:
    """A plot, and the same numbers as a table below it."""
    st.plotly_chart(drawn, key=key, config=CONFIG, theme=None)
    with st.expander("As a table"):
        st.dataframe(numbers(drawn), hide_index=True, width="stretch", height=240)


def numbers(drawn: go.Figure) -> pd.DataFrame:
    """What a plot is drawn of, a row a point."""
    x, y = (drawn.layout[a].title.text or a[0] for a in ("xaxis", "yaxis"))
    tables = []
    for trace in drawn.data:
        if trace.type == "heatmap":
            table = pd.DataFrame(trace.text, index=list(trace.y), columns=list(trace.x))
            tables.append(table.rename_axis("").reset_index())
        elif trace.type == "histogram":
            tables.append(pd.DataFrame({"curve": trace.name, x: sorted(trace.x)}))
        else:
            tables.append(pd.DataFrame({"curve": trace.name, x: trace.x, y: trace.y}))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
