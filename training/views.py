"""Augmented views of every picture with the teacher's features, in memory-mapped files.

The teacher may see the same view at a larger size than the student: its features are better there,
and the student learns to see in its smaller picture what the teacher saw in the larger one.
"""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.augment import GEOMETRY
from training.networks import NETWORKS
from training.precision import autocast
from training.teacher import Lite2

log = logging.getLogger(__name__)


class Views:
    """``views`` views of N pictures, the first one unturned.

    canvases: VxNxSxS uint8, what the student sees. maps: float16 targets, standardised by channel:
    the maps from stage ``first`` on (VxNxCxhxw, on the student's grid), then the pooled vector
    (VxNxD).
    """

    def __init__(
        self,
        folder: Path,
        canvases: np.ndarray,
        wide: np.ndarray,
        views: int,
        seed: int,
        first: int = 0,
        teacher: Path | None = None,
    ) -> None:
        """Opens what ``folder`` holds of these very pictures, views and seed; else computes it.

        canvases: NxSxS uint8 for the student. wide: NxTxT uint8 of the same for the teacher.
        teacher: the run that it comes from (``teacher.Lite2``).
        """
        n, size = len(canvases), canvases.shape[-1]
        digest = hashlib.sha256(canvases.tobytes())
        digest.update(wide.tobytes() + f"{views} {seed} {first}".encode())
        if teacher is not None:
            digest.update((teacher / NETWORKS).read_bytes())
        key = digest.hexdigest()
        self.n, self.views, self._first = n, views, first
        self.teacher = Lite2(wide.shape[-1], teacher).compile()
        self._grids = [-(-size // s) for s in Lite2.strides]
        probe = self._teach(wide[:1])
        self.shapes = [m.shape[1:] for m in probe]
        folder.mkdir(parents=True, exist_ok=True)
        done = folder / "done"
        same = done.exists() and done.read_text() == key
        mode = "r+" if same else "w+"
        self.canvases = np.lib.format.open_memmap(
            folder / "canvas.npy", mode, np.uint8, None if same else (views, n, size, size)
        )
        self.maps = [
            np.lib.format.open_memmap(
                folder / f"map{i}.npy", mode, np.float16, None if same else (views, n, *s)
            )
            for i, s in enumerate(self.shapes)
        ]
        if not same:
            done.unlink(missing_ok=True)
            self._fill(canvases, wide, seed)
            done.write_text(key)

    @property
    def pooled(self) -> np.ndarray:
        """The teacher's pooled vectors, VxNxD float16, standardised."""
        return self.maps[-1]

    def _teach(self, wide: np.ndarray) -> list[Tensor]:
        """The teacher's maps on the student's grid, and its pooled vector; float32."""
        with autocast():
            features = self.teacher(wide)
        maps = [
            m.float()
            if m.shape[-1] == grid
            else F.interpolate(m.float(), (grid, grid), mode="bilinear", antialias=True)
            for m, grid in list(zip(features.maps, self._grids))[self._first :]
        ]
        return [*maps, features.pooled.float()]

    def _scale(self, wide: np.ndarray) -> list[tuple[Tensor, Tensor]]:
        """(mean, standard deviation) of each target by channel, from a sample of the pictures."""
        chosen = np.random.default_rng(0).choice(self.n, min(512, self.n), replace=False)
        chunks = [self._teach(wide[chosen[i : i + 64]]) for i in range(0, len(chosen), 64)]
        scale = []
        for m in (torch.cat(c) for c in zip(*chunks)):
            axes = (0, 2, 3) if m.ndim == 4 else (0,)
            scale.append((m.mean(axes, keepdim=True), m.std(axes, keepdim=True) + 1e-3))
        return scale

    def _fill(self, canvases: np.ndarray, wide: np.ndarray, seed: int) -> None:
        scale = self._scale(wide)
        for view in range(self.views):
            started = time.monotonic()
            for i in range(0, self.n, 64):
                seen, taught = canvases[i : i + 64], wide[i : i + 64]
                if view:
                    seeds = [seed + 1_000_003 * view + i + k for k in range(len(seen))]
                    seen, taught = turned(seen, seeds), turned(taught, seeds)
                self.canvases[view, i : i + 64] = seen
                for out, m, (mean, std) in zip(self.maps, self._teach(taught), scale):
                    standard = ((m - mean) / std).clamp(-10, 10)
                    out[view, i : i + 64] = standard.to(torch.float16).numpy()
            log.info("view %d of %d: %.0f s", view + 1, self.views, time.monotonic() - started)

    def batch(
        self, index: np.ndarray, rng: np.random.Generator
    ) -> tuple[Tensor, list[Tensor], np.ndarray]:
        """Grey Bx1xSxS in [0, 1], the targets, and which view each is; half of them flipped."""
        view = rng.integers(self.views, size=len(index))
        flip = rng.random(len(index)) < 0.5
        grey = torch.from_numpy(self.canvases[view, index]).float().div_(255)[:, None]
        targets = [torch.from_numpy(m[view, index]) for m in self.maps]
        flipped = torch.from_numpy(flip)
        for t in (grey, *targets):
            if t.ndim == 4:
                t[flipped] = t[flipped].flip(-1)
        return grey, targets, view


def turned(canvases: np.ndarray, seeds: list[int]) -> np.ndarray:
    """Each canvas (BxSxS uint8) in a random geometry of its own seed, whatever its size is."""
    out = []
    for canvas, one in zip(canvases, seeds, strict=True):
        torch.manual_seed(one)
        out.append(GEOMETRY(torch.from_numpy(np.ascontiguousarray(canvas))[None])[0])
    return torch.stack(out).numpy()
