"""The look of the plots, on the pages and in the report alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

INK, SOFT, LINE, PANEL, BACK = "#d9dee2", "#98a3ac", "#262c31", "#14181b", "#0b0d0f"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"
# Of plotly's buttons those that stay on this machine.
CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "modeBarButtons": [["toImage", "resetScale2d"]],
}


def empty(x: str, y: str) -> go.Figure:
    """A plot with the titles of its axes and nothing on them."""
    import plotly.graph_objects as go

    axis = {"gridcolor": LINE, "zeroline": False, "linecolor": LINE, "color": SOFT}
    return go.Figure().update_layout(
        template="none",
        paper_bgcolor=PANEL,
        plot_bgcolor=PANEL,
        font={"color": INK, "family": FONT},
        xaxis={**axis, "title": {"text": x}},
        yaxis={**axis, "title": {"text": y}},
        legend={"orientation": "h", "font": {"color": SOFT}},
        hoverlabel={"bgcolor": BACK, "font": {"color": INK}},
    )
