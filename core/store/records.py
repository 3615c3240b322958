"""What goes into the store and comes out of it: frozen values, no database in sight."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np

from core.origin import Origin
from core.study import Mark, StudyResult
from core.types import (
    WHOLE,
    BodyPart,
    BodyPartPrediction,
    Crop,
    Finding,
    FracturePrediction,
    Heatmap,
    ImageResult,
    Photograph,
)


class Verdict(StrEnum):
    """What a reader did. DRAFT: wrote or marked something and has not decided."""

    DRAFT = "draft"
    AGREE = "agree"
    DISAGREE = "disagree"
    SECOND_LOOK = "second_look"


class Status(StrEnum):
    """Where a study stands, which follows from all its readers' decisions in force."""

    NEW = "new"
    AGREED = "agreed"
    DISAGREED = "disagreed"
    SECOND_LOOK = "second_look"


TELLING = frozenset({Status.AGREED, Status.DISAGREED})
"""What tells who has still to decide what the others said."""


@dataclass(frozen=True)
class Opinion:
    """What a reader says of a study: the verdict, the right part and finding, where, and why.

    body_part, finding: the reader's own; None where the reader did not say.
    """

    verdict: Verdict
    body_part: BodyPart | None = None
    finding: Finding | None = None
    comment: str = ""
    marks: tuple[Mark, ...] = ()

    @property
    def says_with_what(self) -> bool:
        """Whether who disagrees has said anything that can be signed."""
        return bool(self.body_part or self.finding or self.comment.strip())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Opinion:
        part, finding = record["body_part"], record["finding"]
        return cls(
            Verdict(record["verdict"]),
            BodyPart(part) if part else None,
            Finding(finding) if finding else None,
            record["comment"],
            tuple(Mark(**m) for m in record["marks"]),
        )


@dataclass(frozen=True)
class Decision:
    """An opinion with its reader and time. revision: 1, 2, … of this reader on this study.

    opinion: None after an undo of the first one.
    """

    reader: str
    revision: int
    made: datetime
    opinion: Opinion | None


@dataclass(frozen=True)
class Entry:
    """One line of the worklist. readers: whose decisions are in force. views: how many there are.

    newer: id of the newest study on the worklist that the same reader or the listener brought since
    with all of its pictures, or in its place by the other rules of ``superseding.places``: this
    one is superseded by it. "" without one. received: whether the listener brought it, whoever
    added it.
    """

    id: str
    title: str
    added: datetime
    status: Status
    body_part: BodyPart | None
    probability: float | None
    finding: Finding | None
    views: int
    decisions: tuple[Decision, ...] = ()
    purged: datetime | None = None
    newer: str = ""
    received: bool = False

    @property
    def readers(self) -> tuple[str, ...]:
        return tuple(d.reader for d in self.decisions)


@dataclass(frozen=True)
class Reassessment:
    """What the fracture model of the part that a reader named says of a study.

    It stands beside the first result and never replaces it. release, release_sha256: who says so;
    label_means: what a positive label meant to it. asked_by: the reader who named the part first.
    """

    result: StudyResult
    release: str
    release_sha256: str
    label_means: str
    made: datetime
    asked_by: str


@dataclass(frozen=True)
class StudyRecord:
    """One study with everything that is known of it.

    decisions: those in force, one a reader, the earliest reader first. history: all there ever
    were, in order. label_means: what a positive label meant to the release that assessed it.
    stored: for each view whether its picture is there. reassessments: the earliest first. newer and
    received: see ``Entry``. older: ids of the studies whose place it took. missing: how many
    radiographs of these are neither in it nor corrected there.
    """

    id: str
    key: str
    title: str
    added: datetime
    added_by: str
    status: Status
    release: str
    release_sha256: str
    label_means: str
    result: StudyResult
    stored: tuple[bool, ...]
    decisions: tuple[Decision, ...]
    history: tuple[Decision, ...]
    purged: datetime | None = None
    reassessments: tuple[Reassessment, ...] = ()
    newer: str = ""
    older: tuple[str, ...] = ()
    missing: int = 0
    received: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of it: of its result, and that something older is not in it."""
        return (*self.result.notes, *self.not_in_it)

    @property
    def not_in_it(self) -> tuple[str, ...]:
        """A sentence on the radiographs that are ``missing``; nothing where none is."""
        if not self.missing:
            return ()
        of = "study" if len(self.older) == 1 else "studies"
        noun, verb = ("radiograph", "is") if self.missing == 1 else ("radiographs", "are")
        said = f"{self.missing} {noun} of the {of} that this one replaced {verb} not in it."
        return (said,)

    def reassessed_as(self, part: BodyPart | None) -> Reassessment | None:
        """The newest answer of a part's own fracture model; None where it was not asked."""
        found = [r for r in self.reassessments if r.result.body_part == part]
        return found[-1] if found else None


@dataclass(frozen=True)
class Query:
    """Which studies to list; an empty field asks for all. undecided_by: not by this reader yet.

    asked_by: who asks, "" for nobody by name; None where nothing is kept from who asks. A study
    that this reader has still to decide is found under a status that tells what the others said as
    well as under its opposite.
    """

    status: tuple[Status, ...] = ()
    finding: tuple[Finding, ...] = ()
    body_part: tuple[BodyPart, ...] = ()
    text: str = ""
    undecided_by: str = ""
    with_purged: bool = False
    asked_by: str | None = None


def has_decided(decisions: Iterable[Decision], reader: str) -> bool:
    """Whether this reader has decided, and so may know what the others said."""
    mine = [d.opinion for d in decisions if d.reader == reader]
    return any(o is not None and o.verdict is not Verdict.DRAFT for o in mine)


def status_of(opinions: Iterable[Opinion]) -> Status:
    """From the opinions in force: readers who say different things ask for a second look.

    So do several who disagree by a comment alone: nobody knows here whether these say the same.
    """
    decided = [o for o in opinions if o.verdict is not Verdict.DRAFT]
    if not decided:
        return Status.NEW
    said = {(o.verdict, o.body_part, o.finding) for o in decided}
    unclear = len(decided) > 1 and any(
        o.verdict is Verdict.DISAGREE and o.body_part is None and o.finding is None for o in decided
    )
    if len(said) > 1 or unclear or decided[0].verdict is Verdict.SECOND_LOOK:
        return Status.SECOND_LOOK
    return Status.AGREED if decided[0].verdict is Verdict.AGREE else Status.DISAGREED


def pack(result: ImageResult) -> dict[str, Any]:
    """A result with its heatmap as JSON; the file name is kept apart, so that it can be removed."""
    part, heat = result.body_part, result.heatmap
    return {
        "reason": result.reason,
        "milliseconds": result.milliseconds,
        "probabilities": part and dict(part.probabilities),
        "body_part": part and part.label,
        "fracture": result.fracture and result.fracture.probability,
        "finding": result.fracture and result.fracture.finding.value,
        "members": result.fracture and [m.to_json() for m in result.fracture.members],
        "chosen": result.chosen,
        "photograph": result.photograph and result.photograph.to_json(),
        "origin": result.origin.to_json(),
        "heatmap": heat
        and {
            "method": heat.method,
            "values": np.round(heat.values, 6).tolist(),
            "crop": list(heat.crop),
        },
    }


def unpack(
    record: dict[str, Any],
    name: str,
    sha256: str | None,
    release: str,
    release_sha256: str,
    frame: int,
) -> ImageResult:
    """The result that was packed; heatmap values within 1e-6 of it.

    frame: of what the listener packed before frames were kept, which of the study's views with
    these bytes it is, from 1: they came in the order of the frames. Else 1.
    """
    part = fracture = heat = None
    if record["body_part"]:
        odds = {BodyPart(p): float(v) for p, v in record["probabilities"].items()}
        label = BodyPart(record["body_part"])
        part = BodyPartPrediction(label, odds.get(label, 0.0), odds)
    if record["fracture"] is not None:
        said = {"probability": record["fracture"], "finding": record["finding"]}
        fracture = FracturePrediction.from_json(said | {"members": record.get("members") or ()})
    if record["heatmap"]:
        values = np.array(record["heatmap"]["values"], np.float32)
        # what was packed before there was a crop was seen whole
        crop = Crop(*record["heatmap"].get("crop", WHOLE))
        heat = Heatmap(values, record["heatmap"]["method"], crop)
    return ImageResult(
        name,
        sha256,
        record["reason"],
        release,
        release_sha256,
        record["milliseconds"],
        part,
        fracture,
        heat,
        BodyPart(record["chosen"]) if record["chosen"] else None,
        Photograph.from_json(record.get("photograph")),  # what was packed before has none
        Origin.from_json(record["origin"]) if "origin" in record else Origin(frame=frame),
    )
