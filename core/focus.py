"""Where the limb lies: what is cut out of a radiograph before it becomes a canvas.

A hand on a large detector is a sixth of the picture. Scaled as a whole, its fracture lines are
thinner than a pixel. What is cut away has no edges in it: air, the empty detector, a border. A
crop that would leave little, or that cannot be told, is none: cutting off a fracture is worse than
seeing it small.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from core.types import WHOLE, Crop

SIDE = 256  # pixels: the longer side of what is looked at
BLUR = 1.5  # pixels of it
EDGE = 0.12  # of a strong edge of the same picture; weaker ones are noise and shading
BORDER = 0.04  # of the longer side: plates, collimators and scanners leave edges there
TAIL = 0.005  # of all edges, on each side, that may lie outside of the crop
MARGIN = 0.06  # of the crop's longer side, around it
BRIGHT, SMALL = 0.9, 0.02  # a marker: so bright, and so small a share of the picture
LEAST, MOST = 1.08, 2.5  # how much larger the limb becomes; less is not worth it, more is doubtful


def crop(pixels: NDArray[Any]) -> Crop:
    """The part of a picture (HxW uint8, uint16 or float, bright = dense) that has edges in it."""
    height, width = pixels.shape
    scale = min(1.0, SIDE / max(height, width))
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    if min(shape) < 16:
        return WHOLE
    step = max(1, max(height, width) // (2 * SIDE))  # averaging all of a large one takes 13 ms
    sparse = np.ascontiguousarray(pixels[::step, ::step])
    small = cv2.resize(sparse, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    edges = _edges(cv2.GaussianBlur(small, (0, 0), BLUR))
    dead = max(2, round(BORDER * max(shape)))
    inner = np.zeros_like(edges)
    inner[dead:-dead, dead:-dead] = edges[dead:-dead, dead:-dead]
    if not inner.any():
        return WHOLE
    spans = [_span(inner.sum(1 - axis)) for axis in (0, 1)]
    margin = MARGIN * max(high - low for low, high in spans)
    ends = []
    for (low, high), side in zip(spans, shape, strict=True):
        # What reaches the border's strip may go on in it.
        first = 0.0 if low <= dead + margin else low - margin
        last = side if high >= side - dead - margin else high + margin
        ends.append((first / side, last / side))
    (top, bottom), (left, right) = ends
    zoom = max(height, width) / max((bottom - top) * height, (right - left) * width)
    return Crop(top, left, bottom, right) if LEAST <= zoom <= MOST else WHOLE


def inside(crop: Crop, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of a crop in a picture of that size, at least one of each."""
    spans = []
    for first, last, side in ((crop.top, crop.bottom, height), (crop.left, crop.right, width)):
        # A crop of whole pixels is these pixels again, whatever its fractions were rounded to.
        start = min(int(first * side + 1e-6), side - 1)
        spans.append(slice(start, max(start + 1, min(side, math.ceil(last * side - 1e-6)))))
    return spans[0], spans[1]


def _edges(grey: NDArray[Any]) -> NDArray[np.float32]:
    """The strength of edges, 0 where weak, without those of markers: they outshine a dark limb."""
    level = _levels(grey, np.ones(grey.shape, bool))
    if level is None:
        return np.zeros_like(grey)
    _, labels, stats, _ = cv2.connectedComponentsWithStats((level > BRIGHT).astype(np.uint8))
    little = stats[:, cv2.CC_STAT_AREA] < SMALL * grey.size
    little[0] = False  # what is not bright
    marker = cv2.dilate(little[labels].astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    level = _levels(grey, ~marker)
    if level is None:
        return np.zeros_like(grey)
    across, down = cv2.Sobel(level, cv2.CV_32F, 1, 0), cv2.Sobel(level, cv2.CV_32F, 0, 1)
    strength = np.asarray(cv2.magnitude(across, down), np.float32)
    strength[marker] = 0.0
    strength[strength < EDGE * np.percentile(strength, 99.5)] = 0.0
    return strength


def _levels(grey: NDArray[Any], counted: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """Grey values stretched to [0, 1] by those that are counted; None without contrast."""
    low, high = np.percentile(grey[counted], (0.5, 99.5)) if counted.any() else (0.0, 0.0)
    if high <= low:
        return None
    return np.clip((grey - low) / (high - low), 0.0, 1.0).astype(np.float32)


def _span(profile: NDArray[np.float32]) -> tuple[int, int]:
    """First and last place of a profile between its tails."""
    share = np.cumsum(profile, dtype=np.float64) / profile.sum(dtype=np.float64)
    return int(np.searchsorted(share, TAIL)), int(np.searchsorted(share, 1.0 - TAIL)) + 1
