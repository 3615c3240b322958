"""Pictures in memory with their labels, and what a network is told and asked about them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from core.architectures import STRIDE
from core.transforms import Preprocessing, placement
from core.types import Crop
from training import distributed, strangers
from training.augment import turn
from training.data import AMBIGUOUS, PARTS, boxes_of, load_canvases
from training.metrics import accuracy, auroc
from training.model import CLASSES
from training.phases import BODY_PART, OTHER

Logits = dict[str, Tensor]
_INSIDE = 0.4  # share of a cell in a box, against the fullest one, from which on it counts
_WINDOW = 0x57494E  # makes of a view's seed that of where its window lies
_RARE = 5.0  # how much more a cell with a finding weighs than one of the many without


class Answer(NamedTuple):
    """Logits by head, and of each finding the evidence by cell: Bxhxw, whose mean is the logit
    less its bias (Grad-CAM before the ReLU). cells: by part the logits Bxhxw of what each cell of
    a local network says; of any other network none."""

    logits: Logits
    evidence: dict[str, Tensor]
    cells: dict[str, Tensor]


@dataclass(frozen=True)
class Pictures:
    """Rows with their canvases (NxSxS uint8) and their labels as tensors (NaN: unknown).

    rows: with ``height`` and ``width`` in pixels and ``crop``, as boxes are in fractions of the
    picture, not of the canvas. body_part: index into ``kinds``, -100 where the label does not say.
    kinds: classes of stage 1, those of the cascade's parts first (``data.kinds_of``).
    """

    rows: pd.DataFrame
    canvases: np.ndarray
    body_part: Tensor
    positive: Tensor
    kinds: tuple[str, ...] = CLASSES

    @classmethod
    def load(
        cls,
        rows: pd.DataFrame,
        spec: Preprocessing,
        drawn: int = 0,
        seed: int = 0,
        kinds: tuple[str, ...] = CLASSES,
    ) -> Pictures:
        """drawn: so many strangers (``training.strangers``) beside the rows."""
        rows, canvases = load_canvases(rows, spec)
        if drawn:
            rows = pd.concat([rows, strangers.rows(drawn)], ignore_index=True)
            canvases = np.concatenate([canvases, strangers.canvases(drawn, spec, seed)])
        # -100 is what cross_entropy leaves out
        words = [p if p in kinds else OTHER for p in rows.part]
        part = [-100 if p in AMBIGUOUS else kinds.index(w) for p, w in zip(rows.part, words)]
        positive = torch.tensor(rows.positive.to_numpy(np.float32, copy=True))
        return cls(rows, canvases, torch.tensor(part), positive, kinds)

    def only(self, index: np.ndarray) -> Pictures:
        """The labels of the pictures of these numbers, which may repeat; without their canvases."""
        rows = self.rows.iloc[index].reset_index(drop=True)
        body_part, positive = self.body_part[index], self.positive[index]
        return Pictures(rows, self.canvases[:0], body_part, positive, self.kinds)

    def relevant(self, heads: tuple[str, ...]) -> Pictures:
        """Those that say something of the heads: of one part its own, else all."""
        if BODY_PART in heads:
            return self
        here = (self.rows.part.isin(heads) & self.rows.positive.notna()).to_numpy(copy=True)
        rows = self.rows[here].reset_index(drop=True)
        body_part, positive = self.body_part[here], self.positive[here]
        return Pictures(rows, self.canvases[here], body_part, positive, self.kinds)

    def place(self, index: int, seed: int, cells: int) -> Tensor:
        """Where the annotated boxes of a picture lie after ``vary`` with that seed: cells x cells,
        the share of each that is inside a box, in [0, 1]."""
        row, size = self.rows.iloc[index], self.canvases.shape[-1]
        crop: Crop = row.crop
        high, wide = crop.bottom - crop.top, crop.right - crop.left
        at = placement(round(high * row.height), round(wide * row.width), size)
        mask = torch.zeros(1, size, size)
        for x0, y0, x1, y1 in boxes_of(row.boxes):
            (top, bottom) = (at.top + (y - crop.top) / high * at.height for y in (y0, y1))
            (left, right) = (at.left + (x - crop.left) / wide * at.width for x in (x0, x1))
            rows, columns = (
                slice(max(0, int(a)), max(0, math.ceil(b)))
                for a, b in ((top, bottom), (left, right))
            )
            mask[0, rows, columns] = 1.0
        return F.adaptive_avg_pool2d(turn(mask, seed), cells)[0]

    @property
    def known(self) -> np.ndarray:
        """Which pictures say of every place whether a finding lies in it: those without one, and
        annotated positives. Of another positive nobody knows where it is."""
        return self.marked | (self.rows.positive == 0).to_numpy()

    @property
    def marked(self) -> np.ndarray:
        """Which pictures are annotated positives."""
        return (self.rows.boxes.notna() & (self.rows.positive == 1)).to_numpy()

    def window(self, index: int, seed: int, cells: int, side: int) -> tuple[slice, slice]:
        """Rows and columns of a square of side x side of a varied picture's cells x cells: of an
        annotated positive near a box, of any other anywhere."""
        rng = np.random.default_rng((seed, _WINDOW))
        corner = rng.uniform(0, cells - side, 2)
        if self.marked[index]:
            inside = self.place(index, seed, cells).flatten().double().numpy()
            if inside.max() > 0:
                at = rng.choice(len(inside), p=inside / inside.sum())
                corner = np.array(divmod(at, cells)) - rng.integers(side, size=2)
        top, left = np.clip(np.rint(corner), 0, cells - side).astype(int).tolist()
        return slice(top, top + side), slice(left, left + side)


def collapse(logits: Tensor) -> Tensor:
    """BxK logits of stage 1's kinds -> Bx4 of the cascade's classes (``core.quality.collapse``)."""
    parts, others = logits[:, : len(PARTS)], logits[:, len(PARTS) :]
    return torch.cat([parts, others.logsumexp(1, keepdim=True)], 1)


def loss(
    logits: Logits, pictures: Pictures, index: np.ndarray, whole: np.ndarray, smoothing: float
) -> Tensor:
    """Cross-entropy of the body part plus binary cross-entropy of each picture's own part.

    The body part's is half that of stage 1's kinds and half that of the cascade's classes.
    Each is the mean over the labelled pictures of the batch ``whole``, of which ``index`` is this
    process's share: summed here, divided by the count there, so that the sum over processes is it.
    """
    total = torch.zeros(())
    if BODY_PART in logits:
        out = logits[BODY_PART].float()
        target = pictures.body_part[index].to(out.device)
        summed = torch.zeros((), device=out.device)
        for scores, truth in ((out, target), (collapse(out), target.clamp(max=len(PARTS)))):
            term = F.cross_entropy(scores, truth, label_smoothing=smoothing, reduction="sum")
            summed = summed + 0.5 * term
        total = summed / max(1, int((pictures.body_part[whole] >= 0).sum()))
    findings = [name for name in logits if name != BODY_PART]
    part, positive = pictures.rows.part.to_numpy(), pictures.positive.numpy()
    terms = []
    for name in findings:
        here = np.flatnonzero((part[index] == name) & ~np.isnan(positive[index]))
        if len(here):
            out = logits[name].float()[here, 0]
            target = pictures.positive[index[here]].to(out.device)
            target = target * (1 - smoothing) + 0.5 * smoothing
            terms.append(F.binary_cross_entropy_with_logits(out, target, reduction="none"))
    count = (np.isin(part[whole], findings) & ~np.isnan(positive[whole])).sum()
    return total + torch.cat(terms).sum() / int(count) if terms else total


def pointing_loss(
    evidence: dict[str, Tensor],
    pictures: Pictures,
    index: np.ndarray,
    seeds: np.ndarray,
    whole: np.ndarray,
) -> Tensor:
    """How far the evidence for annotated positives lies from their boxes.

    The cross-entropy of "in a box" under a softmax over the cells: what a heatmap's hottest place
    is decided by. The mean over the annotated positives of the batch, as in ``loss``.
    """
    part, marked = pictures.rows.part.to_numpy(), pictures.marked
    terms = []
    for name, cells in evidence.items():
        for k in np.flatnonzero((part[index] == name) & marked[index]):
            inside = pictures.place(int(index[k]), int(seeds[k]), cells.shape[-1])
            if inside.max() <= 0:
                continue  # moved out of the picture
            share = F.softmax(cells[k].float().flatten(), 0)
            near = (inside / inside.max()).flatten().to(share.device)
            terms.append(-(share @ near).clamp_min(1e-6).log())
    count = int((np.isin(part[whole], list(evidence)) & marked[whole]).sum())
    return torch.stack(terms).sum() / count if terms else torch.zeros(())


def dense_loss(
    cells: dict[str, Tensor],
    pictures: Pictures,
    index: np.ndarray,
    seeds: np.ndarray,
    whole: np.ndarray,
    windows: Sequence[tuple[slice, slice]] = (),
) -> Tensor:
    """Cross-entropy of each cell, and of the whole picture by its most suspicious cells.

    Of pictures of which it is known where a finding lies (``Pictures.known``), by their own part's
    cells. A cell that a box only touches counts for neither. The mean over these pictures of the
    batch, as in ``loss``. windows: the cells that were seen of each picture; none for all.
    """
    part, known, marked = pictures.rows.part.to_numpy(), pictures.known, pictures.marked
    terms = []
    for k in np.flatnonzero(known[index] & np.isin(part[index], list(cells))).tolist():
        out = cells[part[index[k]]][k].float()
        inside = torch.zeros(out.shape)
        if marked[index[k]]:
            side = pictures.canvases.shape[-1] // STRIDE
            inside = pictures.place(int(index[k]), int(seeds[k]), side)
            if inside.max() <= 0:
                continue  # moved out of the picture
            inside = inside / inside.max()
            inside = inside[windows[k]] if windows else inside
        inside, out = inside.flatten().to(out.device), out.flatten()
        sure = (inside >= _INSIDE) | (inside == 0)
        truth = (inside >= _INSIDE).float()
        if inside.any() and not truth.any():
            continue  # a window that a box only touches
        weight = torch.where(truth > 0, _RARE, 1.0)[sure]
        each = F.binary_cross_entropy_with_logits(out[sure], truth[sure], weight)
        any_of = F.binary_cross_entropy_with_logits(out.logsumexp(0), truth.max())
        terms.append(each + 0.5 * any_of)
    count = int((known[whole] & np.isin(part[whole], list(cells))).sum())
    nothing = sum((c.sum() for c in cells.values()), torch.zeros(())) * 0.0
    return torch.stack(terms).sum() / count if terms else nothing


def steady_loss(first: Logits, second: Logits, pictures: Pictures, index: np.ndarray) -> Tensor:
    """How far two views of a picture are apart, beside how far pictures are apart.

    Shift, scale, exposure and what is painted over say nothing of the bone, so the answer should
    not change. Of the first len(second) of the pictures ``index``: half the mean squared difference
    of their own part's logits, divided by the variance of all the first views' within their part.
    Without that a network would please by making all its answers small. Of several processes each
    has its share of the pictures, and gets its share of the loss.
    """
    part = pictures.rows.part.to_numpy()[index]
    apart, spread, counts = [], [], []  # counts: of the first views, and of those with a second
    for name in [n for n in first if n != BODY_PART]:
        values, others = first[name].float()[:, 0], second[name].float()[:, 0]
        own, again = (
            torch.from_numpy(part[: len(v)] == name).to(v.device) for v in (values, others)
        )
        apart.append((values[: len(others)] - others)[again].square().sum())
        pair = torch.tensor([own.sum(), again.sum()], device=values.device)
        count = distributed.total(pair.float())
        middle = distributed.total(values.detach()[own].sum()) / count[0].clamp(min=1)
        spread.append((values[own] - middle).square().sum())
        counts.append(count)
    if not apart:
        return torch.zeros(())
    number, pairs = torch.stack(counts).sum(0).clamp(min=1)
    variance = distributed.total(torch.stack(spread).sum()) / number
    return torch.stack(apart).sum() / (2 * pairs * variance.clamp(min=1e-6))


def figures_of(logits: Logits, pictures: Pictures) -> dict[str, float]:
    """Accuracy of stage 1 on the three parts, on others and on strangers, AUROC of every part's
    own head."""
    result = {}
    rows = pictures.rows
    for name, values in logits.items():
        if name == BODY_PART:
            focus = rows.part.isin(PARTS).to_numpy()
            chosen = collapse(values).argmax(1).numpy()
            truth = pictures.body_part.clamp(max=len(PARTS)).numpy()
            stranger = (rows.part == strangers.KIND).to_numpy()
            others = {"other": ~focus & ~stranger & (truth >= 0), strangers.KIND: stranger}
            groups = {name: focus} | others
            for kind, here in groups.items():
                if here.any():
                    result[kind] = accuracy(truth[here], chosen[here])
            continue
        here = ((rows.part == name) & rows.positive.notna()).to_numpy()
        value = auroc(rows.positive[here], values.numpy()[here, 0]) if here.any() else math.nan
        if not math.isnan(value):
            result[name] = value
    return result
