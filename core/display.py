"""How a radiograph is first shown: the window from grey values to a screen or to paper."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

PERCENTILES = (0.1, 99.9)
AS_THEY_ARE = "Grey values as they are"
STRETCHED = "Grey values stretched between the percentiles {:g} and {:g}".format(*PERCENTILES)


def window(pixels: NDArray[Any]) -> tuple[float, float, str]:
    """(low, high, how): the grey values that become black and white, and how they were chosen.

    pixels: HxW uint8 or uint16. An 8-bit picture with contrast is shown as it is; a deep or a very
    flat one between its percentiles. high is larger than low.
    """
    low, high = (float(v) for v in np.percentile(pixels[::4, ::4], PERCENTILES))
    if pixels.dtype == np.uint8 and high - low > 127:
        return 0.0, 255.0, AS_THEY_ARE
    if high <= low:
        low, high = float(pixels.min()), float(pixels.max())
    return low, max(high, low + 1.0), STRETCHED


def reduced(pixels: NDArray[Any], side: int) -> NDArray[Any]:
    """The picture (HxW) with its longer side at most ``side``, of the same dtype."""
    height, width = pixels.shape
    scale = min(1.0, side / max(height, width))
    if scale == 1.0:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def encoded(picture: NDArray[np.uint8], quality: int = 85) -> bytes:
    """A picture (HxW) as a JPEG file."""
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def to_8_bit(pixels: NDArray[Any], side: int) -> NDArray[np.uint8]:
    """Grey values (HxW) through their window, at most ``side`` long: hxw uint8."""
    low, high, how = window(pixels)
    small = reduced(pixels, side)
    if how == AS_THEY_ARE:
        return small
    stretched = (small.astype(np.float32) - low) / (high - low)
    return np.rint(np.clip(stretched, 0.0, 1.0) * 255).astype(np.uint8)
