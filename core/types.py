"""The nouns: frozen values that travel from the decode boundary to the page and the report."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from core.origin import Origin


class BodyPart(str):
    """A body part by name. The words are open: a release says which it has a fracture model for.

    Any word of small letters, digits and underscores. OTHER is every radiograph that has no
    fracture model; the three parts that every release so far has are named for convenience.
    Raises ValueError for what is no such word.
    """

    __slots__ = ()
    ELBOW: ClassVar[BodyPart]
    HAND: ClassVar[BodyPart]
    SHOULDER: ClassVar[BodyPart]
    OTHER: ClassVar[BodyPart]

    def __new__(cls, name: str) -> BodyPart:
        if not _PART.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a body part")
        return super().__new__(cls, name)

    @property
    def words(self) -> str:
        """As a reader would say it."""
        return self.replace("_", " ")


_PART = re.compile(r"[a-z][a-z0-9_]{0,39}")
BodyPart.ELBOW, BodyPart.HAND = BodyPart("elbow"), BodyPart("hand")
BodyPart.SHOULDER, BodyPart.OTHER = BodyPart("shoulder"), BodyPart("other")


STRANGER = "stranger"  # the kind of OTHER that is no radiograph at all
BODY_PART = "body_part"  # the stage that says which part it is


class Mode(StrEnum):
    """How a release is used: its ResNet50 alone, or the average of all members of a part."""

    FAST = "fast"
    ENSEMBLE = "ensemble"


class Finding(StrEnum):
    """What stage 2 says, between the two operating points of the part; the gravest last."""

    NOT_SUSPECTED = "not_suspected"
    DOUBTFUL = "doubtful"
    SUSPECTED = "suspected"

    @property
    def words(self) -> str:
        """As a reader would say it."""
        return self.value.replace("_", " ")


# The most urgent first, None is not assessed; the worklist's table has the places.
URGENCY = (Finding.SUSPECTED, Finding.DOUBTFUL, Finding.NOT_SUSPECTED, None)


@dataclass(frozen=True)
class DicomHeader:
    """What a DICOM file says of its picture, without a word about the patient.

    patient: tells the files of one patient from another's, a digest of the Patient ID; "" without.
    study_uid, instance_uid: "" where the file has none or not a valid one.
    modality: a code of PS3.3 C.7.3.1.1.1 such as "DX". body_part: Body Part Examined (PS3.16 annex
    L) such as "ELBOW". view_position: such as "AP". laterality: "L", "R", "B" or "U". Each is ""
    where the file has none or a word that is not one of the standard's, so no free text gets here.
    frames: pictures in the file, at least 1. frame: which of them this one is, from 1.
    burned_in: whether the file says that text is part of the picture; None where it does not say.
    """

    study_uid: str = ""
    instance_uid: str = ""
    modality: str = ""
    body_part: str = ""
    view_position: str = ""
    laterality: str = ""
    frames: int = 1
    frame: int = 1
    burned_in: bool | None = None
    patient: str = ""


Corners: TypeAlias = tuple[tuple[float, float], ...]
"""Four (x, y), fractions of a photograph's width and height: top left, top right, bottom right,
bottom left of the film in it."""
# Where somebody says that it is a photograph and no film is clear, to be moved by hand from here
NEARLY_ALL: Corners = ((0.05, 0.05), (0.95, 0.05), (0.95, 0.95), (0.05, 0.95))


@dataclass(frozen=True)
class Photograph:
    """That a picture was taken of a film or a screen. corners: of the film that was cut out and
    straightened, NEARLY_ALL where none was clear; None where it was read as it was taken."""

    corners: Corners | None = None

    @property
    def guessed(self) -> bool:
        """Whether what was cut out is no film that was found, but the middle of the picture."""
        return self.corners == NEARLY_ALL

    @property
    def word(self) -> str:
        """For a table's cell."""
        if self.guessed:
            return "no film was clear, its middle taken"
        return "straightened" if self.corners else "as taken"

    def to_json(self) -> dict[str, Any]:
        return {"corners": self.corners and [list(c) for c in self.corners]}

    @classmethod
    def from_json(cls, record: dict[str, Any] | None) -> Photograph | None:
        if record is None:
            return None
        found = record["corners"]
        return cls(tuple((float(x), float(y)) for x, y in found) if found else None)


@dataclass(frozen=True)
class Radiograph:
    """One decoded picture, as the decode boundary returns it.

    pixels: HxW uint8 or uint16, grey, upright, bright where the object is dense (MONOCHROME1 is
        already inverted), after modality and VOI LUT where the file has them. Read-only.
    name: the file name as it was given, for display only.
    sha256: of the encoded bytes, 64 hexadecimal digits.
    format: "PNG", "JPEG", "TIFF", "WEBP" or "DICOM".
    pixel_spacing: (row, column) in millimetres at the detector or patient, None if not known.
    notes: what the decoder did that a reader may want to know, a sentence each. cautions: what a
        reader must know before trusting a result, a sentence each.
    header: of a DICOM file, None for every other format.
    exposed: whether the file says how a camera was set when it was taken (EXIF).
    cast: how far the picture as a whole is from grey, in grey values of [0, 255].
    photograph: None for a radiograph; see ``core.film``.
    stored: (rows, columns) of a DICOM file's own pixels, which need not be square as ``pixels``
        are; None for every other format.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    name: str
    sha256: str
    format: str
    pixel_spacing: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    header: DicomHeader | None = None
    exposed: bool = False
    cast: float = 0.0
    photograph: Photograph | None = None
    cautions: tuple[str, ...] = ()
    stored: tuple[int, ...] | None = None

    @property
    def study_uid(self) -> str | None:
        """Study Instance UID of a DICOM file (PS3.3 C.7.2.1), None if not known."""
        return (self.header.study_uid or None) if self.header else None


SURE = 0.95
"""Below it a reader is asked to check the body part. Of 330 validation radiographs that 2026.12-4
took for what they are 5 % lie below, of 48 that it took for another part 71 % (``evaluate``)."""


@dataclass(frozen=True)
class BodyPartPrediction:
    """Stage 1: the most probable class and the calibrated probability of each, summing to 1.

    looks_like: what an OTHER most probably is, in the release's words ("forearm"); "" where it
    cannot say or the label is a part of the cascade.
    """

    label: BodyPart
    probability: float
    probabilities: dict[BodyPart, float]
    looks_like: str = ""

    @property
    def sure(self) -> bool:
        """Whether a reader need not be asked to check it, see ``SURE``."""
        return self.probability >= SURE


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the calibrated probability, with what it gave on validation (n images)."""

    name: str
    threshold: float
    sensitivity: float
    specificity: float
    n: int


POINTS = ("sensitive", "specific")  # the operating points that decide and that figures are of


class Crop(NamedTuple):
    """The part of a picture that a network saw, in fractions of its height and width."""

    top: float
    left: float
    bottom: float
    right: float


WHOLE = Crop(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Heatmap:
    """Where the positive evidence of stage 2 lies.

    values: hxw float32 in [0, 1] on the network's grid of the letterboxed square; the largest
        value is the predicted probability, so that a 2 % and a 98 % prediction do not look alike.
        All zero means that there was no positive evidence.
    method: "Grad-CAM" or another method's name.
    crop: the part of the picture that was letterboxed.
    """

    values: NDArray[np.float32]
    method: str
    crop: Crop = WHOLE

    @property
    def has_evidence(self) -> bool:
        return bool(self.values.max() > 0)


@dataclass(frozen=True)
class MemberPrediction:
    """What one member of an ensemble says. probability: calibrated, its own. weight: in [0, 1], of
    its logit in the average. heatmap: its own; None where it was not kept."""

    name: str
    probability: float
    weight: float
    heatmap: Heatmap | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "probability": round(self.probability, 6),
            "weight": round(self.weight, 6),
        }


@dataclass(frozen=True)
class FracturePrediction:
    """Stage 2: calibrated probability of the positive label, and the finding.

    members: of an ensemble, the ResNet50 first; empty where one network said it.
    """

    probability: float
    finding: Finding
    members: tuple[MemberPrediction, ...] = ()

    @property
    def disagreement(self) -> float:
        """The largest difference between two members' probabilities; 0 for one network."""
        said = [m.probability for m in self.members]
        return max(said) - min(said) if said else 0.0

    def to_json(self) -> dict[str, Any]:
        """``members`` and ``disagreement`` are there only where an ensemble said it."""
        found: dict[str, Any] = {
            "probability": round(self.probability, 6),
            "finding": self.finding.value,
        }
        if self.members:
            found["members"] = [m.to_json() for m in self.members]
            found["disagreement"] = round(self.disagreement, 6)
        return found

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> FracturePrediction:
        """What ``to_json`` wrote; heatmaps are not in it."""
        members = tuple(
            MemberPrediction(m["name"], m["probability"], m["weight"])
            for m in record.get("members", ())
        )
        return cls(record["probability"], Finding(record["finding"]), members)


@dataclass(frozen=True)
class Assessment:
    """What the cascade says of one canvas, before anybody knows which file it was.

    body_part: None where a network gave no number; then there is nothing but the reason.
    reason: why there is no second stage, None where there is. chosen: the part a reader named.
    """

    body_part: BodyPartPrediction | None
    reason: str | None
    fracture: FracturePrediction | None = None
    heatmap: Heatmap | None = None
    chosen: BodyPart | None = None

    def on(self, crop: Crop) -> Assessment:
        """The same, with every heatmap where the canvas was cut out of its picture."""
        if self.heatmap is None or self.fracture is None or crop == WHOLE:
            return self
        members = tuple(
            replace(m, heatmap=m.heatmap and replace(m.heatmap, crop=crop))
            for m in self.fracture.members
        )
        return replace(
            self,
            fracture=replace(self.fracture, members=members),
            heatmap=replace(self.heatmap, crop=crop),
        )


@dataclass(frozen=True)
class ImageResult:
    """The result for one input, in the order the inputs were given.

    ``reason`` is None where the input was read; otherwise one sentence, and the input counts as
    rejected. A radiograph that stage 1 calls OTHER is rejected but keeps its ``body_part``.
    ``chosen`` is the part that a reader named, whatever stage 1 said; OTHER is one that has no
    model here, and the input is rejected for it. ``photograph`` is None where
    the input was a radiograph and no photograph of one. ``origin`` is what its file says.
    """

    file: str
    sha256: str | None
    reason: str | None
    release: str
    release_sha256: str
    milliseconds: float
    body_part: BodyPartPrediction | None = None
    fracture: FracturePrediction | None = None
    heatmap: Heatmap | None = field(default=None, repr=False, compare=False)
    chosen: BodyPart | None = None
    photograph: Photograph | None = None
    origin: Origin = field(default_factory=Origin)

    @property
    def part(self) -> BodyPart | None:
        """Whose fracture model assessed it; None where none did."""
        if self.fracture is None:
            return None
        return self.chosen or (self.body_part.label if self.body_part else None)

    @property
    def status(self) -> str:
        return "ok" if self.reason is None else "rejected"

    def to_json(self) -> dict[str, Any]:
        """The public record of one result; a rejected input has null for both stages."""
        part = self.body_part if self.reason is None else None
        return {
            "file": self.file,
            "sha256": self.sha256,
            "status": self.status,
            "reason": self.reason,
            "body_part": part
            and {
                "label": part.label,
                "probability": round(part.probability, 6),
                "probabilities": {k: round(v, 6) for k, v in part.probabilities.items()},
            },
            "fracture": self.fracture and self.fracture.to_json(),
            "release": self.release,
            "release_sha256": self.release_sha256,
            "milliseconds": round(self.milliseconds, 1),
            "photograph": self.photograph and self.photograph.to_json(),
            "origin": self.origin.to_json(),
        }

    def to_row(self) -> dict[str, Any]:
        """The same record flattened, for CSV and Parquet."""
        ok = self.reason is None
        return {
            "file": self.file,
            "sha256": self.sha256,
            "status": self.status,
            "reason": self.reason,
            "body_part": self.body_part.label if ok and self.body_part else None,
            "body_part_probability": self.body_part.probability if ok and self.body_part else None,
            "fracture_probability": self.fracture.probability if self.fracture else None,
            "finding": self.fracture.finding.value if self.fracture else None,
            "release": self.release,
            "photograph": self.photograph and self.photograph.word,
            "cautions": " ".join(self.origin.alone) or None,
        }
