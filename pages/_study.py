"""One study on the page: the picture large, what was read from it beside."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from html import escape

import streamlit as st

from core import film, report
from core.cams import METHODS
from core.cascade import Cascade
from core.settings import ImageLimits
from core.types import Heatmap, ImageResult, Radiograph
from pages import (
    _access,
    _audit,
    _correct,
    _downloads,
    _film,
    _kept,
    _mode,
    _operating,
    _reading,
    _theme,
    _views,
    _worklist,
)
from pages._correct import Study
from pages._scoring import Session
from pages._theme import html
from pages._viewer import Event, Prepared, keys, viewer

CLOSED_FORM = "Grad-CAM"
METHOD = "heatmap-method"  # what the reader chose, also where a study has no such map
POLL_SECONDS = 0.5
PHOTOGRAPH_BESIDE = [2, 3]  # widths of photograph and picture


class StudyCard:
    """Draws one study. ``others``: names of the studies that a view can be moved to, by key."""

    def __init__(
        self,
        study: Study,
        cascade: Cascade,
        memory: Session,
        limits: ImageLimits,
        others: dict[str, str],
    ) -> None:
        self._study = study
        self._cascade = cascade
        self._memory = memory
        self._limits = limits
        self._others = others

    def draw(self) -> None:
        """Picture and results; where nothing could be decoded, why."""
        st.session_state.pop("leave", None)  # all of the page is being drawn again
        with st.container(key=f"card-{self._study.key}"), _theme.boundary():
            if all(view.body_part is None for view in self._study.result.views):
                html(_title(self._study))
                for view in self._study.result.views:
                    html(f"<p class='cardreason'>{escape(view.reason or '')}</p>")
                keys(key="viewer", on_event=self._beyond)
                return
            st.fragment(self._open)()

    def _open(self) -> None:
        """A fragment: another view, point or method draws this card again and nothing else."""
        with _theme.boundary():
            if st.session_state.pop("leave", False):
                st.rerun()
            # Before anything is said: or this name would stand beside the picture of the last one.
            self._prepared(self._position())
            left, right = st.columns([7, 3], gap="medium")
            with right:
                html(_title(self._study))
                study = self._study
                html(_reading.study(study.result, self._cascade.release, study.awaited))
                if any(view.photograph for view in study.result.views):
                    html(_film.mark(self._cascade.release))
                _correct.part(study, self._cascade, self._memory)
                if study.result.body_part is not None:
                    self._take_away()
                    _operating.draw(study.result, self._cascade.release)
                _correct.views(study, self._memory, self._others)
            with left:
                self._picture()

    # The picture

    def _picture(self) -> None:
        position = self._position()
        if len(self._study.sources) > 1:
            self._strip()
        picture, result = self._prepared(position), self._study.result.views[position]
        if picture is None:
            html(f"<p class='cardreason'>{escape(result.reason or '')}</p>")
            keys(key="viewer", on_event=self._on_event)
            return
        source = self._study.sources[position]
        asked = st.container()  # its place; the picture does not wait for the answer
        if result.photograph is None or result.photograph.corners is None:
            self._viewer(position, picture)
        else:
            taken, cut = st.columns(PHOTOGRAPH_BESIDE, gap="small")
            with taken:
                _film.beside(source, result, self._memory, self._limits)
            with cut:
                self._viewer(position, picture)
        with asked:
            _film.question(source, picture, self._memory)
        self._below(position, picture)

    def _viewer(self, position: int, picture: Prepared) -> None:
        result, views = self._study.result.views[position], len(self._study.sources)
        record = _downloads.Record(result, result.chosen)
        said = _downloads.caption(record, self._cascade.release, position + 1, views)
        with st.container(key="picture"):
            viewer(
                picture,
                self._heatmap(position),
                key="viewer",
                alt=f"Radiograph, view {position + 1} of {views}",
                on_event=self._on_event,
                caption=said,
            )

    def _strip(self) -> None:
        """The views of the study, each with its finding."""

        def label(position: int) -> str:
            fracture = self._study.result.views[position].fracture
            header = self._memory.headers.get(self._study.sources[position].id)
            glyph = _reading.GLYPHS[fracture.finding if fracture else None]
            return f"{glyph} View {_reading.view_name(position, header)}"

        _views.strip(self._study.key, range(len(self._study.sources)), label)

    def _below(self, position: int, picture: Prepared) -> None:
        """What goes with the picture: how far the heatmap is right, its method, details."""
        result = self._study.result.views[position]
        if result.heatmap is not None:
            self._awaited_or_pointed(position)
            if len(self._cascade.release.modes) > 1:
                choice, mode = st.columns([2, 1])
                with mode:
                    _mode.choose(self._cascade.release)
            else:
                choice = st.container()
            with choice:
                _choose_method(result)
        with st.expander("Details of this view"):
            stage = self._cascade.release.stages.get(result.part or "")
            html(_reading.details(result, picture, stage))
            _film.by_hand(self._study.sources[position], result, self._memory)

    def _awaited_or_pointed(self, position: int) -> None:
        """How long a slow method has been computed by now, else how often the map points right
        that is drawn: where the method failed that is the closed form."""
        asked = self._asked(position)
        method = _method(self._study.result.views[position])
        if asked is not None and not asked.done():
            st.fragment(_awaited, run_every=POLL_SECONDS)(asked, method, time.monotonic())
            return
        failed = asked is not None and asked.exception() is not None
        alone = "" if failed else _alone(self._study.result.views[position], method)
        if alone:
            html(alone)
        html(_reading.pointed(self._cascade.release, CLOSED_FORM if failed else method))

    def _prepared(self, position: int) -> Prepared | None:
        result = self._study.result.views[position]
        if result.body_part is None:
            return None
        return self._memory.picture(self._study.sources[position], self._limits)

    def _heatmap(self, position: int) -> Heatmap | None:
        """By the method that was asked for; the closed form while that is awaited or has failed."""
        result = self._study.result.views[position]
        if member := _members(result).get(_method(result)):
            return member
        asked = self._asked(position)
        with _theme.boundary():
            if asked is not None and asked.done():
                return _named(asked.result(), result)
        return result.heatmap

    def _asked(self, position: int) -> Future[Heatmap] | None:
        """The heatmap to be; None where a closed form is what was asked for."""
        source, result = self._study.sources[position], self._study.result.views[position]
        method = _method(result)
        if method in _members(result):
            self._memory.give_up()
            return None
        return self._memory.heatmap(source, result, method, self._cascade, self._limits)

    def _position(self) -> int:
        return _views.position(self._study.key, range(len(self._study.sources)))

    def _on_event(self, event: Event) -> None:
        """The keys for previous and next: first through the views, then to the next study.

        What is pressed before that is there was not meant for what the reader has not seen.
        """
        if st.session_state.get("leave"):
            return
        there = self._position() + event.step
        if 0 <= there < len(self._study.sources):
            _views.go(self._study.key, there)
        else:
            self._beyond(event)

    def _beyond(self, event: Event) -> None:
        """To the next study or the previous one, once."""
        if st.session_state.get("leave"):
            return
        st.session_state["beyond"] = event.step
        st.session_state["leave"] = True

    # The results

    def _take_away(self) -> None:
        """The report, in both forms, and the way to the worklist."""
        key = self._study.key
        names = st.session_state.get(f"names-{key}", False)
        # The download has no session to ask.
        part, actor = self._study.result.body_part, _access.actor()
        point, prevalence = _operating.chosen(part)

        def button(label: str, form: str) -> None:
            st.download_button(
                label,
                data=partial(self._report, form, names, point, prevalence, actor),
                file_name=f"report-{(self._study.result.views[0].sha256 or '')[:12]}.{form}",
                mime=f"application/{form}",
                on_click="ignore",
                key=f"report-{form}-{key}",
                disabled=self._study.awaited > 0,
                width="stretch",
                type="primary" if form == "pdf" else "secondary",
            )

        button("Report (PDF)", "pdf")
        with st.popover("Report options", width="stretch"):
            st.checkbox("Include the names of the files", key=f"names-{key}")
            button("JSON", "json")
        views, release = self._study.result.views, self._cascade.release.sha256
        _worklist.add(
            _name(self._study),
            self._study.result,
            self._cascade.release,
            lambda: {v.sha256 or "": s.read() for v, s in zip(views, self._study.sources)},
            "-".join([key, *(f"{v.sha256} {v.part} {v.photograph}" for v in views), release]),
            disabled=self._study.awaited > 0,
        )

    def _report(
        self, form: str, names: bool, point: str, prevalence: float | None, actor: str
    ) -> bytes:
        digests = _audit.numbered(v.sha256 for v in self._study.result.views)
        _audit.write("export.made", actor, kind=f"report {form}", names=names, **digests)
        pictures = [self._reported(n) for n in range(len(self._study.sources))]
        made = report.StudyReport(
            replace(self._study.result, id=_name(self._study)),
            tuple(pictures),
            self._cascade.release,
            datetime.now(UTC),
            point,
            names,
            prevalence,
        )
        return report.pdf(made) if form == "pdf" else json.dumps(report.as_json(made)).encode()

    def _reported(self, position: int) -> Radiograph | None:
        """What its result is of, though the reader may have moved the corners of the film since."""
        source, result = self._study.sources[position], self._study.result.views[position]
        if result.body_part is None:
            return None
        seen = self._memory.picture(source, self._limits).radiograph  # there already, mostly
        if seen.photograph == result.photograph:
            return seen
        way = film.way_of(result.photograph)
        return self._memory.picture(source, self._limits, way).radiograph


def _members(result: ImageResult) -> dict[str, Heatmap]:
    """The closed form of each network of an ensemble, by what the choice calls it."""
    members = result.fracture.members if result.fracture else ()
    maps = {f"{CLOSED_FORM}, {m.name}": m.heatmap for m in members}
    return {name: replace(found, method=name) for name, found in maps.items() if found is not None}


def _named(found: Heatmap, result: ImageResult) -> Heatmap:
    """A map by a method of the library: where several networks made the finding, it is named after
    the one that it shows, also below a picture that is saved."""
    members = result.fracture.members if result.fracture else ()
    return replace(found, method=f"{found.method}, {members[0].name}") if members else found


def _methods(result: ImageResult) -> list[str]:
    return [CLOSED_FORM, *_members(result), *METHODS]


def _method(result: ImageResult) -> str:
    """What was chosen, where this result has it: a member's map is there in one mode alone."""
    chosen = _kept.said(METHOD, CLOSED_FORM)
    return chosen if chosen in _methods(result) else CLOSED_FORM


def _choose_method(result: ImageResult) -> None:
    st.session_state["method"] = _method(result)
    slow = "All but Grad-CAM take seconds; Grad-CAM is shown until they are ready."
    st.selectbox(
        "Heatmap method", _methods(result), key="method", on_change=_keep_method, help=slow
    )


def _keep_method() -> None:
    _kept.keep(METHOD, st.session_state["method"])


def _alone(result: ImageResult, method: str) -> str:
    """Whose map it is, and its height, where the finding is that of several networks; else ""."""
    if method not in METHODS or result.fracture is None or not result.fracture.members:
        return ""
    own = result.fracture.members[0]
    return (
        f"<p class='caution'>{escape(method)} shows the {escape(own.name)} alone "
        f"({_theme.percent(own.probability)}); the finding is that of all networks.</p>"
    )


def _name(study: Study) -> str:
    count = len(study.sources)
    return study.name if count == 1 else f"{study.name} ({count} views)"


def _title(study: Study) -> str:
    """What the study is called, and what is true of it where it is simulated."""
    told = "; ".join(s.truth for s in study.sources if s.truth)
    truth = f"<p class='soft'>Simulated radiograph: {escape(told)}.</p>" if told else ""
    return f"<p class='cardname'><b>{escape(_name(study))}</b></p>{truth}"


def _awaited(asked: Future[Heatmap], method: str, since: float) -> None:
    """A line that tells that something is under way, until it is there."""
    if asked.done():
        st.rerun()
    seconds = time.monotonic() - since
    html(
        f"<p class='soft' role='status'>{escape(method)} is being computed, {seconds:.0f} s. "
        "Grad-CAM is shown until it is ready.</p>"
    )
