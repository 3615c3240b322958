"""Augmentation with ``torchvision.transforms.v2``: what changes between two exposures of a bone.

Geometry: either side of the body, a turned or shifted limb, another distance. Exposure: window,
gamma, blur, noise, and how the picture was stored. Occlusion: a marker, a border or a ring over
part of the picture. Nothing here changes anatomy, and the picture is never squashed.
"""

from __future__ import annotations

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


GEOMETRY = v2.RandomAffine(
    degrees=15,
    translate=(0.06, 0.06),
    scale=(0.85, 1.2),
    interpolation=v2.InterpolationMode.BILINEAR,
)
FLIP = v2.RandomHorizontalFlip()
EXPOSURE = v2.Compose(
    [
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
