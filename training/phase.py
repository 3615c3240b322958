"""One stretch of training: what is trained on what, and the state that a checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from core import device as devices
from training import distributed
from training.pictures import Answer, Logits, Pictures, figures_of

if TYPE_CHECKING:
    from training.fit_settings import Settings


class Sampler(Protocol):
    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray: ...


@dataclass(frozen=True)
class Phase:
    """One stretch of training. forward: normalised Bx3xSxS -> logits and evidence by head name.
    passes: pictures; with 0 the weights stay as they start, and are scored once."""

    name: str
    module: nn.Module
    forward: Callable[[nn.Module, Tensor], Answer]
    sampler: Sampler
    passes: int
    rate: float
    heads: tuple[str, ...]

    def progress(self, seen: int) -> float:
        """The share in [0, 1] that is done."""
        return min(1.0, seen / self.passes) if self.passes else 1.0


class PhaseState:
    """Weights, optimiser and averages of the phase that is being trained."""

    def __init__(self, phase: Phase, settings: Settings, device: devices.Device) -> None:
        self.module = phase.module.to(device.processor)
        self.average = AveragedModel(
            self.module, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True
        )
        learned = [p for p in self.module.parameters() if p.requires_grad]
        decay = [p for p in learned if p.ndim > 1]
        plain = [p for p in learned if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decay, "weight_decay": settings.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=phase.rate,
        )
        self.seen, self.batch = 0, settings.batch
        self.waited, self.patience = 0, settings.patience  # validations without a better score
        self.score, self.best = -math.inf, None
        self._losses: list[float] = []
        self._drawn: list[tuple[Logits, np.ndarray]] = []  # what was said of which pictures

    best: dict[str, Tensor] | None

    def set_rate(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def descend(self, value: Tensor) -> None:
        value.backward()
        distributed.sum_gradients(self.module.parameters())
        nn.utils.clip_grad_norm_(self.module.parameters(), 5.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update_parameters(self.module)

    def add(self, value: float) -> None:
        self._losses.append(value)
        self.seen += self.batch

    def keep(self, logits: Logits, index: np.ndarray) -> None:
        self._drawn.append(({h: v.detach().float().cpu() for h, v in logits.items()}, index))

    def take_figures(self, train: Pictures) -> dict[str, float]:
        """The figures of the training pictures drawn since the last call, as they were drawn."""
        drawn = distributed.unite(self._drawn)
        self._drawn = []
        if not drawn:
            return {}
        whole = {h: torch.cat([logits[h] for logits, _ in drawn]) for h in drawn[0][0]}
        return figures_of(whole, train.only(np.concatenate([i for _, i in drawn])))

    def stale(self) -> bool:
        """Whether patience is at its end."""
        return 0 < self.patience <= self.waited

    def take_loss(self) -> float:
        """Mean loss since the last call; NaN before the first step."""
        mean = float(np.mean(self._losses)) if self._losses else math.nan
        self._losses.clear()
        return mean

    def dump(self) -> dict[str, Any]:
        return {
            "module": self.module.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seen": self.seen,
            "score": self.score,
            "best": self.best,
            "waited": self.waited,
            "losses": list(self._losses),
            "drawn": [(logits, torch.from_numpy(index)) for logits, index in self._drawn],
        }

    def load(self, saved: dict[str, Any]) -> None:
        self.module.load_state_dict(saved["module"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.seen, self.score, self.best = saved["seen"], saved["score"], saved["best"]
        self.waited = saved.get("waited", 0)
        self._losses = list(saved["losses"])
        if distributed.first():  # whose share it is: of each of N processes it would count N times
            self._drawn = [(logits, index.numpy()) for logits, index in saved.get("drawn", [])]


def rate(seen: int, phase: Phase, settings: Settings) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    warm = settings.warmup * phase.passes
    if seen < warm:
        return phase.rate * (seen + settings.batch) / (warm + settings.batch)
    part = min(1.0, (seen - warm) / max(1.0, phase.passes - warm))
    return phase.rate * 0.5 * (1 + math.cos(math.pi * part))
