"""The runs on this machine: their list, and one of them as it goes, with what can be done to it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from core.settings import Settings
from pages import _access, _curves, _theme, _worklist
from training import phases
from training.jobs import Queue, Record, State
from training.jobs.record import log_tail

POLL_SECONDS = 2.0
SHAPES = {
    State.QUEUED: "… Queued",
    State.RUNNING: "▶ Running",
    State.PAUSING: "‖ Pausing",
    State.PAUSED: "‖ Paused",
    State.CANCELLED: "□ Cancelled",
    State.INTERRUPTED: "× Interrupted",
    State.FAILED: "× Failed",
    State.FINISHED: "■ Finished",
}
BEST = "Best on validation"
WHAT_IS_BEST = (
    "Of the phase that was validated last: the mean of its accuracies and AUROCs on the validation "
    "split, with a consistency loss less the logit change when cropped. The weights with the best "
    "one are kept."
)
FACTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "phase": ("Phase", lambda v: str(v).replace("_", " ")),
    "loss": ("Loss", lambda v: f"{v:.4f}"),
    "rate": ("Learning rate", lambda v: f"{v:.2e}"),
    "speed": ("Speed", lambda v: f"{v:.1f} pictures/s"),
    "memory": ("Memory", lambda v: f"{v:,} MB"),
}
# A branch's own phase passes the frozen trunk forward only: 48 pictures a second instead of 19.
BRANCH_SPEEDUP = 2.5


def queue() -> Queue:
    """The queue of this BONE_HOME."""
    return Queue(Settings.from_environment().home / "runs")


def actor() -> str:
    """Who is asking: who signed in, else the reader's name, else "local"."""
    return _worklist.reader() or _access.LOCAL


def show(view: str) -> None:
    """For a button: go to another view of the page.

    The choice of views gets another key: what a browser sends that has not heard of it yet, such as
    a second click, names the old view under the old key, and takes nobody back.
    """
    st.session_state["view"] = view
    st.session_state["view-turn"] = st.session_state.get("view-turn", 0) + 1


def listed() -> None:
    """The list and the chosen run; polled while one is active, and then no more."""
    records = queue().records()
    active = any(r.state.active for r in records)
    st.fragment(_listed, run_every=POLL_SECONDS if active else None)(active)


def _listed(polled: bool) -> None:
    with _theme.boundary():
        jobs = queue()
        jobs.advance()  # where the process that should have done it was killed
        records = jobs.records()
        if any(r.state.active for r in records) != polled:
            st.rerun()
        _theme.refused()
        if not records:
            _theme.html(
                "<p class='lead'>No run yet. Choose <b>New run</b> above: register a data set, "
                "choose a preset, and press Start.</p>"
            )
            return
        _one(jobs, _choose(records))


def _choose(records: list[Record]) -> Record:
    """The list of runs; looked at is the one that was chosen, else the active, else the newest."""
    ids = [r.id for r in records]

    def choose() -> None:
        for row in st.session_state["run-list"].selection.rows:
            st.session_state["run"] = ids[row]

    table = pd.DataFrame([_row(r) for r in records])
    st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        height=min(38 + 35 * len(table), 248),
        on_select=choose,
        selection_mode="single-row",
        key="run-list",
        column_config={
            "Progress": st.column_config.ProgressColumn(
                min_value=0, max_value=100, format="%.0f %%", color="#6f8192"
            ),
            BEST: st.column_config.TextColumn(help=WHAT_IS_BEST),
        },
    )
    wanted = st.session_state.get("run")
    by_id = {r.id: r for r in records}
    active = next((r for r in records if r.alive), None)
    return by_id.get(str(wanted)) or active or records[0]


def _row(record: Record) -> dict[str, object]:
    event = last_event(record.folder)
    done = 100 * record.seen / record.passes if record.passes else 0
    return {
        "Run": record.job.name,
        "State": SHAPES[record.state],
        "Progress": done,
        BEST: f"{best:.3f}" if isinstance(best := event.get("best"), float) else "",
        "Started (UTC)": time.strftime("%Y-%m-%d %H:%M", time.gmtime(record.job.created)),
        "Note": record.job.note,
    }


def last_event(folder: Path) -> dict[str, object]:
    """The last whole line of events.jsonl; empty where there is none."""
    try:
        with (folder / "events.jsonl").open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 8192))
            lines = file.read().splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {}


def _one(jobs: Queue, record: Record) -> None:
    head, buttons = st.columns([3, 2], vertical_alignment="center")
    with head:
        _theme.html(
            f"<p class='cardname'><b>{escape(record.job.name)}</b> {escape(record.job.note)}</p>"
            f"<p class='tally' role='status'><b>{SHAPES[record.state]}</b>"
            f"{'' if record.state is State.FINISHED else f' · {escape(record.sentence())}'}</p>"
        )
        if record.silent:
            _theme.notice(
                f"No progress reported for {span(record.silent)}, though the process is running."
            )
    with buttons, st.container(horizontal=True, horizontal_alignment="right"):
        _buttons(jobs, record)
    if record.passes:
        st.progress(min(1.0, record.seen / record.passes), text=_progress(record))
    _theme.html(_facts(record))
    table = history(record.folder)
    if table is not None:
        _curves.draw(table, record.id)
    with st.expander("Log"):
        st.code(log_tail(record.folder) or "The log is empty.", language=None, height=260)
    with st.expander("Name, note and settings"):
        _rename(jobs, record)


def _buttons(jobs: Queue, record: Record) -> None:
    """What can be done in this state. It is read from the disk, so every tab shows the same."""

    def button(label: str, action: Callable[..., object], *more: object) -> None:
        st.button(
            label, key=f"{label}-{record.id}", on_click=_theme.ask, args=(action, record.id, *more)
        )

    if record.state in (State.QUEUED, State.RUNNING) and record.job.task == "fit":
        button("Pause", jobs.pause)
    if record.state.active:
        button("Cancel", jobs.cancel)
    elif record.state is not State.FINISHED:
        button("Resume", jobs.resume)
    if record.fitted and not record.state.active:
        button("Evaluate on validation", jobs.evaluate, "val")
        button("Evaluate on test", jobs.evaluate, "test")


def _progress(record: Record) -> str:
    text = f"{record.seen:,} of {record.passes:,} pictures"
    left = time_left(record)
    return f"{text}, about {span(left)} left" if left is not None else text


def time_left(record: Record) -> float | None:
    """Seconds until the last phase ends, at the speed of the present one; None where unknown."""
    speed, phase = record.status.get("speed"), record.status.get("phase")
    passes = phases.passes(record.job.settings)
    if record.state is not State.RUNNING or not speed or phase not in passes:
        return None
    behind = list(passes)[list(passes).index(str(phase)) + 1 :]
    factor = BRANCH_SPEEDUP if phase == phases.JOINT else 1.0
    left = passes[str(phase)] - float(record.status.get("seen", 0))
    later = sum(passes[p] for p in behind)
    return left / float(speed) + later / (factor * float(speed))


def span(seconds: float) -> str:
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} seconds"


def _facts(record: Record) -> str:
    """What the process says now, in one line that keeps its place."""
    said = record.status
    facts = [
        (name, form(said[key]))
        for key, (name, form) in FACTS.items()
        if said.get(key) not in (None, "")
    ]
    body = "".join(f"<span>{k} <b>{escape(v)}</b></span>" for k, v in facts)
    return f"<p class='tallies soft'>{body}</p>"


def _rename(jobs: Queue, record: Record) -> None:
    with st.form(f"rename-{record.id}", border=False):
        name = st.text_input("Name", record.job.name, max_chars=80)
        note = st.text_input("Note", record.job.note, max_chars=400)
        if st.form_submit_button("Save"):
            jobs.rename(record.id, name, note)
            st.rerun()
    settings = {k: str(v) for k, v in record.job.settings.items()}
    st.dataframe(
        pd.DataFrame(settings.items(), columns=["Setting", "Value"]),
        hide_index=True,
        width="stretch",
        height=240,
    )


def history(folder: Path) -> pd.DataFrame | None:
    """The run's events as a table (``training.curves.history``); None before the first one."""
    path = folder / "events.jsonl"
    try:
        stat = path.stat()
    except OSError:
        return None
    return _history(str(folder), stat.st_mtime_ns, stat.st_size) if stat.st_size else None


@lru_cache(maxsize=64)
def _history(folder: str, _modified: int, _size: int) -> pd.DataFrame | None:
    from training import curves

    try:
        return curves.history(Path(folder))
    except (KeyError, AttributeError):  # no whole line yet
        return None
