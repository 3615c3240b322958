"""What all decoders share: their result, the check of the size, arithmetic of grey values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from core.errors import ImageRejected
from core.settings import ImageLimits
from core.types import DicomHeader

Grey: TypeAlias = NDArray[Any]
"""uint8 or uint16 over the full range of the type."""

TINT = 0.98  # share of the pixels
CAST_SIDE = 256  # pixels of the longer side, or little more, that are looked at for a cast


@dataclass(frozen=True)
class Decoded:
    """What one decoder returns: HxW uint8 or uint16, bright = dense, upright.

    The rest is as in ``core.types.Radiograph``.
    """

    pixels: Grey
    pixel_spacing: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    header: DicomHeader | None = None
    exposed: bool = False
    cast: float = 0.0
    cautions: tuple[str, ...] = ()
    stored: tuple[int, ...] | None = None


def cast_of(colour: NDArray[np.uint8]) -> float:
    """How far most of a picture (HxWx3 RGB) is from grey: the median, in grey values.

    0 where each grey has one colour of its own: that is a tint, as of a film's base or a display,
    while light and noise colour a photograph here and there.
    """
    wide = colour.astype(np.int16)
    cast = float(np.median(wide.max(-1) - wide.min(-1)))
    return 0.0 if cast and _is_tint(colour.reshape(-1, 3)) else cast


def _is_tint(colours: NDArray[np.uint8]) -> bool:
    """Of Nx3 RGB: whether TINT of them have, within 1, the middle colour of those as green."""
    of_green = colours[np.argsort(colours[:, 1], kind="stable")].astype(np.int16)
    starts = np.flatnonzero(np.diff(of_green[:, 1], prepend=-1))
    groups = np.split(of_green, starts[1:])
    near = sum(int((abs(g - np.median(g, axis=0)) <= 1).all(1).sum()) for g in groups)
    return near >= TINT * len(colours)


def check_size(width: int, height: int, limits: ImageLimits, frames: int = 1) -> None:
    """Refuse a picture by what its header says, before anything is decoded.

    Raises ImageRejected where a side or the number of pixels (of all frames) is out of bounds.
    """
    size = f"The picture is {width:,} by {height:,} pixels"
    if min(width, height) < limits.min_side:
        raise ImageRejected(
            f"{size}, which is too small: at least {limits.min_side} pixels a side are needed."
        )
    if max(width, height) > limits.max_side:
        raise ImageRejected(
            f"{size}, which is too large: at most {limits.max_side:,} pixels a side are accepted."
        )
    if width * height * frames > limits.max_pixels:
        count = f" in {frames:,} frames" if frames > 1 else ""
        most = limits.max_pixels / 1e6
        raise ImageRejected(
            f"{size}{count}, which is too large: at most {most:g} megapixels are accepted."
        )


def luminance(colour: Grey) -> Grey:
    """HxWx3 RGB, uint8 or uint16 -> HxW of the same dtype, weighted as in ITU-R BT.601."""
    grey: Grey = cv2.cvtColor(np.ascontiguousarray(colour), cv2.COLOR_RGB2GRAY)
    return grey


def over_black(grey: Grey, alpha: Grey) -> Grey:
    """Composite grey values on black; both HxW of one unsigned dtype, alpha over its full range."""
    top = np.iinfo(grey.dtype).max
    if alpha.min() == top:
        return grey
    product = grey.astype(np.uint32) * alpha
    return ((product + top // 2) // top).astype(grey.dtype)


def scaled_to_16_bit(values: NDArray[np.generic]) -> NDArray[np.uint16]:
    """Stretch any real HxW values linearly from their finite extremes to [0, 65535].

    Infinite values take the nearest extreme, and "not a number" becomes black. Raises
    ImageRejected where no value is finite.
    """
    numbers = values.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        raise ImageRejected("The picture holds no valid grey value.")
    low, high = float(finite.min()), float(finite.max())
    span = high - low
    if not 0 < span < np.inf:  # one value only, or extremes that overflow when subtracted
        return np.zeros(values.shape, np.uint16)
    numbers = np.nan_to_num(numbers, nan=low, posinf=high, neginf=low)
    return np.rint((numbers - low) * (65535.0 / span)).astype(np.uint16)
