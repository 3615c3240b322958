"""One radiograph on the page: the picture large, what was read from it beside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from html import escape

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from core.cascade import Cascade
from core.explain import colour_map, on_picture, overlay
from core.quality import deciding
from core.registry import Stage
from core.types import BodyPart, Finding, FracturePrediction, ImageResult, OperatingPoint
from pages import _downloads, _theme
from pages._scoring import Session, View
from pages._sources import Source
from pages._theme import html, percent

WORDS = {
    Finding.SUSPECTED: "Suspected",
    Finding.DOUBTFUL: "Doubtful",
    Finding.NOT_SUSPECTED: "Not suspected",
}
OPACITY = 50
RECOGNISED = "recognised"


@dataclass(frozen=True)
class Card:
    """What it takes to draw one radiograph. view: None where the file could not be read."""

    source: Source
    result: ImageResult
    view: View | None
    part: BodyPart | None = None

    @property
    def record(self) -> _downloads.Record:
        return _downloads.Record(self.result, self.part)


def draw(card: Card, cascade: Cascade, session: Session) -> None:
    """Picture and results; a file that could not be read takes one line."""
    with st.container(key=f"card-{card.source.id}"), _theme.boundary():
        if card.view is None:
            html(_name(card) + f'<p class="cardreason">{escape(card.result.reason or "")}</p>')
        else:
            st.fragment(_open)(card, card.view, cascade, session)


def _open(card: Card, view: View, cascade: Cascade, session: Session) -> None:
    """A fragment: moving the slider draws this card again and runs nothing else."""
    with _theme.boundary():
        left, right = st.columns([2, 1], gap="medium")
        with right:
            _reading(card, cascade)
            opacity = _heatmap(card, view)
            _assess_as(card, cascade, session)
            with st.expander("Details"):
                html(_details(card, view, _stage(card, cascade)))
        with left, st.container(key=f"picture-{card.source.id}"):
            st.image(
                _blend(card, view, opacity) if opacity else view.pixels,
                width="stretch",
                output_format="JPEG",
                alt="Radiograph with heatmap" if opacity else "Radiograph",
            )


def _heatmap(card: Card, view: View) -> float:
    """Switch, download, opacity and colour bar; the opacity in [0, 1], 0 for none.

    A card starts with the setting that the reader used last on any other one.
    """
    if card.result.heatmap is None:
        return 0.0
    if not card.result.heatmap.has_evidence:
        html('<p class="soft">No positive evidence, so there is no heatmap to show.</p>')
        return 0.0
    heat, opacity = f"heat-{card.source.id}", f"opacity-{card.source.id}"
    st.session_state.setdefault(heat, st.session_state.get("heat", True))
    st.session_state.setdefault(opacity, st.session_state.get("opacity", OPACITY))
    switch, save = st.columns(2, vertical_alignment="center")
    on = switch.toggle("Heatmap", key=heat)
    value = st.slider("Opacity", 0, 100, step=5, format="%d %%", key=opacity, disabled=not on)
    html(_colour_bar())
    save.download_button(
        "Save PNG",
        data=partial(_png, card, view, value / 100),
        file_name=f"heatmap-{(card.result.sha256 or '')[:12]}.png",
        mime="image/png",
        on_click="ignore",
        key=f"png-{card.source.id}",
        disabled=not on,
        width="stretch",
    )
    st.session_state["heat"], st.session_state["opacity"] = on, value
    return value / 100 if on else 0.0


def _blend(card: Card, view: View, opacity: float) -> NDArray[np.uint8]:
    """The heatmap over the picture: HxWx3 uint8."""
    heat = on_picture(card.result.heatmap, *view.pixels.shape)
    return overlay(view.pixels, heat, opacity)


def _png(card: Card, view: View, opacity: float) -> bytes:
    return _downloads.to_png(_blend(card, view, opacity), card.record)


def _stage(card: Card, cascade: Cascade) -> Stage | None:
    """The fracture model that assessed this radiograph, or that would have."""
    label = card.part or (card.result.body_part and card.result.body_part.label)
    return cascade.release.stages.get(label or "")


def _reading(card: Card, cascade: Cascade) -> None:
    """What the cascade says."""
    result, stage = card.result, _stage(card, cascade)
    if result.fracture is not None and stage is not None:
        finding = _finding_markup(result.fracture, stage)
    else:
        finding = (
            f"<dt>Finding</dt><dd><div class='value'>{badge(None)}</div>"
            f"<div class='soft'>{escape(result.reason or '')}</div></dd>"
        )
    html(f"{_name(card)}<dl class='reading'>{_part_markup(card)}{finding}</dl>")


def _assess_as(card: Card, cascade: Cascade, session: Session) -> None:
    """A reader who sees that stage 1 is wrong names the part; everything is then drawn again."""
    label = card.result.body_part.label if card.result.body_part else ""
    options = [RECOGNISED, *(part.value for part in cascade.release.parts)]
    wish = st.selectbox(
        "Assess as",
        options,
        index=options.index(card.part or RECOGNISED),
        format_func=lambda p: f"As recognised ({label})" if p == RECOGNISED else p.capitalize(),
        key=f"part-{card.source.id}",
    )
    part = None if wish == RECOGNISED else BodyPart(wish)
    if part == card.part:
        return
    session.chosen.pop(card.source.id, None)
    if part is not None:
        session.chosen[card.source.id] = part
    st.rerun()


def badge(finding: Finding | None) -> str:
    """A finding as word, shape and colour; None is "not assessed"."""
    word = WORDS[finding] if finding else "Not assessed"
    return f'<span class="finding {finding.value if finding else "none"}"><i></i>{word}</span>'


def _name(card: Card) -> str:
    name = f'<p class="cardname"><b>{escape(card.source.name)}</b></p>'
    if not card.source.truth:
        return name
    return f"{name}<p class='soft'>Simulated radiograph; {escape(card.source.truth)}.</p>"


def _part_markup(card: Card) -> str:
    found = card.result.body_part
    if found is None:
        return ""
    said = f"<span class='number'>{percent(found.probability)}</span>"
    if card.part is None:
        value = f"<div class='value'><span>{found.label.capitalize()}</span>{said}</div>"
    else:
        value = (
            f"<div class='value'><span>{card.part.capitalize()}</span>"
            f"<span class='chosen'>Chosen by the reader</span></div>"
            f"<div class='soft'>Recognised as {found.label}, {percent(found.probability)}.</div>"
        )
    return f"<dt>Body part</dt><dd>{value}</dd>"


def _finding_markup(fracture: FracturePrediction, stage: Stage) -> str:
    points = deciding(stage.operating_points)
    meant = escape(stage.label_means) or "not recorded"
    return (
        f"<dt>Finding: {meant}</dt>"
        f"<dd><div class='value'>{badge(fracture.finding)}"
        f"<span class='number'>{percent(fracture.probability)}</span></div>"
        f"{_scale(fracture, points)}"
        f"<div class='soft'>{_meaning(fracture.finding, points)} The probability is calibrated; in "
        f"the training data a positive label meant “{meant}”.</div></dd>"
    )


def _scale(fracture: FracturePrediction, points: list[OperatingPoint]) -> str:
    """0 to 100 % with the operating points and the probability marked."""
    ticks = [100 * p.threshold for p in points]
    zone = ""
    if len(ticks) > 1:
        width = ticks[-1] - ticks[0]
        zone = f"<span class='doubt' style='left:{ticks[0]:.1f}%;width:{width:.1f}%'></span>"
    lines = "".join(f"<span class='tick' style='left:{t:.1f}%'></span>" for t in ticks)
    numbers = "".join(f"<span style='left:{t:.1f}%'>{t:.0f}</span>" for t in ticks if 6 < t < 88)
    left = f"left:{100 * fracture.probability:.1f}%"
    mark = f"<span class='mark {fracture.finding.value}' style='{left}'></span>"
    ends = f"<span style='left:0'>0</span>{numbers}<span style='left:100%'>100&nbsp;%</span>"
    return f"<div class='scale'>{zone}{lines}{mark}</div><div class='ends'>{ends}</div>"


def _meaning(finding: Finding, points: list[OperatingPoint]) -> str:
    """The operating point that this finding was decided by, in words."""
    if not points:
        return "This release has no operating point for this part."
    low, high = points[0], points[-1]
    if finding is Finding.SUSPECTED:
        return f"At or above {percent(high.threshold)}, the point with {_figures(high)}"
    if finding is Finding.NOT_SUSPECTED:
        return f"Below {percent(low.threshold)}, the point with {_figures(low)}"
    return (
        f"Between {percent(low.threshold)} ({_figures(low).rstrip('.')}) "
        f"and {percent(high.threshold)} ({_figures(high).rstrip('.')})."
    )


def _figures(point: OperatingPoint) -> str:
    return (
        f"sensitivity {percent(point.sensitivity)}, specificity {percent(point.specificity)}, "
        f"n&nbsp;=&nbsp;{point.n}."
    )


def _colour_bar() -> str:
    stops = ", ".join(f"rgb({r} {g} {b})" for r, g, b in colour_map()[::17])
    ramp = f"<i style='background:linear-gradient(90deg, {stops})'></i>"
    return f"<div class='bar'>0{ramp}100&nbsp;%</div>"


def _details(card: Card, view: View, stage: Stage | None) -> str:
    """What few readers ask for, as a table of two columns."""
    result = card.result
    found = result.body_part.probabilities if result.body_part else {}
    rows = [(p.capitalize(), percent(v)) for p, v in found.items()]
    for point in stage.operating_points if stage else ():
        name = f"Operating point “{point.name}”"
        rows.append((name, f"≥&nbsp;{percent(point.threshold)}: {_figures(point)}"))
    rows += [(name, escape(value)) for name, value in view.facts]
    if result.heatmap is not None:
        cells = " × ".join(str(n) for n in result.heatmap.values.shape)
        rows.append(("Heatmap", f"{escape(result.heatmap.method)}, {cells} cells"))
    rows.append(("Time", f"{result.milliseconds:.0f}&nbsp;ms"))
    rows.append(("SHA-256", escape(result.sha256 or "")))
    rows.append(("Release", escape(f"{result.release} ({result.release_sha256[:12]})")))
    body = "".join(f"<tr><td>{escape(k)}</td><td>{v}</td></tr>" for k, v in rows)
    return f"<table class='details'>{body}</table>"
