"""Augmentation with ``torchvision.transforms.v2``: what changes between two exposures of a bone.

Geometry: either side of the body, a turned or shifted limb, another distance. Exposure: window,
gamma, blur, noise, how the picture was stored, and whether it was photographed from a film or
screen. Occlusion: a marker, a border or a ring over part of the picture. Nothing here changes
anatomy, and the picture is never squashed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.compat import import_torchvision

import_torchvision()
from torchvision.transforms import v2  # noqa: E402  (only importable after the line above)


class RandomGamma(v2.Transform):  # type: ignore[misc]
    """Grey values in [0, 1] to the power of e**u, u uniform in +-strength."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def make_params(self, flat_inputs: list[Tensor]) -> dict[str, float]:
        return {"gamma": float(torch.empty(1).uniform_(-self.strength, self.strength).exp())}

    def transform(self, inpt: Tensor, params: dict[str, float]) -> Tensor:
        return inpt.clamp(0, 1).pow(params["gamma"])


class RandomJpeg(v2.Transform):  # type: ignore[misc]
    """Stored as JPEG of a random quality and read again (torchvision's own needs ``io``, which the
    CPU build may lack, see ``core.compat``)."""

    def __init__(self, quality: tuple[int, int]) -> None:
        super().__init__()
        self.quality = quality

    def make_params(self, flat_inputs: list[Tensor]) -> dict[str, int]:
        low, high = self.quality
        return {"quality": int(torch.randint(low, high + 1, ()))}

    def transform(self, inpt: Tensor, params: dict[str, int]) -> Tensor:
        grey = inpt[0].clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
        stored = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, params["quality"]])[1]
        read = cv2.imdecode(stored, cv2.IMREAD_GRAYSCALE)
        return torch.from_numpy(read).to(inpt.dtype).div_(255)[None]


class RandomPhotograph(v2.Transform):  # type: ignore[misc]
    """What is left of a photograph of a film or a screen once the film is cut out of it: uneven
    light, a veil, a reflection, the moire of two grids of pixels (``camera`` simulates the whole).
    """

    def __init__(
        self,
        uneven: float = 0.35,
        veil: float = 0.1,
        glare: float = 0.25,
        moire: float = 0.08,
        wave: tuple[float, float] = (2.5, 12.0),
    ) -> None:
        """Largest strengths; grey values in [0, 1], wave in pixels."""
        super().__init__()
        self.uneven, self.veil, self.glare, self.moire = uneven, veil, glare, moire
        self.wave = wave

    def make_params(self, flat_inputs: list[Tensor]) -> dict[str, Tensor]:
        drawn = torch.rand(12)
        return {"drawn": drawn, "corners": torch.rand(1, 1, 3, 3)}

    def transform(self, inpt: Tensor, params: dict[str, Tensor]) -> Tensor:
        u, size = params["drawn"].tolist(), inpt.shape[-2:]
        light = F.interpolate(params["corners"], size, mode="bicubic", align_corners=True)[0]
        seen = inpt.clamp(0, 1) * (1 - self.uneven * u[0] * light)
        seen = seen + (1 - seen) * self.veil * u[1]
        y, x = torch.meshgrid(*(torch.linspace(0, 1, n) for n in size), indexing="ij")
        if u[2] < 0.5:
            wide = 0.02 + 0.1 * u[3]
            far = ((x - u[4]) ** 2 + (y - u[5]) ** 2) / (2 * wide * wide)
            seen = seen + self.glare * u[6] * torch.exp(-far)
        if u[7] < 0.5:
            low, high = self.wave
            turn, wave = math.pi * u[8], low + (high - low) * u[9]
            along = math.cos(turn) * x + math.sin(turn) * y
            bent = along + 0.3 * (u[10] - 0.5) * along * along
            bands = torch.sin(2 * math.pi * size[-1] / wave * bent)
            seen = seen * (1 + self.moire * u[11] * bands)
        return seen.clamp(0, 1)


GEOMETRY = v2.RandomAffine(
    degrees=15,
    translate=(0.06, 0.06),
    scale=(0.85, 1.2),
    interpolation=v2.InterpolationMode.BILINEAR,
)
FLIP = v2.RandomHorizontalFlip()
EXPOSURE = v2.Compose(
    [
        v2.RandomApply([RandomPhotograph()], p=0.25),
        RandomGamma(0.4),
        v2.ColorJitter(brightness=0.2, contrast=0.25),
        v2.RandomApply([v2.GaussianBlur(5, sigma=(0.1, 1.2))], p=0.2),
        v2.RandomApply([v2.GaussianNoise(sigma=0.03)], p=0.5),
        v2.RandomApply([RandomJpeg((50, 95))], p=0.3),
    ]
)
OCCLUSION = v2.RandomErasing(p=0.25, scale=(0.01, 0.06), ratio=(0.3, 3.0), value=0.9)


def vary(grey: Tensor, seeds: Iterable[int]) -> Tensor:
    """Every kind of variation on Bx1xSxS float pictures in [0, 1].

    Each picture has its own seed of torch's global generator, so it does not matter which others
    are in the batch, or which process varies it.
    """
    varied = []
    for g, seed in zip(grey, seeds, strict=True):
        torch.manual_seed(int(seed))
        varied.append(OCCLUSION(EXPOSURE(FLIP(GEOMETRY(g)))))
    return torch.stack(varied)


def turn(mask: Tensor, seed: int) -> Tensor:
    """The geometry that ``vary`` gives a picture of this seed, for a 1xSxS mask of its size."""
    torch.manual_seed(seed)
    turned: Tensor = FLIP(GEOMETRY(mask))
    return turned


def expose(grey: Tensor) -> Tensor:
    """Exposure alone, for pictures whose geometry is already fixed (Bx1xSxS in [0, 1])."""
    return torch.stack([EXPOSURE(g) for g in grey])


def zoomed(canvases: np.ndarray) -> np.ndarray:
    """BxSxS uint8 canvases without 4 % at each side, at their size again."""
    side = canvases.shape[-1]
    cut = round(0.04 * side)
    inner = torch.from_numpy(canvases[:, cut : side - cut, cut : side - cut])[:, None].float()
    whole = F.interpolate(inner, (side, side), mode="bilinear", antialias=True)
    return np.asarray(whole[:, 0].round().to(torch.uint8))
