"""The figures of an evaluation as plots, for the report and for notebooks alike.

Every plot is a function of scored rows (``training.scoring.predict``). Rows of one part are real
radiographs with a label; studies are made from them here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from core.manifest import Release
from core.types import BodyPart, OperatingPoint
from training import by_study, metrics
from training.by_study import points_of
from training.data import SIMULATED
from training.figures import labelled

if TYPE_CHECKING:
    import plotly.graph_objects as go

INK, SOFT, LINE, PANEL, BACK = "#d9dee2", "#98a3ac", "#262c31", "#14181b", "#0b0d0f"
FINDING = "#f0b357"  # kept for findings: the pictures with a positive label
SYMBOLS = {"sensitive": "diamond", "balanced": "circle", "specific": "triangle-up"}
DASHES = ("solid", "dot", "dashdot", "longdash", "longdashdot")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"
DRAWS = 400  # of each bin; a page waits for them
Points = Sequence[OperatingPoint]


def real(scored: pd.DataFrame, part: BodyPart) -> pd.DataFrame:
    """The rows that the plots of one part are made of: labelled, and not simulated."""
    rows = labelled(scored, part)
    return rows[rows.source != SIMULATED]


def of_part(rows: pd.DataFrame, release: Release, part: BodyPart) -> dict[str, go.Figure]:
    """The four plots of one part by their titles; rows as ``real`` gives them.

    release: that scored them, by whose operating points a study is of one part or another.
    """
    points, every = release.stages[part].operating_points, points_of(release)
    return {
        "ROC": roc(rows, points, every),
        "Precision and recall": precision_recall(rows, points, every),
        "Reliability": reliability(rows, every),
        "Probabilities": histogram(rows, points),
    }


def _figure(x: str, y: str) -> go.Figure:
    """An empty plot of two shares in the look of the program."""
    import plotly.graph_objects as go

    axis = {"gridcolor": LINE, "zeroline": False, "linecolor": LINE, "color": SOFT}
    share = {**axis, "range": [-0.02, 1.02], "tickformat": ".0%"}
    return go.Figure().update_layout(
        template="none",
        paper_bgcolor=PANEL,
        plot_bgcolor=PANEL,
        font={"color": INK, "family": FONT, "size": 13},
        xaxis={**share, "title": {"text": x}},
        yaxis={**share, "title": {"text": y}},
        legend={"orientation": "h", "y": -0.24, "font": {"color": SOFT, "size": 12}},
        margin={"l": 64, "r": 20, "t": 20, "b": 110},
        height=430,
        hoverlabel={"bgcolor": BACK, "font": {"color": INK}},
    )


def _series(
    rows: pd.DataFrame, every: by_study.Points
) -> Iterator[tuple[str, pd.DataFrame, dict[str, Any]]]:
    """What a curve is drawn of (name, rows, line); without both labels there is no curve. every:
    the operating points of all parts, as ``figures`` makes studies by them."""
    groups = {f"by {level}": found for level, found in by_study.levels(rows, every).items()}
    sources = dict(list(rows.groupby("source")))
    if len(sources) > 1:
        groups |= {f"{source}, by image": found for source, found in sources.items()}
    for number, (name, found) in enumerate(groups.items()):
        if found.positive.nunique() == 2:
            chief = name.startswith("by ")
            line = {"color": INK if chief else SOFT, "width": 2 if chief else 1.4}
            yield name, found, {**line, "dash": DASHES[number % len(DASHES)]}


def _line(figure: go.Figure, x: Any, y: Any, name: str, line: dict[str, Any]) -> None:
    import plotly.graph_objects as go

    hover = "%{x:.1%}, %{y:.1%}"
    figure.add_trace(go.Scatter(x=x, y=y, name=name, line=line, mode="lines", hovertemplate=hover))


def _guide(figure: go.Figure, start: tuple[float, float], end: tuple[float, float]) -> None:
    line = {"color": SOFT, "width": 1, "dash": "dot"}
    figure.add_shape(
        type="line", x0=start[0], y0=start[1], x1=end[0], y1=end[1], line=line, layer="below"
    )


Place = Callable[[np.ndarray, np.ndarray], tuple[float, float]]


def _mark(figure: go.Figure, rows: pd.DataFrame, points: Points, place: Place) -> None:
    """The operating points where ``place`` (truth and decision -> x and y) puts them."""
    import plotly.graph_objects as go

    truth, p = rows.positive.to_numpy(), rows.probability.to_numpy()
    for point in points:
        x, y = place(truth, (p >= point.threshold).astype(float))
        symbol = SYMBOLS.get(point.name, "square")
        marker = {"symbol": symbol, "size": 11, "color": PANEL, "line": {"color": INK, "width": 2}}
        hover = f"threshold {point.threshold:.3f}<br>%{{x:.1%}}, %{{y:.1%}}"
        figure.add_trace(
            go.Scatter(
                x=[x], y=[y], name=point.name, mode="markers", marker=marker, hovertemplate=hover
            )
        )


def roc(rows: pd.DataFrame, points: Points, every: by_study.Points) -> go.Figure:
    """Sensitivity over 1 - specificity, by image, by study and by source; points by image.

    points: of the rows' part. every: of all parts (``by_study.points_of``).
    """
    figure = _figure("1 − specificity", "sensitivity")
    _guide(figure, (0, 0), (1, 1))
    for name, found, line in _series(rows, every):
        x, y, _ = sk.roc_curve(found.positive, found.probability, drop_intermediate=False)
        area = metrics.auroc(found.positive, found.probability)
        _line(figure, x, y, f"{name}: {area:.3f} (n={len(found)})", line)
    _mark(
        figure,
        rows,
        points,
        lambda t, d: (1 - metrics.specificity(t, d), metrics.sensitivity(t, d)),
    )
    return figure


def precision_recall(rows: pd.DataFrame, points: Points, every: by_study.Points) -> go.Figure:
    """Precision over sensitivity; the dotted line is the share of positives, which is chance.

    points, every: as of ``roc``.
    """
    figure = _figure("sensitivity (recall)", "precision")
    share = float(rows.positive.mean())
    _guide(figure, (0, share), (1, share))
    for name, found, line in _series(rows, every):
        y, x, _ = sk.precision_recall_curve(found.positive, found.probability)
        area = metrics.auprc(found.positive, found.probability)
        # steps, as average precision sums them: between two points precision is not linear
        _line(figure, x, y, f"{name}: {area:.3f} (n={len(found)})", {**line, "shape": "hv"})
    _mark(figure, rows, points, lambda t, d: (metrics.sensitivity(t, d), metrics.precision(t, d)))
    return figure


def reliability(rows: pd.DataFrame, every: by_study.Points) -> go.Figure:
    """Share of positives over mean probability in the bins of the ECE, with 95 % intervals from
    resampling patients. every: as of ``roc``."""
    import plotly.graph_objects as go

    figure = _figure("mean probability", "share of positives")
    _guide(figure, (0, 0), (1, 1))
    for name, found, line in _series(rows, every):
        if not name.startswith("by "):
            continue  # the bins of one source are too few to draw
        bins = metrics.calibration(found.positive, found.probability)
        shares = np.array([b.share for b in bins])
        truth, who = found.positive.to_numpy(float), found.patient.to_numpy(object)
        ends = [
            metrics.bootstrap(metrics.mean, truth[c], truth[c], who[c], DRAWS)
            for c in metrics.chunks(found.probability)
        ]
        error = {
            "array": np.array([e.high for e in ends]) - shares,
            "arrayminus": shares - np.array([e.low for e in ends]),
            "color": SOFT,
            "thickness": 1,
        }
        value = metrics.ece(found.positive, found.probability)
        figure.add_trace(
            go.Scatter(
                x=[b.mean for b in bins],
                y=shares,
                name=f"{name}: ECE {value:.3f} (n={len(found)})",
                mode="lines+markers",
                line=line,
                error_y=error,
                text=[f"n={b.n}" for b in bins],
                hovertemplate="%{x:.1%}: %{y:.1%}, %{text}",
            )
        )
    return figure


def histogram(rows: pd.DataFrame, points: Points) -> go.Figure:
    """How many pictures got which probability, by label, and where the operating points lie."""
    import plotly.graph_objects as go

    figure = _figure("probability", "pictures").update_layout(barmode="group", bargap=0.1)
    pattern = {"fillmode": "overlay", "fgcolor": PANEL, "size": 6}
    labels = {0: ("negative label", SOFT, ""), 1: ("positive label", FINDING, "/")}
    for label, (name, colour, shape) in labels.items():
        p = rows.probability[rows.positive == label]
        figure.add_trace(
            go.Histogram(
                x=p.to_list(),
                name=f"{name} (n={len(p)})",
                xbins={"start": 0, "end": 1.0001, "size": 0.05},
                marker={"color": colour, "pattern": pattern | {"shape": shape}},
            )
        )
    for height, point in enumerate(points):
        figure.add_vline(
            x=point.threshold,
            line={"color": INK, "width": 1, "dash": "dot"},
            annotation={
                "text": point.name,
                "yref": "paper",
                "y": 1 - 0.07 * height,
                "font": {"color": SOFT, "size": 11},
            },
        )
    return figure.update_yaxes(range=None, autorange=True, tickformat="d")


def confusion(matrix: dict[str, Any]) -> go.Figure:
    """Body part by what stage 1 said (``figures.confusion``); shade: share of the row."""
    import plotly.graph_objects as go

    counts = np.array(matrix["counts"], float).reshape(-1, len(matrix["said"]))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = _figure("stage 1 said", "")
    figure.add_trace(
        go.Heatmap(
            z=shares,
            x=matrix["said"],
            y=[p.replace("_", " ") for p in matrix["part"]],
            text=counts,
            texttemplate="%{text:d}",
            textfont={"color": INK},
            hovertemplate="%{y} called %{x}: %{text:d} (%{z:.1%})",
            name="",
            colorscale=[[0, PANEL], [1, "#4d6070"]],
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=2,
            ygap=2,
        )
    )
    height = 190 + 30 * len(counts)
    figure.update_layout(height=height, margin={"l": 130, "b": 60})
    figure.update_xaxes(range=None, autorange=True, tickformat=None, type="category")
    return figure.update_yaxes(range=None, autorange="reversed", tickformat=None, type="category")
