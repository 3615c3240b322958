"""What a run's ``events.jsonl`` says: as a table, as curves in HTML and PNG, for TensorBoard."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from core import files
from core.types import STRANGER
from training.phases import BODY_PART, OTHER

if TYPE_CHECKING:
    import plotly.graph_objects as go

log = logging.getLogger(__name__)

TRAINING = "train_"
MOVED = "moved_"
CHANGE = "Logit change when cropped (SD)"  # what is in the columns MOVED
ACCURACIES = (BODY_PART, OTHER, STRANGER)
NOT_FIGURES = ("phase", "seen", "rate", "loss", "score", "best", "time")


def history(run: Path) -> pd.DataFrame:
    """One row a validation, in order. A last line that a crash cut short is left out.

    Columns: phase, seen (pictures in this phase), total (in all phases), rate, loss, score, best,
    time, and a figure for each head on validation (ACCURACIES, AUROC of every part, and as MOVED
    how far its answers move when a picture is disturbed), and as ``train_…`` on the training
    pictures drawn since the last one. A validation that was repeated after an interruption counts
    once.
    """
    events = []
    for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    table = pd.DataFrame(events).drop_duplicates(["phase", "seen"], keep="last")
    order = {p: i for i, p in enumerate(dict.fromkeys(table.phase))}
    table = table.sort_values("seen", kind="stable").sort_values(
        "phase", key=lambda s: s.map(order), kind="stable"
    )
    before = table.groupby("phase", sort=False).seen.max().cumsum().shift(fill_value=0)
    table["total"] = table.seen + table.phase.map(before)
    return table.reset_index(drop=True)


def figures(table: pd.DataFrame, training: bool = False) -> list[str]:
    """The columns that are figures of heads on validation; training: those on what was drawn."""
    every = [c for c in table.columns if c not in (*NOT_FIGURES, "total")]
    return [c for c in every if c.startswith(TRAINING) == training]


def kind_of(name: str) -> str:
    """What a figure of a head is: "accuracy", "AUROC" or "moved"."""
    if name in ACCURACIES:
        return "accuracy"
    return "moved" if name.startswith(MOVED) else "AUROC"


def label_of(name: str) -> str:
    """The head that a figure is of, in words."""
    known = {STRANGER: "out-of-distribution"}
    return known.get(name, name.removeprefix(MOVED).replace("_", " "))


def plot(table: pd.DataFrame) -> go.Figure:
    """Loss above, validation figures below, over the pictures seen; a band for each phase."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    last = 3 if any(kind_of(name) == "moved" for name in figures(table)) else 2
    figure = make_subplots(rows=last, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    figure.add_trace(go.Scatter(x=table.total, y=table.loss, name="training loss"), 1, 1)
    for name in figures(table):
        kind, label = kind_of(name), label_of(name)
        label = f"{label}, {'change when cropped' if kind == 'moved' else kind}"
        rows = table[table[name].notna()]
        line = go.Scatter(x=rows.total, y=rows[name], name=label, mode="lines+markers")
        figure.add_trace(line, 3 if kind == "moved" else 2, 1)
    for phase, rows in table.groupby("phase", sort=False):
        figure.add_vrect(
            x0=rows.total.min(),
            x1=rows.total.max(),
            annotation_text=phase,
            opacity=0.06,
            fillcolor="grey",
            line_width=1,
            row="all",
            col=1,
        )
    figure.update_yaxes(title="loss", row=1, col=1)
    figure.update_yaxes(title="validation", range=[0.4, 1.01], row=2, col=1)
    if last == 3:
        figure.update_yaxes(title=CHANGE, rangemode="tozero", row=3, col=1)
    figure.update_xaxes(title="pictures seen", row=last, col=1)
    return figure.update_layout(height=720, template="plotly_dark", hovermode="x unified")


def write(run: Path) -> list[Path]:
    """``history.csv``, ``curves.html`` (works offline) and ``curves.png`` in the run's folder."""
    table = history(run)
    names = [run / n for n in ("history.csv", "curves.html", "curves.png")]
    files.write_atomically(names[0], lambda p: table.to_csv(p, index=False))
    page = plot(table).to_html(include_plotlyjs=True, full_html=True)
    files.write_atomically(names[1], lambda p: p.write_text(page, encoding="utf-8"))
    files.write_atomically(names[2], lambda p: _png(table, p))
    return names


def _png(table: pd.DataFrame, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    moved = any(kind_of(name) == "moved" for name in figures(table))
    above, *below = figure.subplots(3 if moved else 2, 1, sharex=True)
    above.plot(table.total, table.loss, color="black")
    above.set_ylabel("training loss")
    for name in figures(table):
        rows = table[table[name].notna()]
        place = below[-1 if kind_of(name) == "moved" else 0]
        place.plot(rows.total, rows[name], marker=".", label=label_of(name))
    for place, text in zip(below, ("validation: accuracy or AUROC", CHANGE)):
        for start in table.groupby("phase", sort=False).total.min():
            place.axvline(start, color="grey", linewidth=0.5)
        place.set_ylabel(text)
        place.legend(fontsize=7, ncols=2)
    below[-1].set_xlabel("pictures seen")
    figure.savefig(path, dpi=110, format="png")


def to_tensorboard(run: Path) -> None:
    """The same numbers as scalars in ``run/tensorboard``, where TensorBoard is installed: a run
    on the page *Training* is whole without it."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("TensorBoard is not installed (requirements-train.txt): no events for it.")
        return
    table = history(run)
    with SummaryWriter(str(run / "tensorboard")) as writer:
        for row in table.to_dict("records"):
            step = int(row["total"])
            for name in ("loss", "rate", *figures(table)):
                if pd.notna(row.get(name)):
                    kind = "train" if name in ("loss", "rate") else "validation"
                    writer.add_scalar(f"{kind}/{name}", row[name], step, walltime=row["time"])
