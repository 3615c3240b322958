"""What a report is made of, and its form for machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from core.manifest import Release
from core.operating import Estimate, Performance, performance, predictive_values
from core.study import Mark, StudyResult
from core.types import BodyPart, Finding, ImageResult, Radiograph
from core.words import percent

LIMITS = (
    "A research tool that supports a reader; not a medical device. It says suspected, doubtful or "
    "not suspected, and never confirms or excludes a finding. It assesses the named body parts "
    "only, and looks for no other findings. A heatmap shows where the positive evidence "
    "lies, scaled by the probability; it is not the outline of a lesion."
)
GONE = "The release that assessed this study is no longer installed, so its figures are missing."
SUPERSEDED = "This study is superseded: a newer study on the worklist took its place."


@dataclass(frozen=True)
class Decision:
    """What a reader decided about a study.

    agrees: with the release; None where the reader asks for a second look. body_part, finding:
    the reader's own, None where not given.
    """

    reader: str
    decided: datetime
    agrees: bool | None
    body_part: BodyPart | None = None
    finding: Finding | None = None
    comment: str = ""
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Reassessed:
    """What the fracture model of a part that a reader named instead says of the same views.

    release: the one that says so, in its mode; None where it is not installed any more.
    """

    study: StudyResult
    release: Release | None


@dataclass(frozen=True)
class StudyReport:
    """One study, ready to be written down.

    radiographs: one a view of the study in the same order, None where it could not be decoded or is
    not kept any more.
    release: the one that assessed the views; None where it is no longer installed. label_meant:
    what a positive label meant to such a one. created: when the report was made.
    point: name of the operating point that the reader works at.
    names: whether file names and the study's own name are given; they can hold a patient's name.
    prevalence: share in [0, 1] of the reader's patients who have it; None where nobody said.
    decisions: of the readers, the earliest first. superseded_by: id on the worklist of the study
    that took the place of this one since; "" without one.
    """

    study: StudyResult
    radiographs: tuple[Radiograph | None, ...]
    release: Release | None
    created: datetime
    point: str = "sensitive"
    names: bool = False
    prevalence: float | None = None
    decisions: tuple[Decision, ...] = ()
    reassessed: tuple[Reassessed, ...] = ()
    label_meant: str = ""
    superseded_by: str = ""

    @property
    def assessed_by(self) -> tuple[str, str]:
        """(id, SHA-256) of the release that assessed the views, also where it is gone."""
        first = self.study.views[0]
        return first.release, first.release_sha256

    @property
    def performance(self) -> Performance | None:
        """What the chosen operating point is known to give on this body part."""
        if self.study.body_part is None or self.release is None:
            return None
        return performance(self.release, self.study.body_part, self.point)

    @property
    def predictive_values(self) -> tuple[Estimate | None, Estimate | None] | None:
        """(PPV, NPV) at the chosen operating point and prevalence; None where one is not known."""
        found = self.performance
        if found is None or self.prevalence is None:
            return None
        return predictive_values(found.sensitivity, found.specificity, self.prevalence)

    def marks_on(self, position: int) -> tuple[Mark, ...]:
        """Every reader's marks on one view."""
        return tuple(m for d in self.decisions for m in d.marks if m.view == position)

    @property
    def label_means(self) -> str:
        """What a positive label meant in the training data; empty where no part was assessed."""
        if self.release is None:
            return self.label_meant
        stage = self.release.stages.get(self.study.body_part or "")
        return stage.label_means if stage else ""

    def name(self, position: int) -> str:
        """What a view is called: its file name if names are asked for, else its number."""
        file = self.study.views[position].file
        return file if self.names else f"View {position + 1}"


def another_release(release: str, sha256: str, first: str, first_sha256: str) -> str:
    """By whom a part was assessed that a reader named, where it was not what assessed the study: a
    phrase, "" where it was the same. Of each the id and the SHA-256."""
    if release != first:
        return f"release {release}"
    return "in another mode or with other parts of the release" * (sha256 != first_sha256)


def how_found(view: ImageResult) -> str:
    """Who named the body part: a phrase."""
    if view.body_part is None:
        return "not recognised"
    if view.chosen is None:
        return f"recognised, {percent(view.body_part.probability)}"
    said = view.body_part
    share = percent(said.probability)
    return f"chosen by the reader (recognised: {said.label}, {share})"


def as_json(report: StudyReport) -> dict[str, Any]:
    """The report as JSON types; the views have the public record of ``ImageResult.to_json``."""
    study, release = report.study, report.release
    performance, (name, sha256) = report.performance, report.assessed_by
    return {
        "study": {"name": study.id if report.names else None}
        | _result(study)
        | {"label_means": report.label_means, "superseded_by": report.superseded_by or None},
        "views": [_view(report, n) for n in range(len(study.views))],
        "operating_point": performance and asdict(performance),
        "predictive_values": _predictive(report),
        "decisions": [_decision(d) for d in report.decisions],
        "reassessed": [_reassessed(report, r.study) for r in report.reassessed],
        "release": {
            "id": name,
            "sha256": sha256,
            "created": release and release.created,
            "mode": release and release.mode,
            "installed": release is not None,
        },
        "created": report.created.isoformat(timespec="seconds"),
        "limits": LIMITS,
    }


def _result(study: StudyResult) -> dict[str, Any]:
    return {
        "body_part": study.body_part,
        "side": study.side or None,
        "probability": None if study.probability is None else round(study.probability, 6),
        "finding": study.finding,
        "notes": list(study.notes),
    }


def _predictive(report: StudyReport) -> dict[str, Any] | None:
    found = report.predictive_values
    if found is None:
        return None
    said: dict[str, Any] = {"prevalence": report.prevalence}
    for name, estimate in zip(("ppv", "npv"), found, strict=True):
        said[name] = estimate and round(estimate.value, 6)
        limits = [] if estimate is None else [estimate.low, estimate.high]
        said[f"{name}_interval"] = [round(v, 6) for v in limits if v is not None] or None
    return said


def _reassessed(report: StudyReport, study: StudyResult) -> dict[str, Any]:
    views = [
        v.to_json() | {"file": report.name(n), "chosen": v.chosen}
        for n, v in enumerate(study.views)
    ]
    return _result(study) | {"views": views}


def _view(report: StudyReport, position: int) -> dict[str, Any]:
    view = report.study.views[position]
    record = view.to_json() | {"file": report.name(position), "chosen": view.chosen}
    radiograph = report.radiographs[position]
    return record | {"pixel_spacing_mm": radiograph and radiograph.pixel_spacing}


def _decision(decision: Decision) -> dict[str, Any]:
    return asdict(decision) | {"decided": decision.decided.isoformat(timespec="seconds")}
