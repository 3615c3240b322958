"""What a phase of ``fit`` is scored by: the weights with the best score are those that are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
import torch
from torch import nn

from core import device as devices
from core.transforms import Preprocessing, to_tensor
from training import distributed, precision, strangers
from training.augment import zoomed
from training.curves import MOVED
from training.data import AMBIGUOUS, PARTS, SIMULATED
from training.phase import Phase
from training.phases import BODY_PART
from training.pictures import Logits, Pictures, figures_of

if TYPE_CHECKING:
    from training.fit_settings import Settings


@dataclass(frozen=True)
class Validation:
    """The validation split. real: radiographs and, for stage 1, strangers. simulated: fractures of
    the cascade's parts, which have figures of their own, never mixed into those on radiographs, and
    choose nothing beside them.
    """

    real: Pictures
    simulated: Pictures
    settings: Settings
    spec: Preprocessing
    device: devices.Device

    @classmethod
    def load(
        cls,
        settings: Settings,
        rows: pd.DataFrame,
        spec: Preprocessing,
        kinds: tuple[str, ...],
        device: devices.Device,
    ) -> Self:
        """rows: of the validation split. kinds: the classes of stage 1."""
        simulated = rows.source == SIMULATED
        drawn = settings.strangers // 10, settings.seed + 1, kinds
        real = Pictures.load(rows[~simulated & ~rows.part.isin(AMBIGUOUS)], spec, *drawn)
        findings = simulated & rows.part.isin(PARTS) & rows.positive.notna()
        return cls(real, Pictures.load(rows[findings], spec, kinds=kinds), settings, spec, device)

    @torch.no_grad()
    def score(self, phase: Phase, module: nn.Module) -> tuple[dict[str, float], float]:
        """Figures by name, and the mean of those that count. module: in evaluation mode.

        Simulated fractures count of a part without radiographs to tell, and alone for a network
        that learns what its cells say: it is not told what a radiograph as a whole is. With
        ``steady``, how far the answers move when a border is cut off counts, too.
        """
        real = self.real.relevant(phase.heads)
        figures = figures_of(self._logits(phase, module, real.canvases, phase.heads), real)
        # What the joint phase keeps is a trunk for radiographs; strangers are stage 1's business.
        counted = [BODY_PART, "other", *PARTS, phase.name]
        counted += [strangers.KIND] * (phase.name == BODY_PART)
        findings = tuple(h for h in phase.heads if h in PARTS)
        simulated = self.simulated.relevant(findings)
        if findings and len(simulated.rows):
            logits = self._logits(phase, module, simulated.canvases, findings)
            shown = figures_of(logits, simulated)
            figures |= {f"{SIMULATED}_{k}": v for k, v in shown.items()}
            alone = bool(self.settings.window)
            drawn = [f"{SIMULATED}_{k}" for k in shown if alone or k not in figures]
            counted = drawn if alone else counted + drawn
        score = float(np.mean([v for k, v in figures.items() if k in counted]))
        if findings and self.settings.steady:
            shown = self._moved(phase, module, self.real.relevant(findings), findings)
            figures |= {f"{MOVED}{k}": v for k, v in shown.items()}
            score -= float(np.mean(list(shown.values())))
        return figures, score

    def _moved(
        self, phase: Phase, module: nn.Module, pictures: Pictures, heads: tuple[str, ...]
    ) -> dict[str, float]:
        """Of each part, how far its logits move when the border is cut off, on average, in their
        standard deviations: small answers are not steady ones."""
        views = pictures.canvases, zoomed(pictures.canvases)
        logits = [self._logits(phase, module, canvases, heads) for canvases in views]
        found = {}
        for head in heads:
            here = torch.from_numpy((pictures.rows.part == head).to_numpy(copy=True))
            before, after = (one[head][here, 0] for one in logits)
            spread = before.std(correction=0).clamp(min=1e-6)
            found[head] = float((before - after).abs().mean() / spread)
        return found

    def _logits(
        self, phase: Phase, module: nn.Module, canvases: np.ndarray, heads: tuple[str, ...]
    ) -> Logits:
        chunks: list[Logits] = []
        for i in distributed.share(np.arange(0, len(canvases), 64)):
            x = to_tensor(canvases[i : i + 64], self.spec).to(self.device.processor)
            with precision.autocast(self.device, self.settings.precision):
                logits = phase.forward(module, x).logits
            chunks.append({h: logits[h].float().cpu() for h in heads})
        chunks = distributed.unite(chunks)
        return {h: torch.cat([c[h] for c in chunks]) for h in heads}
