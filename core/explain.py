"""Heatmaps. Grad-CAM at layer4 in closed form, and what is needed to draw any map.

A branch ends in average pooling and one linear layer, so the gradient of a logit with respect to
layer4 is the linear layer's weight divided by the number of cells, the same in every cell. Grad-CAM
(Selvaraju et al. 2017, arXiv:1610.02391) is then ReLU(sum of weight x activation), as CAM (Zhou et
al. 2016, arXiv:1512.04150): no hook, no backward pass, nothing left behind on a shared model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from core.focus import inside
from core.transforms import placement
from core.types import Heatmap

# Perceptually even and safe for colour-blind readers, all of them.
COLOUR_MAPS = {
    "Inferno": cv2.COLORMAP_INFERNO,
    "Viridis": cv2.COLORMAP_VIRIDIS,
    "Cividis": cv2.COLORMAP_CIVIDIS,
}


def grad_cam(
    activations: NDArray[np.float32], weight: NDArray[np.float32], probability: float
) -> Heatmap:
    """Activations (Cxhxw) and one row of the linear layer (C) -> Heatmap on the hxw grid.

    The map's maximum is ``probability``; without positive evidence it is all zero.
    """
    return _scaled(np.tensordot(weight, activations, axes=1), probability)


def joint_grad_cam(
    evidence: Sequence[NDArray[np.float32]], weights: Sequence[float], probability: float
) -> Heatmap:
    """The maps of several networks as one, on the finest of their grids.

    evidence: of each network the sum of weight x activation (hxw), in units of its calibrated
    logit. weights: as their logits are averaged, so the mean over the cells of what is summed here
    is the average's logit without its biases.
    """
    height, width = max(e.shape for e in evidence)
    joint = np.zeros((height, width), np.float32)
    for values, weight in zip(evidence, weights, strict=True):
        joint += np.float32(weight) * cv2.resize(values, (width, height))
    return _scaled(joint, probability)


def _scaled(evidence: NDArray[np.float32], probability: float) -> Heatmap:
    cam = np.maximum(evidence, 0.0)
    peak = cam.max()
    values = cam * (probability / peak) if peak > 0 else np.zeros_like(cam)
    return Heatmap(np.ascontiguousarray(values, np.float32), "Grad-CAM")


def on_picture(heatmap: Heatmap, height: int, width: int) -> NDArray[np.float32]:
    """The heatmap over the picture: height x width float32 in [0, 1], letterbox removed.

    Where the network saw a part of the picture, the rest has no evidence: 0.
    """
    size = 512
    square = cv2.resize(heatmap.values, (size, size), interpolation=cv2.INTER_CUBIC)
    rows, columns = inside(heatmap.crop, height, width)
    high, wide = rows.stop - rows.start, columns.stop - columns.start
    place = placement(high, wide, size)
    seen = square[place.top : place.top + place.height, place.left : place.left + place.width]
    whole = np.zeros((height, width), np.float32)
    larger = cv2.resize(seen, (wide, high), interpolation=cv2.INTER_LINEAR)
    np.clip(larger, 0.0, 1.0, out=whole[rows, columns])
    return whole


def overlay(
    grey: NDArray[np.uint8], heat: NDArray[np.float32], opacity: float
) -> NDArray[np.uint8]:
    """Blend a heatmap (HxW in [0, 1]) over a picture (HxW uint8): HxWx3 uint8 RGB.

    Cells without evidence stay grey: the opacity grows with the value, up to ``opacity``.
    """
    colours = colour_map()[np.rint(heat * 255).astype(np.uint8)].astype(np.float32)
    alpha = (opacity * np.clip(heat * 2.0, 0.0, 1.0))[..., None]
    blended = grey[..., None].astype(np.float32) * (1 - alpha) + colours * alpha
    return np.rint(blended).astype(np.uint8)


def colour_map(name: str = "Inferno") -> NDArray[np.uint8]:
    """256x3 RGB of one of COLOUR_MAPS; KeyError for another name."""
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 256)
    bgr = cv2.applyColorMap(ramp, COLOUR_MAPS[name]).reshape(256, 3)
    return np.ascontiguousarray(bgr[:, ::-1])


@dataclass(frozen=True)
class Region:
    """Where a heatmap is hottest: the connected part around its peak, at least half as high.

    outline: Nx2 float, corners (x, y) in fractions of width and height.
    width, height: of the box around it, in the same fractions.
    """

    outline: NDArray[np.float64]
    width: float
    height: float


def around_peak(heat: NDArray[np.float32]) -> NDArray[np.int32] | None:
    """The outline of the hottest region of a map (HxW): Nx2 (x, y) of the pixels at its corners.

    The connected part around the peak, at least half as high; None where there is no evidence.
    """
    peak = float(heat.max())
    if peak <= 0:
        return None
    _, labels = cv2.connectedComponents((heat >= peak / 2).astype(np.uint8))
    inside = (labels == labels.flat[int(heat.argmax())]).astype(np.uint8)
    [edge], _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return edge.reshape(-1, 2).astype(np.int32)


def hottest(heat: NDArray[np.float32]) -> Region | None:
    """The hottest region of a map over a picture (HxW); None where there is no evidence."""
    corners = around_peak(heat)
    if corners is None:
        return None
    size = np.array(heat.shape[::-1], float)
    width, height = (np.ptp(corners, axis=0) + 1) / size
    return Region((corners + 0.5) / size, float(width), float(height))
