"""The figures of an evaluation as plots, for the report and for notebooks alike.

Every plot is a function of scored rows (``training.scoring.predict``). Rows of one part are real
radiographs with a label; studies are made from them here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from core.manifest import Release
from core.types import BodyPart, OperatingPoint
from training import by_study, look, metrics
from training.by_study import points_of
from training.data import SIMULATED
from training.figures import labelled
from training.look import INK, PANEL, SOFT

if TYPE_CHECKING:
    import plotly.graph_objects as go

FINDING = "#f0b357"  # kept for findings: the pictures with a positive label
SYMBOLS = {"sensitive": "diamond", "balanced": "circle", "specific": "triangle-up"}
DASHES = ("solid", "dot", "dashdot", "longdash", "longdashdot")
WORDS = {"rejected": "not assessed", "refused": "not assessed"}  # as all of the program says it
ALL = "all"  # the source of the figures of all real radiographs
DRAWS = 400  # of each bin; a page waits for them
Points = Sequence[OperatingPoint]
Records = Sequence[Mapping[str, Any]]


def real(scored: pd.DataFrame, part: BodyPart) -> pd.DataFrame:
    """The rows that the plots of one part are made of: labelled, and not simulated."""
    rows = labelled(scored, part)
    return rows[rows.source != SIMULATED]


def of_part(
    rows: pd.DataFrame, release: Release, part: BodyPart, records: Records = ()
) -> dict[str, go.Figure]:
    """The four plots of one part by their titles; rows as ``real`` gives them.

    release: that scored them, by whose operating points a study is of one part or another.
    records: ``figures.figures`` of the same rows, whose intervals stand beside the curves.
    """
    points, every = release.stages[part].operating_points, points_of(release)
    own = [r for r in records if (r["stage"], r["part"]) == ("fracture", part)]
    return {
        "ROC": roc(rows, points, every, own),
        "Precision and recall": precision_recall(rows, points, every, own),
        "Reliability": reliability(rows, every, own),
        "Probabilities": histogram(rows, points),
    }


def _figure(x: str, y: str) -> go.Figure:
    """An empty plot of two shares in the look of the program."""
    share = {"range": [-0.02, 1.02], "tickformat": ".0%"}
    return look.empty(x, y).update_layout(
        font_size=13,
        xaxis={**share, "title": {"standoff": 8}},  # so that the legend has room below it
        yaxis=share,
        legend={"y": -0.28, "font": {"size": 12}},
        margin={"l": 64, "r": 20, "t": 20, "b": 110},
        height=470,
        showlegend=True,  # also of one curve, of which it says how good it is
    )


@dataclass(frozen=True)
class _Curve:
    """What a curve is drawn of: rows of one level, of all sources or of one."""

    source: str
    level: str
    rows: pd.DataFrame
    line: dict[str, Any]

    @property
    def of_all(self) -> bool:
        return self.source == ALL

    def legend(self, word: str, metric: str, value: float, records: Records) -> str:
        """``by image, AUROC 0.884 [0.803, 0.953], n = 102``: with the interval of the record of the
        same pictures, if there is one."""
        wanted = (self.source, self.level, metric, len(self.rows))
        limits = [
            f" [{r['low']:.3f}, {r['high']:.3f}]"
            for r in records
            if (r["source"], r["level"], r["metric"], r["n"]) == wanted and not pd.isna(r["low"])
        ]
        whose = "" if self.of_all else f"{self.source} "
        return (
            f"{whose}by {self.level}, {word} {value:.3f}{''.join(limits[:1])}, n = {len(self.rows)}"
        )


def _curves(rows: pd.DataFrame, every: by_study.Points) -> Iterator[_Curve]:
    """Without both labels there is none. every: the operating points of all parts, as ``figures``
    makes studies by them."""
    groups = {(ALL, level): found for level, found in by_study.levels(rows, every).items()}
    sources = dict(list(rows.groupby("source")))
    if len(sources) > 1:
        groups |= {(str(source), "image"): found for source, found in sources.items()}
    for number, ((source, level), found) in enumerate(groups.items()):
        if found.positive.nunique() == 2:
            chief = source == ALL
            line = {"color": INK if chief else SOFT, "width": 2 if chief else 1.4}
            yield _Curve(source, level, found, {**line, "dash": DASHES[number % len(DASHES)]})


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
        # Small, as "specific" may lie at the same place and would not be seen below it.
        size = 7 if point.name == "balanced" else 11
        line = {"color": INK, "width": 2}
        marker = {"symbol": symbol, "size": size, "color": PANEL, "line": line}
        hover = f"threshold {point.threshold:.3f}<br>%{{x:.1%}}, %{{y:.1%}}"
        figure.add_trace(
            go.Scatter(
                x=[x], y=[y], name=point.name, mode="markers", marker=marker, hovertemplate=hover
            )
        )


def roc(
    rows: pd.DataFrame, points: Points, every: by_study.Points, records: Records = ()
) -> go.Figure:
    """Sensitivity over 1 - specificity, by image, by study and by source; points by image.

    points: of the rows' part. every: of all parts (``by_study.points_of``). records: the figures of
    the part's findings.
    """
    figure = _figure("1 − specificity", "sensitivity")
    _guide(figure, (0, 0), (1, 1))
    for curve in _curves(rows, every):
        truth, p = curve.rows.positive, curve.rows.probability
        x, y, _ = sk.roc_curve(truth, p, drop_intermediate=False)
        name = curve.legend("AUROC", "auroc", metrics.auroc(truth, p), records)
        _line(figure, x, y, name, curve.line)
    _mark(
        figure,
        rows,
        points,
        lambda t, d: (1 - metrics.specificity(t, d), metrics.sensitivity(t, d)),
    )
    return figure


def precision_recall(
    rows: pd.DataFrame, points: Points, every: by_study.Points, records: Records = ()
) -> go.Figure:
    """Precision over sensitivity; the dotted line is the share of positives, which is chance.

    points, every, records: as of ``roc``.
    """
    figure = _figure("sensitivity (recall)", "precision")
    share = float(rows.positive.mean())
    _guide(figure, (0, share), (1, share))
    for curve in _curves(rows, every):
        truth, p = curve.rows.positive, curve.rows.probability
        y, x, _ = sk.precision_recall_curve(truth, p)
        name = curve.legend("AUPRC", "auprc", metrics.auprc(truth, p), records)
        # steps, as average precision sums them: between two points precision is not linear
        _line(figure, x, y, name, {**curve.line, "shape": "hv"})
    _mark(figure, rows, points, lambda t, d: (metrics.sensitivity(t, d), metrics.precision(t, d)))
    return figure


def reliability(rows: pd.DataFrame, every: by_study.Points, records: Records = ()) -> go.Figure:
    """Share of positives over mean probability in the bins of the ECE, with 95 % intervals from
    resampling patients. every, records: as of ``roc``."""
    import plotly.graph_objects as go

    figure = _figure("mean probability", "share of positives")
    _guide(figure, (0, 0), (1, 1))
    for curve in _curves(rows, every):
        if not curve.of_all:
            continue  # the bins of one source are too few to draw
        found = curve.rows
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
                name=curve.legend("ECE", "ece", value, records),
                mode="lines+markers",
                line=curve.line,
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
                name=f"{name}, n = {len(p)}",
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
    """Confusion matrix of stage 1 (``figures.confusion``); shade: share of the row."""
    import plotly.graph_objects as go

    counts = np.array(matrix["counts"], float).reshape(-1, len(matrix["said"]))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = zip(matrix["part"], counts.sum(1))
    figure = _figure("Called by the first stage", "True body part (n per row)")
    figure.add_trace(
        go.Heatmap(
            z=shares,
            x=[WORDS.get(p, p) for p in matrix["said"]],
            y=[f"{p.replace('_', ' ')} ({n:.0f})" for p, n in names],
            text=counts,
            texttemplate="%{text:d}",
            textfont={"color": INK},
            hovertemplate="%{y} predicted as %{x}: %{text:d} (%{z:.1%})",
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
    figure.update_layout(height=height, margin={"b": 60})
    figure.update_xaxes(range=None, autorange=True, tickformat=None, type="category")
    figure.update_yaxes(range=None, autorange="reversed", tickformat=None, type="category")
    return figure.update_yaxes(automargin=True, title={"standoff": 12})
