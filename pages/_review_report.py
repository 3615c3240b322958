"""The report of a study on the worklist: what the release said and what the readers decided."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Literal

import streamlit as st

from core import registry, report
from core.manifest import Release
from core.settings import Settings
from core.store import Decision, Store, StudyRecord, Verdict
from core.store.export import told
from core.store.records import Reassessment
from core.types import BodyPart, ImageResult, Radiograph
from pages import _operating, _review_asked, _worklist

Told = StudyRecord | Reassessment | ImageResult
AGREES = {Verdict.AGREE: True, Verdict.DISAGREE: False, Verdict.SECOND_LOOK: None}


Radiographs = Callable[[StudyRecord], tuple[Radiograph | None, ...]]


def buttons(
    store: Store, study: str, part: BodyPart | None, radiographs: Radiographs, decided: bool
) -> None:
    """PDF and JSON, with names only if the reader asks for them; each is a line in the audit.

    part: of the study, whose prevalence is told. radiographs: reads those of a study when its
    report is made. decided: whether this reader has, so that the report is what comes next.
    """
    names = st.session_state.get(f"names-{study}", False)
    # What the session knows is asked here: a download has no session.
    point, prevalence = _operating.chosen(part)
    reader = _worklist.reader()
    paper, data = st.columns(2)
    first: Literal["primary", "secondary"] = "primary" if decided else "secondary"
    for place, label, form, kind in (
        (paper, "Report (PDF)", "pdf", first), (data, "JSON", "json", "secondary")
    ):  # fmt: skip
        place.download_button(
            label,
            data=partial(_made, store, study, radiographs, form, names, point, prevalence, reader),
            file_name=f"report-{study[:12]}.{form}",
            mime=f"application/{form}",
            on_click="ignore",
            key=f"report-{form}-{study}",
            type=kind,
            width="stretch",
        )
    st.checkbox("Include the names of study and files", key=f"names-{study}")


def installed(of: Told) -> Release | None:
    """The release that said so; None where it is gone."""
    weights = Settings.from_environment().weights
    return registry.used(weights, of.release, of.release_sha256)


class Releases:
    """``installed`` for who draws one page: a release is looked up once, and not for each figure.

    Not longer than a page: a release may come or go before the next.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Release | None] = {}

    def __call__(self, of: Told) -> Release | None:
        which = of.release, of.release_sha256
        if which not in self._found:
            self._found[which] = installed(of)
        return self._found[which]


def _made(
    store: Store,
    study: str,
    radiographs: Radiographs,
    form: str,
    names: bool,
    point: str,
    prevalence: float | None,
    reader: str,
) -> bytes:
    """Of the study as it is now: since its page was drawn another may have taken its place, and
    readers may have decided otherwise."""
    record = store.study(study)
    decisions = told(record, reader)
    asked = _review_asked.shown(record, tuple(d.opinion for d in decisions if d.opinion))
    made = report.StudyReport(
        replace(record.result, id=record.title, notes=record.notes),
        radiographs(record),
        installed(record),
        datetime.now(UTC),
        point,
        names,
        prevalence,
        tuple(_decision(d) for d in decisions if d.opinion and d.opinion.verdict in AGREES),
        tuple(report.Reassessed(r.result, installed(r)) for r in asked),
        label_meant=record.label_means,
        superseded_by=record.newer,
    )
    actor = reader or "unnamed"
    store.audit("export.made", actor, kind=f"report {form}", study=study, names=names)
    return report.pdf(made) if form == "pdf" else json.dumps(report.as_json(made)).encode()


def _decision(decision: Decision) -> report.Decision:
    opinion = decision.opinion
    assert opinion is not None  # those without one were left out
    return report.Decision(
        decision.reader,
        decision.made,
        AGREES[opinion.verdict],
        opinion.body_part,
        opinion.finding,
        opinion.comment,
        opinion.marks,
    )
