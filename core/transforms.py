"""The one preprocessing, for training and inference alike: grey pixels -> canvas -> tensor.

0. Focus, where a release wants it: the picture is cut to the limb (``core.focus``), as a hand on a
   large detector would otherwise be seen at a third of the pixels that it could have.
1. Autocontrast. Exposure, detector and window differ between hospitals and exports, and some
   radiographs come almost black. The grey values are stretched linearly so that the given
   percentiles become 0 and 1: linear, so that no edge is invented or lost, and percentiles, so
   that a burned-in marker or one dead pixel does not set the scale.
2. Letterbox. The picture is scaled to fit and padded with black to a square. Squashing would
   change angles and thus the look of an alignment.
3. Quantised to 8 bit (the canvas), so that a cached canvas is exactly what inference sees.
4. Normalised and repeated over three channels, as weights trained on colour pictures expect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from core import focus
from core.types import WHOLE, Crop

if TYPE_CHECKING:
    import torch

Canvas = NDArray[np.uint8]


@dataclass(frozen=True)
class Preprocessing:
    """How a release wants its pictures. Stored in the manifest, never guessed.

    size: side of the square in pixels. mean, std: of grey values in [0, 1].
    percentiles: grey values that autocontrast maps to black and white. focus: whether the picture
    is cut to the limb first.
    """

    size: int = 224
    mean: float = 0.449
    std: float = 0.226
    percentiles: tuple[float, float] = (0.5, 99.5)
    focus: bool = False


@dataclass(frozen=True)
class Placement:
    """Where the picture lies on its canvas, in canvas pixels."""

    top: int
    left: int
    height: int
    width: int


LARGE = 1_000_000  # pixels; above it the percentiles are of every 4th pixel each way
"""The same percentiles to a thousandth of the range, at a sixteenth of the time."""


def autocontrast(pixels: NDArray[Any], percentiles: tuple[float, float]) -> NDArray[np.float32]:
    """Stretch grey values (HxW, any real dtype) linearly to float32 in [0, 1].

    A picture without any contrast becomes black.
    """
    low, high = _ends(pixels, percentiles)
    if high <= low:
        return np.zeros(pixels.shape, np.float32)
    if pixels.dtype == np.uint8:  # the same numbers by a table, at a third of the time
        return cv2.LUT(pixels, _stretched(np.arange(256), low, high))  # type: ignore[return-value]
    return _stretched(pixels, low, high)


def _ends(pixels: NDArray[Any], percentiles: tuple[float, float]) -> tuple[float, float]:
    """The grey values that become 0 and 1; equal where there is no contrast."""
    step = 4 if pixels.size > LARGE else 1
    seen = pixels[::step, ::step]
    whole = pixels.dtype in (np.uint8, np.uint16)
    low, high = _counted(seen, percentiles) if whole else np.percentile(seen, percentiles)
    if high <= low:
        return float(pixels.min()), float(pixels.max())
    return float(low), float(high)


def _counted(pixels: NDArray[Any], percentiles: tuple[float, float]) -> list[float]:
    """``np.percentile`` of uint8 or uint16 by their histogram, at a fifth of the time."""
    grey = np.ascontiguousarray(pixels)
    values = 1 << (8 * grey.dtype.itemsize)
    counts = cv2.calcHist([grey], [0], None, [values], [0, values])
    below = np.cumsum(counts.ravel().astype(np.int64))  # float32 counts exactly up to 2**24
    found = []
    for percent in percentiles:
        place = percent / 100.0 * (grey.size - 1)
        first = int(place)
        a, b = np.searchsorted(below, [first, min(first + 1, grey.size - 1)], side="right")
        found.append(float(a + (b - a) * (place - first)))
    return found


def _stretched(pixels: NDArray[Any], low: float, high: float) -> NDArray[np.float32]:
    """In place after one copy: a large picture costs more to allocate than to compute."""
    stretched = pixels.astype(np.float32)
    stretched -= np.float32(low)
    stretched /= np.float32(high - low)
    return np.clip(stretched, 0.0, 1.0, out=stretched)


def _shrunk(
    pixels: NDArray[Any], height: int, width: int, percentiles: tuple[float, float]
) -> NDArray[np.float32]:
    """``autocontrast`` and INTER_AREA of a large picture in one pass, a third of the time.

    A band of rows at a time stays in the cache while it is clipped and averaged, and the linear
    part of the contrast is left to the few pixels that remain. HxW -> height x width float32 in
    [0, 1], equal to the two steps up to rounding.
    """
    low, high = _ends(pixels, percentiles)
    if high <= low:
        return np.zeros((height, width), np.float32)
    summed = _summed if _countable(pixels, low, high) else _weighed
    rows = np.empty((height, pixels.shape[1]), np.float32)
    scale, last_row = pixels.shape[0] / height, pixels.shape[0]
    for n in range(height):
        top, bottom = n * scale, (n + 1) * scale
        first, last = int(top), min(math.ceil(bottom), last_row)
        # The outermost rows count as far as they lie within; LARGE is reduced, so there are two.
        rows[n] = summed(pixels[first:last], first + 1 - top, bottom - (last - 1), low, high)
    rows /= np.float32(scale)
    small = cv2.resize(rows, (width, height), interpolation=cv2.INTER_AREA)
    return _stretched(small, low, high)


def _countable(pixels: NDArray[Any], low: float, high: float) -> bool:
    """Whether ``_summed`` can clip and add up without a single rounding."""
    return pixels.dtype in (np.uint8, np.uint16) and low.is_integer() and high.is_integer()


def _summed(
    band: NDArray[Any], top: float, bottom: float, low: float, high: float
) -> NDArray[np.float32]:
    """The sum over the rows of a band, clipped; the first counts ``top``, the last ``bottom``."""
    kind = band.dtype.type
    clipped = np.clip(band, kind(low), kind(high))
    total = clipped[0] * np.float32(top)
    total += clipped[-1] * np.float32(bottom)
    if len(band) > 2:
        deep = cv2.CV_32S if band.dtype == np.uint8 else cv2.CV_32F  # exact: at most 2**24
        total += cv2.reduce(clipped[1:-1], 0, cv2.REDUCE_SUM, dtype=deep)[0]
    return total


def _weighed(
    band: NDArray[Any], top: float, bottom: float, low: float, high: float
) -> NDArray[np.float32]:
    """As ``_summed``, of pixels of any kind and fractional ends."""
    clipped = band.astype(np.float32)
    np.clip(clipped, low, high, out=clipped)
    weights = np.ones(len(band), np.float32)
    weights[0], weights[-1] = top, bottom
    # einsum, not a matrix product: that may split its sums by the number of threads.
    total: NDArray[np.float32] = np.einsum("i,ij->j", weights, clipped)
    return total


def placement(height: int, width: int, size: int) -> Placement:
    """Where a picture of height x width lies in a letterboxed square of the given size."""
    scale = size / max(height, width)
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    return Placement((size - h) // 2, (size - w) // 2, h, w)


def to_canvas(pixels: NDArray[Any], spec: Preprocessing) -> Canvas:
    """Grey pixels (HxW, any real dtype, bright = dense) -> size x size uint8 canvas."""
    return framed(pixels, spec)[0]


def framed(pixels: NDArray[Any], spec: Preprocessing) -> tuple[Canvas, Crop]:
    """The canvas of a picture, as ``to_canvas``, and the part of the picture that is on it."""
    if not spec.focus:
        return _letterboxed(pixels, spec), WHOLE
    rows, columns = focus.inside(focus.crop(pixels), *pixels.shape)
    height, width = pixels.shape
    # Whole pixels, and the crop is what was really cut.
    cut = Crop(rows.start / height, columns.start / width, rows.stop / height, columns.stop / width)
    return _letterboxed(pixels[rows, columns], spec), cut


def _letterboxed(pixels: NDArray[Any], spec: Preprocessing) -> Canvas:
    height, width = pixels.shape
    place = placement(height, width, spec.size)
    if pixels.size > LARGE and place.height < height and place.width < width:
        resized = _shrunk(pixels, place.height, place.width, spec.percentiles)
    else:
        resized = cv2.resize(  # type: ignore[assignment]
            autocontrast(pixels, spec.percentiles),
            (place.width, place.height),
            interpolation=cv2.INTER_AREA if place.height < height else cv2.INTER_LINEAR,
        )
    canvas = np.zeros((spec.size, spec.size), np.uint8)
    inside = np.s_[place.top : place.top + place.height, place.left : place.left + place.width]
    canvas[inside] = np.rint(resized * 255.0).astype(np.uint8)
    return canvas


def to_tensor(canvases: NDArray[np.uint8], spec: Preprocessing) -> torch.Tensor:
    """Canvases (BxSxS uint8) -> network input (Bx3xSxS float32, normalised, channels last)."""
    import torch  # here, so that what only decodes (a batch's workers, a page) starts without it

    grey = torch.from_numpy(np.ascontiguousarray(canvases)).float().div_(255.0)
    grey = grey.sub_(spec.mean).div_(spec.std)
    return grey[:, None].expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
