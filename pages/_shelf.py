"""The views of the page Releases: the list with its actions, two compared, and adding one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from html import escape
from pathlib import Path

import pandas as pd
import streamlit as st

from core.errors import CascadeError
from core.manifest import Release
from core.settings import CHAMPION, Settings
from pages import _audit, _runs, _theme
from training import candidate_folder, catalogue, measured, parcel
from training import compare as paired
from training.catalogue import Listed, ReleaseRefused

log = logging.getLogger(__name__)

LONGEST_REASON = 200  # characters: the audit takes no more
MAX_PARCEL_MB = 160
OTHER_SPLIT = "†"
SHOWN, ADDED, PARCEL = "release-shown", "run-to-add", "parcel"  # the fields by their keys


def listed(settings: Settings, releases: list[Listed]) -> None:
    """Every release, readable or not; the chosen one with its card and what can be done."""
    if not releases:
        _theme.html(
            "<p class='lead'>There is no release yet. Add one from a run, or import one.</p>"
        )
        return
    champion = next((r.release for r in releases if CHAMPION in r.aliases and r.release), None)
    split = champion.metrics.get("split_sha256") if champion else None
    rows = pd.DataFrame([_row(settings.weights, r, split) for r in releases])
    st.dataframe(rows, hide_index=True, width="stretch")
    if any(OTHER_SPLIT in str(cell) for cell in rows.to_numpy().ravel()):
        _theme.html(
            f"<p class='soft'>{OTHER_SPLIT} Measured on other data or another split than the "
            "release in use, so the two may not be comparable.</p>"
        )
    by_id = {r.id: r for r in releases}
    first = next((r.id for r in releases if CHAMPION in r.aliases), releases[0].id)
    chosen = by_id[st.selectbox("Release", list(by_id), index=list(by_id).index(first), key=SHOWN)]
    left, right = st.columns([3, 2], gap="large")
    with left:
        _card(settings.weights, chosen)
    with right:
        _actions(settings, chosen)


def _row(weights: Path, listed: Listed, split: str | None = None) -> dict[str, str]:
    """split: the SHA-256 of the one that the champion was measured on, if that is known."""
    problems = _problems(weights, listed)
    return {
        "Release": listed.id,
        "Aliases": ", ".join("in use" if a == CHAMPION else a for a in listed.aliases),
        "State": problems[0] if problems else "intact",
        "Created": str(listed.entry.get("created", "")),
        "SHA-256": listed.release.sha256[:12] if listed.release else "",
        **(_figures(listed.release, split) if listed.release else {}),
    }


def _figures(release: Release, split: str | None) -> dict[str, str]:
    """AUROC and n of each part on all real radiographs, by image, of the split that was measured;
    with OTHER_SPLIT where that is not ``split``, the champion's."""
    from training.report import at_a_glance

    figures = [{"level": "image", **r} for r in release.metrics.get("figures", [])]
    differs = split is not None and release.metrics.get("split_sha256") != split
    other = f" {OTHER_SPLIT}" if differs else ""
    known = ("fracture", "auroc", "all", "image")
    n = {
        r["part"]: f", n = {r['n']}{other}"
        for r in figures
        if (r["stage"], r["metric"], r["source"], r["level"]) == known
    }
    glance = at_a_glance(figures).get("AUROC", {})
    return {f"AUROC {part}": f"{v}{n.get(part, '')}" for part, v in glance.items()}


def _problems(weights: Path, listed: Listed) -> list[str]:
    """Damage, looked for again only where a file has changed."""
    if listed.release is None:
        return [listed.problem]
    stats = []
    for path in listed.release.files:
        try:
            stat = (weights / path).stat()
            stats.append((path, stat.st_mtime_ns, stat.st_size))
        except OSError:
            stats.append((path, 0, 0))
    return _checked(str(weights), listed.id, listed.release.sha256, tuple(stats))


@st.cache_data(max_entries=64, show_spinner="Checking the weights against their checksums.")
def _checked(weights: str, release: str, _sha256: str, stats: tuple[object, ...]) -> list[str]:
    return catalogue.check(Path(weights), release)


def _card(weights: Path, chosen: Listed) -> None:
    if chosen.release is None:
        _theme.notice(chosen.problem)
        return
    release = chosen.release
    data = release.training_data
    counts = ", ".join(f"{v:,} {k}" for k, v in data.get("pictures", {}).items())
    facts = {
        "SHA-256 of the release": release.sha256,
        "Created": release.created,
        "Parts": ", ".join(release.parts),
        "Parts that are not installed": "; ".join(
            f"{part} (missing: {', '.join(missing)})" for part, missing in release.absent.items()
        ),
        "Pictures": counts,
        "Sources": ", ".join(data.get("sources", [])),
        "SHA-256 of the split": str(data.get("split_sha256", "")),
        "Licence": release.licence,
        "Intended use": release.intended_use,
    }
    body = "".join(
        f"<tr><td>{escape(k)}</td><td>{escape(str(v))}</td></tr>" for k, v in facts.items() if v
    )
    _theme.html(f"<table class='details'>{body}</table>")
    path = weights / chosen.id / "MODEL_CARD.md"
    with st.expander("Model card"):
        # as text: a card that came with an import could name pictures on the internet
        text = path.read_text(encoding="utf-8") if path.is_file() else "There is no model card."
        st.code(text, language=None, wrap_lines=True, height=420)


def _actions(settings: Settings, chosen: Listed) -> None:
    """Use it, go back, export; who and why go into the audit first."""
    problems = _problems(settings.weights, chosen)
    back = catalogue.previous(settings.weights)
    if problems:
        _theme.notice(problems[0])
    idle = bool(problems) or CHAMPION in chosen.aliases
    _change("Use this release", "release.promoted", settings.weights, chosen.id, idle)
    if back:
        _change(f"Roll back to {back}", "release.rolled_back", settings.weights, back)
    if not problems:
        st.download_button(
            "Export",
            data=partial(parcel.pack, settings.weights, chosen.id),
            file_name=f"{chosen.id}.zip",
            mime="application/zip",
            on_click="ignore",
        )


def _change(label: str, event: str, weights: Path, release: str, idle: bool = False) -> None:
    """Asks for a reason first: it changes what everybody works with.

    Whatever has a key has the release in it, so that no click means another one than was named.
    """
    key = f"{event}-{release}"
    with st.popover(label, disabled=idle, key=f"{key}-asked"):
        _theme.html(
            f"<p>New sessions of everyone will work with <b>{escape(release)}</b>. Open sessions "
            "keep the release they began with and are notified.</p>"
            f"<p class='soft'>Recorded as {escape(_runs.actor())}.</p>"
        )
        why = f"{key}-why"
        st.text_input(
            "Reason (required, kept in the audit)", key=why, max_chars=LONGEST_REASON, disabled=idle
        )
        st.button(
            "Change for everyone",
            key=key,
            type="primary",
            disabled=idle,
            on_click=_theme.ask,
            args=(_do, event, weights, release, why),
        )


def _do(event: str, weights: Path, release: str, field: str) -> None:
    """Write the audit, then act: what cannot be written down does not happen. field: key of the
    reason's."""
    why = str(st.session_state.get(field, "")).strip()
    if not why:
        if catalogue.champion(weights) == release:
            return  # the second half of a double click, whose first took the reason with it
        raise ReleaseRefused("Please give a reason first.")
    _audit.write(event, _runs.actor(), release=release, why=why)
    try:
        catalogue.promote(weights, release)
    except (CascadeError, OSError):
        _not_changed(event, release)
        raise
    st.session_state[field] = ""
    st.session_state["done"] = f"{escape(release)} is in use now."


def _not_changed(event: str, release: str) -> None:
    """A line after the one that said what was to happen."""
    try:
        _audit.write("release.not_changed", _runs.actor(), release=release, asked=event)
    except (CascadeError, OSError) as error:
        log.error("The audit cannot be written: %s", _theme.sentence(error))


def compare(settings: Settings, releases: list[Listed]) -> None:
    """Two evaluations of the same pictures, the difference with its interval."""
    from core.registry import Registry

    registry = None
    if releases:
        registry = Registry.open(settings.weights)
    known = measured.evaluations(registry, settings.home / "runs")
    found = {e.name: e for e in known if e.scores_path is not None}
    if len(found) < 2:
        _theme.html(
            "<p class='lead'>Two releases are compared on the pictures that both have scored. "
            "Evaluate two runs on the same split first.</p>"
        )
        return
    left, right = st.columns(2)
    one = found[left.selectbox("First", list(found), index=1)]
    two = found[right.selectbox("Second", list(found), index=0)]
    paths = [one.scores_path, two.scores_path]
    table = _differences(*((str(p), p.stat().st_mtime_ns) for p in paths if p is not None))
    if table.empty:
        _theme.notice("These two have no picture in common.")
        return
    st.dataframe(table, hide_index=True, width="stretch")
    _theme.html(
        "<p class='soft'>Second minus first; 95 % intervals from a paired bootstrap over patients "
        "(1,000 draws). An interval that contains 0 shows no difference. There is none where too "
        "few patients count, or where all draws are equal, which does not mean certainty. Brier "
        "score: lower is better.</p>"
    )


@st.cache_data(max_entries=8, show_spinner="Computing the paired bootstrap.")
def _differences(first: tuple[str, int], second: tuple[str, int]) -> pd.DataFrame:
    rows = [measured.coded(measured.read_scores(Path(path))) for path, _ in (first, second)]
    found = pd.DataFrame([asdict(d) for d in paired.differences(*rows)])
    for limit in {"low", "high"} & {*found}:
        found[limit] = ["no interval" if pd.isna(v) else f"{v:.4f}" for v in found[limit]]
    return found


def add(settings: Settings, _: list[Listed]) -> None:
    """A run's candidate, or a release from a file."""
    left, right = st.columns(2, gap="large")
    with left:
        _theme.html("<p class='cardname'><b>From a run</b> that was evaluated</p>")
        runs = [
            r.folder for r in _runs.queue().records()
            if (candidate_folder.of(r.folder) / "manifest.json").exists()
        ]  # fmt: skip
        names = [r.name for r in runs]
        run = st.selectbox("Run", names, key=ADDED) if names else None
        st.button(
            "Add this run", disabled=run is None, on_click=_theme.ask, args=(_added, _from_run)
        )
    with right:
        _theme.html("<p class='cardname'><b>From a file</b> that was exported</p>")
        given = st.file_uploader("Release", type="zip", max_upload_size=MAX_PARCEL_MB, key=PARCEL)
        st.button("Import", disabled=given is None, on_click=_theme.ask, args=(_added, _from_file))


def _from_run() -> tuple[str, list[str]]:
    folder, said = _runs.queue().record(str(st.session_state[ADDED])).folder, list[str]()
    return catalogue.add_run(folder, Settings.from_environment().weights, said.append), said


def _from_file() -> tuple[str, list[str]]:
    return parcel.unpack(st.session_state[PARCEL], Settings.from_environment().weights), []


def _added(how: Callable[[], tuple[str, list[str]]]) -> None:
    """Add a release, and write down that it was. how: does it, and says which and what of it."""
    actor = _runs.actor()
    _audit.write("release.asked_for", actor)  # where this cannot be written, nothing is added
    release, told = how()
    _audit.write("release.added", actor, release=release)
    said = [f"{release} was added. It is not in use yet.", *told, *_lost(release)]
    st.session_state["done"] = escape(" ".join(said))


def _lost(release: str) -> list[str]:
    """What the champion has and this one has not, in sentences."""
    from core.registry import Registry

    weights = Settings.from_environment().weights
    try:
        return catalogue.lost(weights, Registry.open(weights).find(release))
    except CascadeError:  # the list says what is wrong with it
        return []
