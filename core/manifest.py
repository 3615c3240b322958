"""A manifest entry -> a ``Release``: its stages, files and thresholds, as it is used in one mode.

Nothing here reads a file; ``core.registry`` does.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architectures import NAMES
from core.errors import WeightsInvalid
from core.optional import absent_parts, without_parts
from core.transforms import Preprocessing
from core.types import BODY_PART, STRANGER, BodyPart, Mode, OperatingPoint

ARCHITECTURE = "resnet50-trunk-branch"
# A program that does not know of the cut would show the networks other pictures than they learned
# from, so what is cut is another architecture to it.
FOCUSED = f"{ARCHITECTURE}-focus"
MOST_ABSENCES = 128  # choices of optional parts that are tried: all of them up to seven parts
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}")  # of a member: it is printed as it is
RESNET50 = "ResNet50"  # what the network of a stage is called beside its members
_TURNED = {"sensitive": "specific", "specific": "sensitive"}
_POINT = re.compile(r"\((sensitive|specific)\)")  # of which a figure is


@dataclass(frozen=True)
class WeightsFile:
    """One file of a release: path relative to the manifest's folder, digest, size."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Member:
    """One more network of a part's ensemble, beside the ResNet50.

    trunk: file of its feature extractor, whose architecture the release names. branch: file of its
    linear layer. temperature, bias: as in ``Stage``. weight: of its calibrated logit in the
    average, in [0, 1]; the ResNet50 has what is left. classes: of stage 1, its outputs in their
    order: some of the stage's own. cross_fitted: validation taught it too (``training.crossfit``).
    """

    name: str
    trunk: str
    branch: str
    temperature: float = 1.0
    bias: float = 0.0
    weight: float = 0.5
    classes: tuple[str, ...] = ()
    cross_fitted: bool = False


@dataclass(frozen=True)
class Ensemble:
    """What joins a ResNet50 to the members beside it. The average of the calibrated logits is
    calibrated once more: what two networks agree on is surer than either of them. Of stage 1 the
    logarithms of the probabilities are averaged (``members.first``), and the stage has what they
    are calibrated with.

    temperature, bias: of the average. held_back: the one member that counts is a mean of networks
    that each held other radiographs back, and it is read by these (``training.crossfit``).
    """

    members: tuple[Member, ...]
    temperature: float = 1.0
    bias: float = 0.0
    held_back: bool = False

    @property
    def weights(self) -> tuple[float, ...]:
        """The ResNet50's, then that of each member; they add up to 1."""
        rest = [m.weight for m in self.members]
        return (max(0.0, 1.0 - sum(rest)), *rest)


@dataclass(frozen=True)
class Stage:
    """One network of the cascade: a trunk and a branch, and how its output is read.

    classes: names of the branch's outputs in order; one name means a logit for a sigmoid. Those of
        stage 1 that have no stage of their own are kinds of "other", see ``quality.collapse``.
    temperature, bias: the calibrated logit is ``logit / temperature + bias``; the bias, only used
        with one output, corrects the share of positives (Platt scaling).
    other_shift: added to the logits of what is no part of the release (stage 1 only), so that few
        supported radiographs are taken for something else.
    stranger_shift: added to that of STRANGER instead; None: as the others, which is how releases
        up to 2026.11-3 were calibrated.
    operating_points: "sensitive" and "specific" (stage 2 only), of the release's mode.
    ensemble: whose average is read; None in the mode fast, and where a part has one network.
    label_means: what a positive label meant in the training data, a phrase.
    optional: its files may be missing; the release is used without the part then.
    """

    trunk: str
    branch: str
    classes: tuple[str, ...]
    temperature: float = 1.0
    bias: float = 0.0
    other_shift: float = 0.0
    stranger_shift: float | None = None
    operating_points: tuple[OperatingPoint, ...] = ()
    label_means: str = ""
    ensemble: Ensemble | None = None
    optional: bool = False

    def point(self, name: str) -> OperatingPoint | None:
        """The operating point of that name, such as "balanced"; None where the stage has none."""
        return next((p for p in self.operating_points if p.name == name), None)

    @property
    def chosen_on(self) -> str:
        """Which radiographs chose the thresholds, "validation" or "held-back" ones."""
        return "held-back" if self.ensemble and self.ensemble.held_back else "validation"

    def stranger_shifts(self) -> NDArray[np.float64]:
        """What is added to the logit of each class to tell the others from each other."""
        return np.array([(self.stranger_shift or 0.0) * (c == STRANGER) for c in self.classes])

    def shifts(self, parts: Sequence[BodyPart]) -> NDArray[np.float64]:
        """What is added to the logit of each class, see ``quality.collapse``."""
        kinds = dict.fromkeys(self.classes, self.other_shift)
        if self.stranger_shift is not None:
            kinds[STRANGER] = self.stranger_shift
        kinds |= dict.fromkeys(parts, 0.0)
        return np.array([kinds[c] for c in self.classes])


@dataclass(frozen=True)
class Release:
    """One entry of the manifest, as it is used in one mode.

    stages: "body_part" and one entry a supported part. architectures: of trunks that are no
    ResNet50's, by file (``core.architectures``). modes: those it can be used in, the default first.
    absent: optional parts that are not installed, with the files that are missing; neither
    ``stages`` nor ``files`` has them. sha256: each mode has its own, for each has other operating
    points, and so has a release without an optional part, which answers otherwise.
    """

    id: str
    created: str
    files: dict[str, WeightsFile]
    stages: dict[str, Stage]
    preprocessing: Preprocessing
    rejection: dict[str, Any]
    metrics: dict[str, Any]
    training_data: dict[str, Any]
    licence: str
    intended_use: str
    flip_average: bool = False
    architectures: dict[str, str] = field(default_factory=dict)
    mode: Mode = Mode.FAST
    modes: tuple[Mode, ...] = (Mode.FAST,)
    absent: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sha256: str = ""
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def parts(self) -> tuple[BodyPart, ...]:
        """The body parts that have a fracture model in this release, by the alphabet."""
        return tuple(BodyPart(name) for name in sorted(self.stages) if name != BODY_PART)

    @property
    def networks(self) -> str:
        """What answers in this mode, such as "ResNet50 and EfficientNet-Lite2"."""
        ensembles = [stage.ensemble for stage in self.stages.values() if stage.ensemble]
        *most, last = dict.fromkeys([RESNET50, *(m.name for e in ensembles for m in e.members)])
        return f"{', '.join(most)} and {last}" if most else last

    @property
    def cross_fitted(self) -> bool:
        """Whether validation taught one of the networks that answer in this mode."""
        ensembles = [stage.ensemble for stage in self.stages.values() if stage.ensemble]
        return any(member.cross_fitted for one in ensembles for member in one.members)

    @property
    def largest_mode(self) -> Mode:
        """The one in which every network of the release is run."""
        return Mode.ENSEMBLE if Mode.ENSEMBLE in self.modes else Mode.FAST

    def in_mode(self, mode: Mode) -> Release:
        """The same release used in another mode; raises WeightsInvalid where it has no such."""
        if mode == self.mode:
            return self
        if mode not in self.modes:
            raise WeightsInvalid(f"Release {self.id} has no mode {mode}: a part has one network.")
        return self.from_json(self.raw, mode, self.absent)

    def with_digest(self, sha256: str) -> Release | None:
        """The release in the mode, and with those optional parts, that has this digest; None where
        there is no such. The files of its parts need not be there: it tells how something was
        assessed before a part was installed or taken away, and assesses nothing itself."""
        if self.sha256 == sha256:
            return self
        choices = _absences(self.raw, self.absent) if self.raw else iter(())
        for absent in itertools.islice(choices, MOST_ABSENCES):
            entry = without_parts(self.raw, absent)
            for mode in _modes(entry):
                if _digest_in(entry, mode) == sha256:
                    return self.from_json(self.raw, mode, absent)
        return None

    @classmethod
    def from_json(
        cls,
        entry: Mapping[str, Any],
        mode: Mode | None = None,
        absent: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Release:
        """Parse one manifest entry, in its default mode if none is named; raises WeightsInvalid if
        it is of another kind. absent: see ``optional.absent_parts``."""
        try:
            if entry["architecture"] != architecture_of(entry):
                raise WeightsInvalid(
                    f"Release {entry['id']} has the architecture {entry['architecture']}, "
                    f"which this version cannot load."
                )
            for name in (*entry["stages"], *entry["stages"][BODY_PART]["classes"]):
                BodyPart(name)  # a ValueError where it is none: it is printed as it is
            raw, entry = entry, without_parts(entry, absent or {})
            modes = _modes(entry)
            mode = mode or modes[0]
            return cls(
                id=entry["id"],
                created=entry["created"],
                files={f["path"]: WeightsFile(**f) for f in entry["files"]},
                stages={name: _stage(s, mode) for name, s in entry["stages"].items()},
                preprocessing=_preprocessing(entry["preprocessing"]),
                rejection=dict(entry.get("rejection", {})),
                metrics=_figures(entry, mode == modes[0]),
                training_data=dict(entry.get("training_data", {})),
                licence=entry["licence"],
                intended_use=entry["intended_use"],
                flip_average=bool(entry.get("flip_average", False)),
                architectures=_architectures(entry),
                mode=mode,
                modes=modes,
                absent=dict(absent or {}),
                sha256=_digest_in(entry, mode),
                raw=dict(raw),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsInvalid(f"The manifest entry is not complete: {error}.") from error


def architecture_of(entry: Mapping[str, Any]) -> str:
    """What an entry calls itself by the pictures that its networks are shown."""
    return FOCUSED if entry["preprocessing"].get("focus") else ARCHITECTURE


def _absences(
    entry: Mapping[str, Any], now: Mapping[str, tuple[str, ...]]
) -> Iterator[dict[str, tuple[str, ...]]]:
    """Every choice of optional parts that may have been absent, those nearest to ``now`` first."""
    every = absent_parts(entry, lambda _: False) | dict(now)
    for count in range(len(every) + 1):
        for others in itertools.combinations(every, count):
            yield {name: every[name] for name in sorted(now.keys() ^ set(others))}


def _digest_in(entry: Mapping[str, Any], mode: Mode) -> str:
    """That of an entry as it is used in a mode; the default's is that of the entry itself."""
    return _digest(entry if mode == _modes(entry)[0] else {**entry, "mode": mode})


def _digest(entry: Mapping[str, Any]) -> str:
    """SHA-256 of what the release is (its files by digest, its thresholds), not of its figures."""
    what = {k: v for k, v in entry.items() if k != "metrics"}
    # That a part need not be there changes no answer.
    stages = entry["stages"].items()
    what["stages"] = {n: {k: v for k, v in s.items() if k != "optional"} for n, s in stages}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _modes(entry: Mapping[str, Any]) -> tuple[Mode, ...]:
    """Those that a release can be used in, its default first."""
    default = Mode(entry.get("default", Mode.FAST))
    if not any(stage.get("members") for stage in entry["stages"].values()):
        return (Mode.FAST,)
    return tuple(sorted(Mode, key=lambda mode: mode != default))


def _figures(entry: Mapping[str, Any], default: bool) -> dict[str, Any]:
    """The figures were measured in the default mode; of another one only those hold that every
    mode shares. Where its points are named the other way round (``in_order``), so are they."""
    metrics = dict(entry.get("metrics", {}))
    if not default and "figures" in metrics:
        joined = entry["stages"][BODY_PART].get("members")
        shared = ("members",) if joined else (BODY_PART, "members")
        metrics["figures"] = [f for f in metrics["figures"] if f["stage"] in shared]
    elif "figures" in metrics:
        mode = _modes(entry)[0]
        turned = {n for n, s in entry["stages"].items() if _turned(_points(s, mode))}
        metrics["figures"] = [
            {**f, "metric": _POINT.sub(lambda m: f"({_TURNED[m[1]]})", f["metric"])}
            if f["stage"] == "fracture" and f["part"] in turned
            else f
            for f in metrics["figures"]
        ]
    if "figures" in metrics:
        metrics["figures"] = [_without_a_point(f) for f in metrics["figures"]]
    return metrics


def _without_a_point(figure: dict[str, Any]) -> dict[str, Any]:
    """From a version that resampled all or none of a few, or one patient: an interval of no width
    is none."""
    low, high = figure.get("low"), figure.get("high")
    if low is not None and low == high:
        return {**figure, "low": None, "high": None}
    return figure


def _architectures(entry: Mapping[str, Any]) -> dict[str, str]:
    found = dict(entry.get("architectures", {}))
    for path, name in found.items():
        if name not in NAMES:
            raise WeightsInvalid(
                f"Release {entry['id']} has a network of the architecture {name} ({path}), which "
                f"this version cannot load."
            )
    return found


def _stage(entry: Mapping[str, Any], mode: Mode) -> Stage:
    apart = ("operating_points", "classes", "members", "ensemble")
    rest = {k: v for k, v in entry.items() if k not in apart}
    ensemble = None
    if mode is Mode.ENSEMBLE and entry.get("members"):
        joined = {k: v for k, v in entry["ensemble"].items() if k != "operating_points"}
        made = [Member(**{**m, "classes": tuple(m.get("classes", ()))}) for m in entry["members"]]
        if len(entry["classes"]) > 1:
            rest, joined = rest | joined, {}
        ensemble = Ensemble(tuple(made), **joined)
        whole = sum(ensemble.weights)
        if not 0.999 < whole < 1.001 or min(ensemble.weights) < 0:
            raise ValueError("members have weights that add up to 1")
        known = set(entry["classes"]) if len(entry["classes"]) > 1 else set()
        if any(bool(m.classes) != bool(known) or not known.issuperset(m.classes) for m in made):
            raise ValueError("members of stage 1 have some of its classes, others one output")
        names = [m.name for m in ensemble.members]
        if len({*names, RESNET50}) <= len(names) or not all(map(_NAME.fullmatch, names)):
            raise ValueError("each member has a short name of its own")
    return Stage(
        classes=tuple(entry["classes"]),
        operating_points=tuple(OperatingPoint(**p) for p in in_order(_points(entry, mode))),
        ensemble=ensemble,
        **rest,
    )


def _points(stage: Mapping[str, Any], mode: Mode) -> Sequence[Mapping[str, Any]]:
    """The operating points that a stage's entry lists for a mode."""
    joined = mode is Mode.ENSEMBLE and stage.get("members")
    points: Sequence[Mapping[str, Any]] = (stage["ensemble"] if joined else stage).get(
        "operating_points", ()
    )
    return points


def in_order(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Operating points of an entry under their true names: "sensitive" is the lower of the two.
    Releases up to 2026.12-3 named them the other way round on a part that was told apart so well
    that both did what either is asked to do."""
    if not _turned(points):
        return [dict(p) for p in points]
    found = {p["name"]: p for p in points}
    return [{**found[_TURNED.get(name, name)], "name": name} for name in found]


def _turned(points: Sequence[Mapping[str, Any]]) -> bool:
    found = {p["name"]: p["threshold"] for p in points}
    return found.keys() >= _TURNED.keys() and bool(found["sensitive"] > found["specific"])


def _preprocessing(entry: Mapping[str, Any]) -> Preprocessing:
    low, high = entry["percentiles"]
    return Preprocessing(
        int(entry["size"]),
        float(entry["mean"]),
        float(entry["std"]),
        (float(low), float(high)),
        bool(entry.get("focus", False)),
    )
