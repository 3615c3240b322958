"""Augmentation of canvases: geometry with OpenCV, exposure in batches with torch."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor


def warp(canvas: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """A random rotation (15 degrees), scale (0.85 to 1.2) and shift (6 %) of an SxS canvas."""
    size = canvas.shape[0]
    angle = strength * rng.uniform(-15, 15)
    scale = rng.uniform(0.85, 1.2) ** strength
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), angle, scale)
    matrix[:, 2] += strength * size * rng.uniform(-0.06, 0.06, 2)
    return cv2.warpAffine(canvas, matrix, (size, size), flags=cv2.INTER_LINEAR)


def expose(grey: Tensor, generator: torch.Generator) -> Tensor:
    """Random gamma, contrast, brightness and noise of Bx1xSxS float pictures in [0, 1]."""
    batch = (len(grey), 1, 1, 1)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(batch).uniform_(low, high, generator=generator)

    out = grey.clamp(0, 1).pow(uniform(-0.4, 0.4).exp())
    out = out * uniform(0.75, 1.2) + uniform(-0.08, 0.12)
    noise = torch.empty_like(out).normal_(generator=generator)
    return (out + noise * uniform(0.0, 0.04)).clamp(0, 1)
