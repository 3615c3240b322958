"""The two-stage cascade: which bone, then that bone's own fracture model.

``Cascade.predict`` is pure: the networks are read-only copies with folded batch norm, no hook and
no backward pass touches them, and every forward pass has the same batch size, so any number of
threads may share one cascade and get the same numbers as a single one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from core import device as devices
from core import members, quality, refusals, stages
from core.cams import LibraryCam
from core.engines import Engine
from core.engines.native import TorchEngine
from core.errors import DeviceUnavailable, WeightsInvalid
from core.explain import grad_cam
from core.manifest import Release
from core.network import Branch, Trunk
from core.origin import Origin
from core.passes import Passes
from core.recovery import NoNumber, Recovery, failed
from core.registry import Registry
from core.settings import CHAMPION
from core.transforms import Canvas, framed
from core.types import (
    BODY_PART,
    Assessment,
    BodyPart,
    BodyPartPrediction,
    FracturePrediction,
    Heatmap,
    ImageResult,
    Mode,
    Radiograph,
)

log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")


class Cascade:
    """A loaded release on a device. Thread-safe; make one a process."""

    def __init__(
        self,
        release: Release,
        networks: dict[str, stages.Network],
        device: devices.Device,
        feature_space: quality.FeatureSpace | None = None,
        engine: Engine | None = None,
        elsewhere: Callable[[], Cascade] | None = None,
    ) -> None:
        """engine: None is torch with these networks. elsewhere: makes the same release on the CPU,
        for when a graphics processor fails."""
        self.release = release
        self.device = device
        self._networks = networks
        self._engine = engine or TorchEngine(device, release.preprocessing, *self.modules)
        self._elsewhere = elsewhere
        self._recovery = Recovery(self, elsewhere) if elsewhere else None
        self.feature_space = feature_space
        self._in_modes: dict[Mode, Cascade] = {release.mode: self}
        self._cams: dict[BodyPart, LibraryCam] = {}
        self._cams_lock = threading.Lock()

    @classmethod
    def load(cls, weights: Path, release: str = CHAMPION, device: str = "auto") -> Cascade:
        """Verify and load a release, in its default mode; raises WeightsInvalid or
        DeviceUnavailable."""
        target = devices.choose(device)
        registry = Registry.open(weights)
        found = registry.find(release)
        tensors = registry.load(found)
        try:  # with all members, so that a mode can be chosen later
            networks = stages.networks(found.in_mode(found.largest_mode), tensors, target)
        except (KeyError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and failed(error):
                raise DeviceUnavailable(
                    "The graphics processor failed while the release was loaded; BONE_DEVICE=cpu "
                    "does without it."
                ) from error
            raise WeightsInvalid(
                f"The weights of release {found.id} do not fit the network."
            ) from error
        space = None
        if found.rejection:
            values = {k: v.numpy() for k, v in tensors[found.rejection["file"]].items()}
            space = quality.FeatureSpace(
                **values, residual=found.rejection["residual"], limit=found.rejection["limit"]
            )
        elsewhere = None
        if target.processor.type != "cpu":
            elsewhere = partial(cls._on_cpu, weights, found)
        return cls(found, networks, target, space, elsewhere=elsewhere)

    @classmethod
    def _on_cpu(cls, weights: Path, release: Release) -> Cascade:
        cascade = cls.load(weights, release.id, "cpu")
        if cascade.release.sha256 != release.sha256:
            raise WeightsInvalid(f"Release {release.id} was changed while it was in use.")
        return cascade

    @property
    def engine(self) -> Engine:
        """What runs the networks now."""
        return self._recovery.current._engine if self._recovery else self._engine

    @property
    def trouble(self) -> str:
        """What a reader should know of how it runs, one sentence; empty while all is well."""
        return self._recovery.trouble if self._recovery else ""

    def smaller(self) -> Cascade | None:
        """The same with half as many pictures in a pass; None where it is one already."""
        engine = self._engine.smaller() if isinstance(self._engine, TorchEngine) else None
        return self.with_engine(engine) if engine else None

    @property
    def modules(self) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
        """The folded networks: trunks by file, branches (layer4 alone) by key. Read-only."""
        every = [m for n in self._networks.values() for m in (n, *n.members)]
        trunks = {n.stage.trunk: n.trunk for n in every}
        return trunks, {n.key: n.branch for n in every if n.branch is not None}

    def with_engine(self, engine: Engine) -> Cascade:
        """The same release run by another engine."""
        return Cascade(self.release, self._networks, self.device, self.feature_space, engine)

    def in_mode(self, mode: Mode | None) -> Cascade:
        """The same networks used in another mode; raises WeightsInvalid where there is no such.

        mode: None is the one that the cascade has.
        """
        if mode is None or mode in self._in_modes:
            return self._in_modes[mode or self.release.mode]
        release, elsewhere = self.release.in_mode(mode), self._elsewhere
        made = Cascade(
            release,
            self._networks,
            self.device,
            self.feature_space,
            self._engine,
            (lambda: elsewhere().in_mode(mode)) if elsewhere else None,
        )
        made._in_modes = self._in_modes
        return self._in_modes.setdefault(mode, made)

    def predict(
        self, radiographs: Sequence[Radiograph], part: BodyPart | None = None
    ) -> list[ImageResult]:
        """One result a radiograph, in the order given, each with its heatmap.

        part: assess all of them with this part's fracture model, whatever stage 1 says (a reader
            who sees that stage 1 is wrong); OTHER: the reader sees a part that has none. The
            milliseconds are a result's share of the call.
        """
        started = time.perf_counter()
        seen = [framed(r.pixels, self.release.preprocessing) for r in radiographs]
        found = self.assess([canvas for canvas, _ in seen], part)
        found = [a.on(crop) for a, (_, crop) in zip(found, seen, strict=True)]
        each = 1000 * (time.perf_counter() - started) / max(1, len(radiographs))
        return [self.result(r, a, each) for r, a in zip(radiographs, found, strict=True)]

    def assess(self, canvases: Sequence[Canvas], part: BodyPart | None = None) -> list[Assessment]:
        """What is said of canvases (SxS uint8) of the release's preprocessing, in their order.

        One for which a network gives no number, on the CPU neither, is refused.
        """
        if not len(canvases):
            return []
        try:
            return self._ask(lambda cascade: cascade._assess(canvases, part), len(canvases) > 1)
        except NoNumber as error:
            if len(canvases) > 1:  # it need not be for all of them
                return [found for one in canvases for found in self.assess([one], part)]
            log.error("A network gave no number.", exc_info=error)
            return [Assessment(None, refusals.NO_NUMBER)]

    def _ask(self, question: Callable[[Cascade], _Answer], several: bool = False) -> _Answer:
        return self._recovery.ask(question, several) if self._recovery else question(self)

    def _assess(self, canvases: Sequence[Canvas], part: BodyPart | None) -> list[Assessment]:
        passes = self._passes(np.stack(canvases))
        first = passes.own(BODY_PART)
        if others := passes.members(BODY_PART):
            logits = [np.stack([a.logits for a in found]) for found in (first, *others)]
            joined = members.first(self.release.stages[BODY_PART], logits)
            first = [replace(a, logits=values) for a, values in zip(first, joined, strict=True)]
        body_parts = [self._body_part(a) for a in first]
        if part is None:
            reasons = [self._refusal(b, a) for b, a in zip(body_parts, first)]
        else:
            reasons = [refusals.NAMED_ANOTHER if part == BodyPart.OTHER else None] * len(first)
        wanted = [None if r else (part or b.label) for r, b in zip(reasons, body_parts)]
        second: dict[int, tuple[FracturePrediction, Heatmap]] = {}
        for name in dict.fromkeys(w for w in wanted if w):
            index = [i for i, w in enumerate(wanted) if w == name]
            found, others = passes.own(name, index), passes.members(name, index)
            second |= {
                i: self._fracture(name, a, *rest) for i, a, *rest in zip(index, found, *others)
            }
        return [
            Assessment(body, reason, fracture, heatmap, part)
            for body, reason, (fracture, heatmap) in zip(
                body_parts, reasons, (second.get(i, (None, None)) for i in range(len(canvases)))
            )
        ]

    def result(
        self, radiograph: Radiograph, assessment: Assessment, milliseconds: float
    ) -> ImageResult:
        """An assessment with what is known of the file that it is of; pixels are not looked at."""
        return ImageResult(
            radiograph.name,
            radiograph.sha256,
            assessment.reason,
            self.release.id,
            self.release.sha256,
            milliseconds,
            assessment.body_part,
            assessment.fracture,
            assessment.heatmap,
            assessment.chosen,
            radiograph.photograph,
            self._origin(radiograph, assessment),
        )

    def _origin(self, radiograph: Radiograph, assessment: Assessment) -> Origin:
        if radiograph.header is None:
            return Origin(cautions=radiograph.cautions)
        from core.header import origin_of  # pydicom, which has read this file already

        named = assessment.body_part.label if assessment.body_part else None
        chosen = assessment.chosen
        return origin_of(radiograph, chosen or named, self.release.parts, chosen is not None)

    def explain(self, radiograph: Radiograph, part: BodyPart, method: str = "Grad-CAM") -> Heatmap:
        """A heatmap of one part's fracture model by another method; see ``core.cams.METHODS``.

        "Grad-CAM" is the closed form that ``predict`` returns. The others take two to six times as
        long, one caller at a time, and of an ensemble they show the ResNet50, whose probability is
        then their maximum. Raises KeyError for an unknown part or method.
        """
        return self._ask(lambda cascade: cascade._explain(radiograph, part, method))

    def _explain(self, radiograph: Radiograph, part: BodyPart, method: str) -> Heatmap:
        canvas, crop = framed(radiograph.pixels, self.release.preprocessing)
        passes, network = self._passes(canvas[None]), self._networks[part]
        [activations] = passes.own(part)
        rest = [found for [found] in passes.members(part)]
        prediction, heatmap = self._fracture(part, activations, *rest)
        if method == heatmap.method:
            return replace(heatmap, crop=crop)
        assert network.branch is not None
        with self._cams_lock:
            if part not in self._cams:
                self._cams[part] = LibraryCam(network.branch, network.weight, network.bias)
        seen = passes.features(network)[0].clone()
        alone = prediction.members[0] if prediction.members else prediction  # the ResNet50
        found = self._cams[part].heatmap(seen, alone.probability, method)
        return replace(found, crop=crop)

    def with_random_branches(self) -> Cascade:
        """A control that has seen nothing: the same trunk, fracture branches of random weights,
        in the mode fast."""
        torch.manual_seed(0)
        networks = dict(self._networks)
        for part in self.release.parts:
            network = networks[part]
            assert isinstance(network.trunk, Trunk)
            branch = Branch(len(network.weight), network.trunk.width)
            networks[part] = replace(
                network,
                branch=stages.ready(branch.layer4, self.device),
                weight=branch.fc.weight.detach().numpy(),
                bias=branch.fc.bias.detach().numpy(),
            )
        return Cascade(self.release.in_mode(Mode.FAST), networks, self.device)

    def logits_and_features(
        self, stage: str, canvases: NDArray[np.uint8], member: str = ""
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What calibration is fitted on: raw logits (NxC) and pooled features (NxD), float32.

        The logits of stage 1 are those of its own classes, see ``quality.collapse``.
        stage: "body_part" or a part of the release. canvases: NxSxS uint8, N at least 1. member:
        the name of one beside the stage's own network, in any mode; KeyError for an unknown one.
        """
        network = self._networks[stage]
        if member:
            named = {m.name: m for m in network.members}
            network = named[member]
        found = self._ask(lambda c: c._passes(canvases).of(network))
        return np.stack([a.logits for a in found]), np.stack([a.pooled for a in found])

    def _passes(self, canvases: NDArray[np.uint8]) -> Passes:
        return Passes(self.release, self._networks, self._engine, canvases)

    def _body_part(self, activations: stages.Activations) -> BodyPartPrediction:
        stage = self.release.stages[BODY_PART]
        return quality.body_part(activations.logits, stage, self.release.parts)

    def _refusal(self, part: BodyPartPrediction, activations: stages.Activations) -> str | None:
        """Why this picture gets no second stage; None if it does."""
        space = self.feature_space
        if space is not None and space.distance(activations.pooled) > space.limit:
            return refusals.NOT_A_RADIOGRAPH
        return refusals.of_part(part, self.release)

    def _fracture(
        self, part: BodyPart, activations: stages.Activations, *rest: stages.Activations
    ) -> tuple[FracturePrediction, Heatmap]:
        """rest: of the members."""
        network, stage = self._networks[part], self.release.stages[part]
        if rest:
            return members.combine(stage, network, (activations, *rest))
        logit = float(activations.logits[0])
        probability = quality.sigmoid(logit, stage.temperature, stage.bias)
        prediction = FracturePrediction(
            probability, quality.finding_of(probability, stage.operating_points)
        )
        return prediction, grad_cam(activations.maps, network.weight[0], probability)
