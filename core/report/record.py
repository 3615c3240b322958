"""What a report is made of, and its form for machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from core.operating import Performance, performance
from core.registry import Release
from core.study import StudyResult
from core.types import BodyPart, Finding, ImageResult, Radiograph

LIMITS = (
    "A research tool that supports a reader; not a medical device. It says suspected, doubtful or "
    "not suspected, and never that something is there or is not. It reads the named body parts "
    "only, and other findings are not looked for. A heatmap shows where the positive evidence "
    "lies, scaled by the probability; it is not the outline of a lesion."
)


@dataclass(frozen=True)
class Decision:
    """What a reader decided about a study.

    agrees: with the release. body_part, finding: the reader's own, None where not given.
    mark: "x0 y0 x1 y1", fractions of the view ``marked`` (its position), empty for none.
    """

    reader: str
    decided: datetime
    agrees: bool
    body_part: BodyPart | None = None
    finding: Finding | None = None
    comment: str = ""
    mark: str = ""
    marked: int = 0


@dataclass(frozen=True)
class StudyReport:
    """One study, ready to be written down.

    radiographs: one a view of the study in the same order, None where it could not be decoded.
    release: the one that assessed the views. created: when the report was made.
    point: name of the operating point that the reader works at.
    names: whether file names and the study's own name are given; they can hold a patient's name.
    """

    study: StudyResult
    radiographs: tuple[Radiograph | None, ...]
    release: Release
    created: datetime
    point: str = "sensitive"
    names: bool = False
    decision: Decision | None = None

    @property
    def performance(self) -> Performance | None:
        """What the chosen operating point is known to give on this body part."""
        if self.study.body_part is None:
            return None
        return performance(self.release, self.study.body_part, self.point)

    @property
    def label_means(self) -> str:
        """What a positive label meant in the training data; empty where no part was assessed."""
        stage = self.release.stages.get(self.study.body_part or "")
        return stage.label_means if stage else ""

    def name(self, position: int) -> str:
        """What a view is called: its file name if names are asked for, else its number."""
        file = self.study.views[position].file
        return file if self.names else f"View {position + 1}"


def how_found(view: ImageResult) -> str:
    """Who named the body part: a phrase."""
    if view.body_part is None:
        return "not found"
    if view.chosen is None:
        return f"recognised, {100 * view.body_part.probability:.0f} %"
    said = view.body_part
    share = f"{100 * said.probability:.0f} %"
    return f"chosen by the reader (recognised: {said.label}, {share})"


def as_json(report: StudyReport) -> dict[str, Any]:
    """The report as JSON types; the views have the public record of ``ImageResult.to_json``."""
    study, release = report.study, report.release
    performance = report.performance
    return {
        "study": {
            "name": study.id if report.names else None,
            "body_part": study.body_part,
            "probability": None if study.probability is None else round(study.probability, 6),
            "finding": study.finding,
            "notes": list(study.notes),
            "label_means": report.label_means,
        },
        "views": [_view(report, n) for n in range(len(study.views))],
        "operating_point": performance and asdict(performance),
        "decision": report.decision and _decision(report.decision),
        "release": {"id": release.id, "sha256": release.sha256, "created": release.created},
        "created": report.created.isoformat(timespec="seconds"),
        "limits": LIMITS,
    }


def _view(report: StudyReport, position: int) -> dict[str, Any]:
    view = report.study.views[position]
    record = view.to_json() | {"file": report.name(position), "chosen": view.chosen}
    radiograph = report.radiographs[position]
    return record | {"pixel_spacing_mm": radiograph and radiograph.pixel_spacing}


def _decision(decision: Decision) -> dict[str, Any]:
    return asdict(decision) | {"decided": decision.decided.isoformat(timespec="seconds")}
