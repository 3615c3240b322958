"""The views of one evaluation: figures, curves, thresholds, body part, heatmaps."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from core.manifest import Release
from core.operating import WIDENED, Estimate
from core.types import BodyPart
from pages import _plot, _reading, _theme
from pages._theme import percent
from training.measured import Measured

if TYPE_CHECKING:
    from training.threshold import Counted, Outcome

NO_ROWS = (
    "The scores of each picture (scores.csv) are not on this machine: they did not come with this "
    "release. Evaluate it again with --out, or open the run that it came from."
)
POINTING = ("pointing game", "energy inside")
COLUMNS = ("stage", "part", "source", "level", "metric", "value", "low", "high", "n")


def exact(value: object) -> str:
    """A figure as metrics.json writes it, to the last digit; empty where it is not defined."""
    return "" if value is None else json.dumps(value)


def as_table(records: list[dict[str, object]]) -> pd.DataFrame:
    """The figures as text: figures of other programs are compared to the last digit."""
    rows = [
        [exact(r.get(c)) if c in COLUMNS[5:] else str(r.get(c, "image")) for c in COLUMNS]
        for r in records
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _records(chosen: Measured) -> list[dict[str, Any]]:
    """The figures; those of older releases, which name no level, are by image."""
    return [{"level": "image", **r} for r in chosen.records]


def table(chosen: Measured) -> None:
    """The chief figures at a glance, then every one, by part, source and level."""
    from training import report

    records = _records(chosen)
    glance = report.at_a_glance(records)
    if not glance.empty:
        st.dataframe(glance.reset_index(), hide_index=True, width="stretch")
        _theme.html(
            "<p class='soft'>On all real radiographs, by image unless a column says study. The "
            "memoriser recalls a patient's label from training and sees no pixels.</p>"
        )
    kinds = report.by_kind(records)
    if not kinds.empty:
        _theme.html("<p class='cardname'><b>By view and by metal in the picture</b>, by image</p>")
        st.dataframe(kinds, hide_index=True, width="stretch")
    every = as_table(records)
    boxes = st.columns(4)
    for place, column in zip(boxes, ("part", "source", "level", "stage")):
        options = sorted(every[column].unique())
        wanted = place.multiselect(column.capitalize(), options, key=f"figures-{column}")
        if wanted:
            every = every[every[column].isin(wanted)]
    st.dataframe(every, hide_index=True, width="stretch", height=420, key="figures-table")
    _theme.html(
        "<p class='soft'>Empty limits: no interval, because there are too few patients or all "
        "bootstrap draws are equal.</p>"
    )
    st.download_button(
        "CSV", partial(every.to_csv, index=False), "figures.csv", "text/csv", on_click="ignore"
    )


def _part(chosen: Measured, key: str) -> tuple[pd.DataFrame, Release, BodyPart] | None:
    """The labelled real rows of the part that the reader chooses, and whose operating points belong
    to them."""
    from training import plots

    scores, release = chosen.scores(), chosen.release
    if scores is None or release is None or not release.parts:
        _theme.notice(NO_ROWS)
        return None
    part = st.segmented_control(
        "Part", list(release.parts), default=release.parts[0], required=True, key=f"{key}-part",
        format_func=str.capitalize,
    )  # fmt: skip
    part = BodyPart(part)
    rows = plots.real(scores, part)
    if rows.empty:
        _theme.html("<p class='soft'>There is no labelled real radiograph of this body part.</p>")
        return None
    return rows, release, part


def curves(chosen: Measured) -> None:
    """ROC, precision and recall, reliability and probabilities of one part, and what was found."""
    from training import plots

    if (found := _part(chosen, "curves")) is None:
        return
    rows, release, part = found
    drawn = list(plots.of_part(rows, release, part, _records(chosen)).items())
    for pair in (drawn[:2], drawn[2:]):
        for place, (title, figure) in zip(st.columns(2), pair):
            with place:
                _theme.html(f"<p class='cardname'><b>{title}</b></p>")
                _plot.chart(figure, f"{part}-{title}")
    _theme.html("<p class='cardname'><b>Label by finding</b>, by image</p>")
    st.dataframe(by_finding(rows), hide_index=True)


def by_finding(rows: pd.DataFrame) -> pd.DataFrame:
    """How many pictures of either label have which finding, and how many there are."""
    label = rows.positive.map({1.0: "Positive", 0.0: "Negative"}).rename("Label")
    said = rows.finding.map({f.value: word for f, word in _reading.WORDS.items()})
    counts = pd.crosstab(label, said).reindex(columns=list(_reading.WORDS.values()), fill_value=0)
    return counts.assign(n=counts.sum(axis=1)).rename_axis(columns=None).reset_index()


def threshold_explorer(chosen: Measured) -> None:
    """Move the threshold, set the prevalence, and read what would follow."""
    if (found := _part(chosen, "threshold")) is None:
        return
    rows, release, part = found
    with st.container(key="explorer"):
        st.fragment(_explore)(rows, release, part, f"{part}-{chosen.name}")


def _explore(rows: pd.DataFrame, release: Release, part: BodyPart, key: str) -> None:
    """key: of part and evaluation, each of which begins at its own threshold and share."""
    from training.by_study import by_study, points_of
    from training.threshold import outcome

    stage = release.stages[part]
    balanced = stage.point("balanced")
    share = float(rows.positive.mean())
    left, middle, right = st.columns([3, 3, 2], vertical_alignment="bottom")
    start = 100 * (balanced.threshold if balanced else 0.5)
    threshold = left.slider(
        "Threshold", 0.0, 100.0, round(start, 1), 0.1, format="%.1f %%", key=f"threshold-{key}"
    )
    prevalence = middle.slider(
        "Prevalence", 0.1, 99.9, min(99.9, max(0.1, round(100 * share, 1))), 0.1,
        format="%.1f %%", key=f"prevalence-{key}",
    )  # fmt: skip
    studies = rows.study.notna().any()
    level = right.segmented_control(
        "By", ["image", "study"] if studies else ["image"], default="image", required=True,
        key=f"level-{key}",
    )  # fmt: skip
    sides = ""
    if level == "study":
        if "side" not in rows:
            sides = " The side of the body is not recorded, so both sides are averaged together."
        rows = by_study(rows, points_of(release))
    noun = "studies" if level == "study" else "images"
    positive = float(rows.positive.mean())
    _theme.html(_cells(outcome(rows.positive, rows.probability, threshold / 100, prevalence / 100)))
    points = ", ".join(f"{p.name} {100 * p.threshold:.1f}&nbsp;%" for p in stage.operating_points)
    _theme.html(
        f"<p class='soft'>Measured on {len(rows)} {noun} of this split, {percent(positive)} of "
        f"them positive, with 95 % intervals (Wilson) that take each as a patient’s only one. "
        f"Operating points of the release: {points}.{sides}</p>"
    )


def _cells(o: Outcome) -> str:
    """The figures of a threshold side by side, each with its interval."""
    cells = [
        ("Sensitivity", *_counted(o.sensitivity)),
        ("Specificity", *_counted(o.specificity)),
        ("Positive predictive value", _estimate(o.ppv), ""),
        ("Negative predictive value", _estimate(o.npv), ""),
        ("Flagged per 1,000", _flagged(o), ""),
    ]
    body = "".join(
        f"<div><div class='soft'>{name}</div><div class='value'>{value}</div>"
        f"<div class='soft'>{below}</div></div>"
        for name, value, below in cells
    )
    return f"<div class='cells'>{body}</div>"


def _counted(found: Counted) -> tuple[str, str]:
    return _estimate(found.share if found.n else None), f"{found.k} of {found.n}"


def _estimate(found: Estimate | None) -> str:
    return "not defined" if found is None else _reading.estimate(found)


def _flagged(o: Outcome) -> str:
    return f"{1000 * o.flagged:.0f}" if o.sensitivity.n and o.specificity.n else "not defined"


def body_part(chosen: Measured) -> None:
    """Body part by what stage 1 said, and how much was refused."""
    from training import plots, report

    matrix = chosen.metrics.get("confusion")
    if matrix is None:
        _theme.notice("This evaluation has no confusion matrix; evaluate again.")
    else:
        _plot.chart(plots.confusion(matrix), "confusion")
    found = report.all_figures([r for r in _records(chosen) if r["stage"] == "body_part"])
    st.dataframe(found.drop(columns=["stage", "level"]), hide_index=True, width="stretch")


def heatmaps(chosen: Measured) -> None:
    """Whether the heatmaps point at the annotated boxes, beside the controls."""
    from training import report

    records = [r for r in _records(chosen) if r["stage"] == "heatmap"]
    if not records:
        _theme.html(
            "<p class='lead'>Not measured here. <code>python -m training heatmaps --out FOLDER"
            "</code> measures it where the data has boxes, and writes heatmaps.json beside "
            "metrics.json.</p>"
        )
        return
    _theme.html(
        "<p class='soft'>Pointing game: heatmap peak inside an annotated box, or within "
        f"{percent(WIDENED)} of the picture’s longer side of one. Energy: the share of the heatmap "
        "inside the boxes themselves. The controls know nothing of the finding.</p>"
    )
    found = report.all_figures(records)
    for names in (POINTING, sorted({*found.figure} - {*POINTING})):
        if len(rows := found[found.figure.isin(names)]):
            st.dataframe(_by_method(rows), hide_index=True, width="stretch")


def _by_method(found: pd.DataFrame) -> pd.DataFrame:
    """``report.all_figures`` of heatmaps with a row a method and a column a figure."""
    index = ["part", "source", "n"]
    wide = found.pivot(index=index, columns="figure", values="value [95 % interval]")
    order = dict.fromkeys(found.figure)
    wide = wide.reindex(pd.MultiIndex.from_frame(found[index].drop_duplicates()))[list(order)]
    names = {name: f"{name.capitalize()} [95 %]" for name in order}
    table = wide.rename(columns=names).rename_axis(columns=None).fillna("").reset_index()
    table = table.rename(columns={"part": "Method", "source": "Source"})
    return table[["Method", *names.values(), "Source", "n"]]
