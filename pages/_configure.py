"""A new run: its data, a preset, the whole configuration, an estimate, and Start."""

from __future__ import annotations

import dataclasses
from typing import Any

import streamlit as st

from core.errors import SettingsInvalid, WeightsInvalid
from core.registry import Registry
from core.settings import CHAMPION, Settings
from core.transforms import Preprocessing
from core.types import STRANGER
from pages import _runs, _theme
from training.data import DataInvalid, confined
from training.jobs import datasets, estimate, presets
from training.jobs.datasets import DataSet, DataSets
from training.phases import BODY_PART, OTHER

CORRECTIONS = "corrections"
PRESET, DATA, NOTE = "preset-of-new-run", "data-of-new-run", "note-of-new-run"
# How the widget shows numbers; small ones by their powers of ten.
FORMATS = {int: "%d", float: "%g"}


def registered() -> DataSets:
    settings = Settings.from_environment()
    return DataSets(settings.home, settings.roots)


def new_run() -> None:
    """The form from top to bottom; the last thing on it is Start."""
    known = {d.name: d for d in registered().all()}
    if not known:
        _theme.html(
            "<p class='lead'>A run needs a data set. Register one under <b>Data sets</b> above.</p>"
        )
        return
    left, right = st.columns(2, gap="large")
    with right:
        preset = st.selectbox("Preset", presets.PRESETS, format_func=lambda p: p.name, key=PRESET)
        _theme.html(f"<p class='soft'>{preset.about}</p>")
        settings = _settings(preset)
    with left:
        names = st.multiselect("Data sets", list(known), default=list(known)[:1], key=DATA)
        chosen = [known[n] for n in names]
        ready = bool(chosen) and _data(chosen, str(settings["only"]))
    with right:
        st.text_input("Name", preset.name, max_chars=80, key=f"name-{preset.name}")
        st.text_input("Note", max_chars=400, key=NOTE)
        settings["data"] = [d.specification for d in chosen]
        wrong = [*presets.problems(settings), *_refusals(settings)]
        for sentence in wrong:
            _theme.notice(sentence)
        _estimate(settings, disabled=bool(wrong))
        st.button(
            "Start",
            type="primary",
            on_click=_theme.ask,
            args=(_start,),
            disabled=not ready or bool(wrong),
        )
        with st.expander("Equivalent command"):
            st.code(presets.command(settings, "runs/NAME"), language=None, wrap_lines=True)


def _refusals(settings: dict[str, Any]) -> list[str]:
    """What ``training.fit`` would refuse of them and of the release that they start from."""
    from training import fit, initial

    try:
        made = fit.Settings(**{**settings, "data": tuple(settings["data"])}, out="")
        with confined(datasets.allowed(Settings.from_environment())):
            initial.refuse_elsewhere(made.init)
        if not made.joint_passes or made.only:
            initial.fixed(made.init, Preprocessing(size=made.size), made.only)
    except (DataInvalid, SettingsInvalid) as error:
        return [str(error)]
    return []


def _start() -> None:
    """Into the queue, and to the run: a second click finds the run of the first.

    What is started is what the fields hold at the click. What this script read of them is older
    where numbers were typed faster than it could follow.
    """
    state = st.session_state
    preset = next(p for p in presets.PRESETS if p.name == state[PRESET].name)
    settings = {
        f.name: state.get(f"{preset.name}-{f.name}", _start_value(preset, f)) for f in _fields()
    }
    known = {d.name: d.specification for d in registered().all()}
    if away := [n for n in state[DATA] if n not in known]:
        raise DataInvalid(f"{', '.join(away)}: missing, or not in a folder that may be read here.")
    settings["data"] = [known[n] for n in state[DATA]]
    if not settings["data"]:
        raise DataInvalid("A run needs a data set.")
    if wrong := [*presets.problems(settings), *_refusals(settings)]:
        raise DataInvalid(wrong[0])
    name, note = state.get(f"name-{preset.name}", preset.name), state.get(NOTE, "")
    state["run"] = _runs.queue().submit(name, settings, note, _runs.actor())
    _runs.show("Runs")


@st.cache_data(ttl=120, max_entries=16, show_spinner="Reading the data sets.")
def _overview(sets: tuple[DataSet, ...]) -> datasets.Overview:
    return datasets.overview(sets)


def _data(chosen: list[DataSet], only: str) -> bool:
    """What is in the data; whether a run would take it. only: as in ``training.fit``."""
    with _theme.boundary():
        try:
            found = _overview(tuple(chosen))
        except DataInvalid as error:
            _theme.notice(str(error))
            return False
        problems = found.problems(only)
        for sentence in problems:
            _theme.notice(sentence)
        if not problems:
            _theme.html("<p class='soft'>No patient is in two splits.</p>")
        _theme.html(
            f"<p class='soft'>{found.pictures:,} pictures of {found.patients:,} patients; split "
            f"SHA-256 {found.split_sha256[:12]}. Duplicate radiographs are looked for when the run "
            "starts, and those in more than one split are left out.</p>"
        )
        st.dataframe(found.sources, hide_index=True, width="stretch")
        st.dataframe(found.labels, hide_index=True, width="stretch", height=320)
        return not problems
    return False


def _fields() -> list[dataclasses.Field[Any]]:
    """The settings of ``training.fit`` that the form has: all but data, folder and architecture,
    as what the page goes on with, calibrates and compares is a ResNet50 cascade."""
    from training.fit import Settings as Fit

    return [f for f in dataclasses.fields(Fit) if f.name not in ("data", "out", "arch")]


def _start_value(preset: presets.Preset, field: dataclasses.Field[Any]) -> Any:
    """What a preset begins with."""
    start = preset.changed.get(field.name, field.default)
    if field.name in ("size", "focus") and preset.changed.get("init") == CHAMPION:
        champion = _champion_preprocessing()  # what learns on reads the same pictures
        return int(getattr(champion, field.name)) if champion else start
    return start


def _settings(preset: presets.Preset) -> dict[str, Any]:
    """Every setting of the form as this script reads it."""
    values: dict[str, Any] = {}

    def ask(field: dataclasses.Field[Any]) -> None:
        key = f"{preset.name}-{field.name}"
        values[field.name] = _widget(field.name, _start_value(preset, field), key)

    # what a preset is about is not folded away
    first = [f for f in _fields() if f.name == "only" and preset.changed.get("only")]
    for field in first:
        ask(field)
    with st.expander("Full configuration"):
        columns = st.columns(2)
        for number, field in enumerate(f for f in _fields() if f not in first):
            with columns[number % 2]:
                ask(field)
    return values


def _champion_preprocessing() -> Preprocessing | None:
    """How the champion reads a picture; None where there is none."""
    try:
        return Registry.open(Settings.from_environment().weights).find(CHAMPION).preprocessing
    except WeightsInvalid:
        return None


def _named() -> list[str]:
    """What the champion has a fracture model for, and what it could get one for: stage 1 knows it
    by name."""
    try:
        release = Registry.open(Settings.from_environment().weights).find(CHAMPION)
    except WeightsInvalid:
        return []
    classes = release.stages[BODY_PART].classes
    return [*release.parts, *sorted(set(classes) - {*release.parts, OTHER, STRANGER})]


def _widget(name: str, start: Any, key: str) -> Any:
    """A setting by its type; one that is not in ``presets.LIMITS`` has its name and no range."""
    if name in presets.CHOICES:
        options = list(presets.CHOICES[name])
        if name == "only":
            options = list(dict.fromkeys([*options, *_named()]))
        return st.selectbox(
            presets.label(name), options, index=options.index(start), key=key,
            format_func=lambda v: v.replace("_", " ") or "all",
            help=presets.TEXTS.get(name),
        )  # fmt: skip
    if isinstance(start, bool):
        return st.toggle(presets.label(name), start, key=key)
    if isinstance(start, int | float):
        kind = type(start)
        limit = presets.LIMITS.get(name)
        unit = f" ({limit.unit})" if limit and limit.unit else ""
        about = f"{limit.about} {limit.low:g} to {limit.high:g}." if limit else None
        return st.number_input(
            presets.label(name) + unit, value=start, step=1 if kind is int else None,
            format=FORMATS[kind], help=about, key=key,
        )  # fmt: skip
    return st.text_input(presets.label(name), str(start), help=presets.TEXTS.get(name), key=key)


def _estimate(settings: dict[str, Any], disabled: bool) -> None:
    """The time that the phases would take, from a few steps in a process of its own."""
    if st.button("Estimate the time", disabled=disabled):
        with st.spinner("Timing a few steps on this machine."), _theme.boundary():
            try:
                speeds = estimate.ask(settings)
            except DataInvalid as error:
                _theme.notice(str(error))
                return
            st.session_state["speeds"] = (speeds, settings["size"], settings["batch"])
    speeds, *measured_for = st.session_state.get("speeds", (None,))
    if speeds is None:
        return
    if measured_for != [settings["size"], settings["batch"]]:
        _theme.html("<p class='soft'>Estimated for another input or batch size; please repeat.</p>")
        return
    _theme.html(
        f"<p class='soft'>About <b>{_runs.span(speeds.seconds(settings))}</b>, not counting "
        f"reading the pictures and validation: {speeds.joint:.1f} pictures a second in the joint "
        f"phase, {speeds.branch:.1f} in that of a branch, at this machine's present load.</p>"
    )


def data_sets() -> None:
    """Register a folder or list of this server, and forget it again."""
    settings, known = Settings.from_environment(), registered()
    _theme.refused()
    if not settings.roots:
        _theme.notice(
            "No folder on this server may be read. List some in BONE_ROOTS and restart the program."
        )
    with st.form("register", border=False):
        name, kind, path = st.columns([2, 1, 4])
        given = (
            name.text_input("Name", max_chars=60),
            kind.selectbox("Kind", datasets.KINDS),
            path.text_input("Folder or list on this server", placeholder="/data/MURA-v1.1"),
        )
        if st.form_submit_button("Register", disabled=not settings.roots):
            with _theme.boundary():
                known.add(*given)
    st.button("Register the worklist's corrections", on_click=_theme.ask, args=(_corrections,))
    roots = ", ".join(str(r) for r in settings.roots)
    if roots:
        _theme.html("<p class='soft'>Must be inside one of these folders:</p>")
        st.code(roots, language=None)
    readable = known.all()
    for found in known.registered():
        what, forget = st.columns([6, 1], vertical_alignment="center")
        note = "" if found in readable else "   (missing, or not in a folder that may be read here)"
        what.text(f"{found.name}   {found.specification}{note}")
        forget.button(
            "Unregister",
            key=f"forget-{found.name}",
            on_click=_theme.ask,
            args=(known.remove, found.name),
        )


def _corrections() -> None:
    """What readers decided on the worklist, as a data set that runs can be made of."""
    from core.store import export
    from pages import _audit

    store = _audit.store()
    manifest = export.to_manifest(store.studies(), store.pictures)
    if len(manifest.splitlines()) < 2:
        raise DataInvalid(
            "No study on the worklist has a decision that can be used for training yet."
        )
    registered().keep(CORRECTIONS, manifest)
