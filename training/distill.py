"""Pre-train a ResNet50 without ImageNet weights: predict the features of an ImageNet teacher.

Where torchvision's weights cannot be had, a ResNet50 from scratch on a few thousand radiographs
learns little. Here it learns to predict, at each of its four stages, the feature maps that a
frozen EfficientNet-Lite2 sees on the same augmented view (Beyer et al. 2022, arXiv:2106.05237),
beside the labels that there are: the body part of every radiograph and the positives of every
part. The views and their maps are computed once for each picture, and kept in half precision.

The result is a torchvision ResNet50 state dict for ``fit --init``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from core import files
from core.network import Branch, Trunk, channels_last, split_state_dict
from core.transforms import Preprocessing, to_tensor
from training import config, initial, probe
from training.augment import expose
from training.config import DATA, OUT, option
from training.data import PARTS, SIMULATED, load_canvases, read_all
from training.duplicates import ROWS, settle_once
from training.model import FrozenStages
from training.precision import autocast
from training.views import Views

log = logging.getLogger(__name__)

STAGE_WEIGHTS = (0.5, 0.5, 0.5, 1.0)
POOLED_WEIGHT = 0.5
LABEL_WEIGHT = 0.5
FEWEST_OF_A_PART = 10
VALIDATED = (*PARTS, "forearm", "humerus", "leg")
FREE = ("data", "out", "passes", "minutes_between_checkpoints")  # may change when a run goes on


@dataclass(frozen=True)
class Settings:
    """What a run is made from; written beside it.

    With ``freeze`` a step takes two thirds of the time, as the early layers are the ones with the
    large maps.
    """

    data: tuple[str, ...] = field(metadata=DATA)
    out: str = field(metadata=OUT)
    size: int = option(128, "side of the square that the student sees, in pixels")
    teacher_size: int = option(0, "side of the square that the teacher sees, 0 for the same")
    teacher: str = option(
        "",
        "a run of fit --arch efficientnet-lite2 that has trained the teacher; without one it is as "
        "ImageNet left it",
    )
    soft: float = option(0.5, "share of the teacher's answer in the label of a finding, 0 to 1")
    passes: int = option(60_000, "pictures seen")
    batch: int = option(64, "batch size")
    views: int = option(4, "augmented views of each picture, which are computed once")
    learning_rate: float = option(1e-3, "peak learning rate")
    final_learning_rate: float = option(0.0, "learning rate at the end")
    warmup: int = option(2_000, "warm-up, in pictures")
    weight_decay: float = option(0.05, "weight decay of AdamW")
    seed: int = option(0, "random seed")
    init: str = option("", "the checkpoint.pt of another run, or what fit --init takes")
    freeze: int = option(0, "number of first stages of the trunk that are not trained, 0 to 2")
    focus: int = option(0, "1 to crop each picture to the limb first")
    minutes_between_checkpoints: float = option(3.0, "minutes between two checkpoints")


class Student(FrozenStages):
    """ResNet50 with a 1x1 convolution on each stage, and heads for body part and positives."""

    def __init__(self, channels: tuple[int, ...], pooled: int, parts: int, freeze: int = 0) -> None:
        """channels: of the teacher's maps from stage ``freeze`` on."""
        super().__init__()
        self.first = freeze
        self.trunk, self.branch = Trunk(), Branch(parts)
        widths = (*self.trunk.channels, self.branch.fc.in_features)
        self.taps = nn.ModuleList(nn.Conv2d(w, c, 1) for w, c in zip(widths[freeze:], channels))
        self.pooled = nn.Linear(widths[-1], pooled)
        self.positive = nn.Linear(widths[-1], parts)
        self.freeze(freeze)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        """Predicted maps, predicted pooled vector, part logits, logit of positive by part."""
        stages = self.trunk.stages(x)
        part, last = self.branch(stages[-1])
        maps = [tap(s) for tap, s in zip(self.taps, (*stages, last)[self.first :])]
        vector = last.mean((2, 3))
        return maps, self.pooled(vector), part, self.positive(vector)

    def load_backbone(self, state: Mapping[str, Tensor]) -> None:
        """Trunk and layer4 of a torchvision ResNet50 state dict; taps and heads stay new."""
        trunk, branch = split_state_dict(state)
        self.trunk.load_state_dict(trunk)
        layer4 = {k: v for k, v in branch.items() if not k.startswith("fc.")}
        self.branch.layer4.load_state_dict(
            {k.removeprefix("layer4."): v for k, v in layer4.items()}
        )


def draw(rows: pd.DataFrame, n: int, rng: np.random.Generator) -> np.ndarray:
    """Half from all rows, half balanced over part, label and source of the labelled focus rows."""
    focus = rows[rows.part.isin(PARTS) & rows.positive.notna()]
    cells = list(focus.groupby(["part", "positive", "source"]).groups.values())
    weights = np.array([len(c) for c in cells]) ** 0.5
    cell = rng.choice(len(cells), n // 2, p=weights / weights.sum())
    picked = [rng.choice(cells[c]) for c in cell]
    return np.concatenate([rng.integers(len(rows), size=n - n // 2), picked])


def learning_rate(done: int, settings: Settings) -> float:
    """Linear warm-up, then a cosine to the final rate; ``done`` in image passes."""
    if done < settings.warmup:
        return settings.learning_rate * (done + settings.batch) / settings.warmup
    part = min(1.0, (done - settings.warmup) / max(1, settings.passes - settings.warmup))
    low = settings.final_learning_rate
    return float(low + (settings.learning_rate - low) * 0.5 * (1 + np.cos(np.pi * part)))


def loss_of(
    student: Student, x: Tensor, targets: list[Tensor], part: Tensor, positive: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Feature losses and label losses, weighted; ``positive`` is in [0, 1], -1 if unknown."""
    maps, pooled, part_logits, positive_logits = student(x)
    feature = [F.mse_loss(m.float(), t.float()) for m, t in zip(maps, targets)]
    vector = F.mse_loss(pooled.float(), targets[-1].float())
    part_loss = F.cross_entropy(part_logits.float(), part, label_smoothing=0.05)
    known = positive >= 0
    logits = positive_logits.float().gather(1, part[:, None])[:, 0]
    label = F.binary_cross_entropy_with_logits(logits[known], positive[known])
    total = (
        sum(w * f for w, f in zip(STAGE_WEIGHTS[-len(feature) :], feature)) + POOLED_WEIGHT * vector
    )
    total = total + LABEL_WEIGHT * (part_loss + label)
    parts = {f"map{i}": float(f.detach()) for i, f in enumerate(feature, 4 - len(feature))}
    parts |= {
        "pooled": float(vector.detach()),
        "part": float(part_loss.detach()),
        "positive": float(label.detach()),
    }
    return total, parts


@torch.no_grad()
def validate(
    student: Student,
    rows: pd.DataFrame,
    canvases: np.ndarray,
    parts: list[str],
    spec: Preprocessing,
) -> dict[str, float]:
    """Accuracy of the focus parts (against all parts) and AUROC of positives by part."""
    student.eval()
    part_logits, positive_logits = [], []
    for i in range(0, len(rows), 64):
        with autocast():
            _, _, p, q = student(to_tensor(canvases[i : i + 64], spec))
        part_logits.append(p.float())
        positive_logits.append(q.float())
    student.train()
    chosen = torch.cat(part_logits).argmax(1).numpy()
    positive = torch.cat(positive_logits).numpy()
    focus = rows.part.isin(PARTS).to_numpy()
    truth = rows.part.map(parts.index).to_numpy()
    result = {"part_accuracy": float((chosen == truth)[focus].mean())}
    for name in VALIDATED:
        here = ((rows.part == name) & rows.positive.notna()).to_numpy()
        if here.any() and rows.positive[here].nunique() == 2:
            result[name] = float(
                roc_auc_score(rows.positive[here], positive[here, parts.index(name)])
            )
    return result


class Distillation:
    """The data, the student and its optimiser: all that a checkpoint holds and a step needs."""

    def __init__(self, settings: Settings) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.out = settings, Path(settings.out)
        self.spec = Preprocessing(size=settings.size, focus=bool(settings.focus))
        self._refuse_another()
        rows = settle_once(read_all(settings.data), self.out / ROWS)
        files.write_json(self.out / "config.json", asdict(settings))
        counts = rows[rows.split == "train"].part.value_counts()
        self.parts = sorted(counts[counts >= FEWEST_OF_A_PART].index)
        rows = rows[rows.part.isin(self.parts)]
        real = rows.source != SIMULATED
        shown = (rows.split == "val") & rows.part.isin(VALIDATED) & real
        self.val, self.val_canvases = load_canvases(rows[shown], self.spec)
        self.train, canvases = load_canvases(rows[rows.split == "train"], self.spec)
        folder = self.out / f"views{settings.size}"
        wide = canvases
        if settings.teacher_size not in (0, settings.size):
            same = self.train  # what could be read once is read again
            _, wide = load_canvases(same, replace(self.spec, size=settings.teacher_size))
        teacher = Path(settings.teacher) if settings.teacher else None
        self.views = Views(
            folder, canvases, wide, settings.views, settings.seed, settings.freeze, teacher
        )
        self.part = torch.tensor([self.parts.index(p) for p in self.train.part])
        self.positive = torch.tensor(self.train.positive.fillna(-1).to_numpy(np.float32, copy=True))
        self.label = self._labels()
        *maps, pooled = (s[0] for s in self.views.shapes)
        student = Student(tuple(maps), pooled, len(self.parts), settings.freeze)
        self.student = channels_last(student).train()
        self.optimizer = torch.optim.AdamW(
            groups(self.student, settings.weight_decay), settings.learning_rate, fused=True
        )
        self.done = 0
        self._terms: list[dict[str, float]] = []
        self._start()

    def _refuse_another(self) -> None:
        """Raise DataInvalid where the folder holds a run that was trained with other settings."""
        path = self.out / "config.json"
        if path.exists() and (self.out / "checkpoint.pt").exists():
            known = config.settings_of(path, Settings)
            made = asdict(self.settings)
            config.refuse_changed(self.out, known, made, lambda name: name not in FREE)

    def _start(self) -> None:
        """From the run's own checkpoint, else from ``init``, else from nothing."""
        checkpoint = self.out / "checkpoint.pt"
        if checkpoint.exists():
            state = torch.load(checkpoint, weights_only=True)
            self.student.load_state_dict(state["student"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.done = state["done"]
        elif self.settings.init:
            state = initial.student(self.settings.init)
            if state is not None:
                self.student.load_state_dict(state)
            else:
                self.student.load_backbone(initial.backbone(self.settings.init))

    def _labels(self) -> Tensor:
        """Label of a positive by view and picture (VxN), softened by the teacher; -1: unknown."""
        hard = self.positive.numpy()[None].repeat(self.settings.views, 0)
        if self.settings.soft == 0:
            return torch.from_numpy(hard)
        soft = probe.soft_labels(self.views.pooled, self.train)
        mixed = (1 - self.settings.soft) * hard + self.settings.soft * soft
        both = np.where(hard < 0, soft, np.where(np.isnan(soft), hard, mixed))
        return torch.from_numpy(np.nan_to_num(both, nan=-1.0).astype(np.float32))

    def run(self) -> Path:
        """Train to the end; returns the path of ``resnet50.pt``, a torchvision state dict."""
        last = time.monotonic()
        while self.done < self.settings.passes:
            self._step()
            minutes = (time.monotonic() - last) / 60
            finished = self.done >= self.settings.passes
            if finished or minutes > self.settings.minutes_between_checkpoints:
                self._save(minutes)
                last = time.monotonic()
        path = self.out / "resnet50.pt"
        state = self.student.trunk.state_dict() | self.student.branch.state_dict()
        files.save_checkpoint(path, state)
        return path

    def _step(self) -> None:
        s = self.settings
        rng = np.random.default_rng((s.seed, self.done))
        torch.manual_seed(s.seed + self.done)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.done, s)
        index = draw(self.train, s.batch, rng)
        grey, targets, view = self.views.batch(index, rng)
        grey = expose(grey).sub_(self.spec.mean).div_(self.spec.std)
        x = grey.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        with autocast():
            label = self.label[view, index]
            loss, terms = loss_of(self.student, x, targets, self.part[index], label)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"The loss is {loss.item()} after {self.done} pictures.")
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += s.batch
        self._terms.append(terms)

    def _save(self, minutes: float) -> None:
        state: dict[str, Any] = {
            "student": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "done": self.done,
            "parts": self.parts,
        }
        files.save_checkpoint(self.out / "checkpoint.pt", state)
        event = {"done": self.done, "seconds": 60 * minutes}
        event |= {"lr": learning_rate(self.done, self.settings)}
        event |= pd.DataFrame(self._terms).mean().to_dict()
        event |= validate(self.student, self.val, self.val_canvases, self.parts, self.spec)
        event = {k: round(v, 5) for k, v in event.items()}
        files.append_event(self.out / "events.jsonl", event)
        log.info("%s", event)
        self._terms.clear()


def groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: decay for weights, none for biases and normalisation."""
    learned = [p for p in module.parameters() if p.requires_grad]
    decay = [p for p in learned if p.ndim > 1]
    plain = [p for p in learned if p.ndim <= 1]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
