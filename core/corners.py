"""The four corners of a film, or of a radiograph on a screen, in a photograph of it.

As document scanners do it: edges, straight lines through many of them, and of all quadrilaterals
of two lines across and two lines down the best one (``core.quadrilaterals``). Its sides are then
fitted to the edge at full resolution, each with a bend, as lenses make straight edges round, and by
most of its points, so that a finger on it does not move it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from core import quadrilaterals
from core.quadrilaterals import Points

SIDE = 420  # longer side on which lines are sought, pixels
FINE = 1400  # and on which they are fitted
LINES = 14  # across and down each, at most
REACH = 0.008  # how far from a line its edge is sought, of the longer side
TILT = np.deg2rad(32)  # of a side against the picture's, at most


@dataclass(frozen=True)
class Quadrilateral:
    """corners: of the film in pixels of the photograph. support: share of its sides that lies on
    an edge, in [0, 1]: the mean of that of all sides and that of the worst."""

    corners: Points
    support: float


def find(pixels: NDArray[Any]) -> Quadrilateral | None:
    """The film in a photograph (HxW uint8 or uint16); None where nothing looks like one."""
    grey = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
    across, down, smooth, scale = lines(grey)
    best = quadrilaterals.best(across, down, smooth)
    if best is None:
        return None
    fine, fine_scale = _reduced(grey, FINE)
    corners = _fitted(best / scale * fine_scale, fine) / fine_scale
    support = quadrilaterals.support(corners * scale, smooth)
    return Quadrilateral(corners, float(0.5 * support.mean() + 0.5 * support.min()))


def lines(grey: NDArray[np.uint8]) -> tuple[Points, Points, NDArray[np.uint8], float]:
    """Lines across and down (Kx3) in a photograph (HxW), the small and smooth picture in whose
    pixels they are, and its scale."""
    small, scale = _reduced(grey, SIDE)
    smooth = _smooth(small, 1.4)
    return *_lines(quadrilaterals.gradient(smooth)), smooth, scale


def _reduced(grey: NDArray[np.uint8], side: int) -> tuple[NDArray[np.uint8], float]:
    """(the picture with its longer side at most ``side``, its scale)"""
    scale = min(1.0, side / max(grey.shape))
    size = (round(grey.shape[1] * scale), round(grey.shape[0] * scale))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def _smooth(grey: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), sigma), np.uint8)


def _lines(gradient: NDArray[np.float32]) -> tuple[Points, Points]:
    """Lines across and down (Kx3: nx, ny, distance from the origin) by votes of edge pixels.

    Each edge pixel votes for lines at right angles to its gradient (Ballard 1981), weak and strong
    edges alike from a threshold on.
    """
    magnitude = np.hypot(gradient[..., 0], gradient[..., 1])
    weight = np.minimum(1.0, magnitude / quadrilaterals.edge(magnitude))
    thin = magnitude >= cv2.dilate(magnitude, np.ones((3, 3), np.uint8)) * 0.8
    y, x = np.nonzero((weight > 0.35) & thin)
    angle = np.arctan2(gradient[y, x, 1], gradient[y, x, 0])  # of the normal
    size, strength = gradient.shape[:2], weight[y, x]
    across = _voted(x, y, angle, strength, size, np.pi / 2)
    return across, _voted(x, y, angle, strength, size, 0.0)


def _voted(
    x: NDArray[Any],
    y: NDArray[Any],
    angle: NDArray[Any],
    weight: NDArray[Any],
    shape: tuple[int, ...],
    normal: float,
) -> Points:
    """Lines whose normal lies within TILT of ``normal``: Kx3, those with most votes."""
    off = (angle - normal + np.pi / 2) % np.pi - np.pi / 2
    here = np.abs(off) < TILT
    x, y, off, weight = x[here], y[here], off[here], weight[here]
    step = np.deg2rad(1.0)
    bins = int(2 * TILT / step) + 1
    reach = int(np.hypot(shape[0], shape[1])) + 1
    each = np.zeros(bins * 2 * reach)
    for spread in range(-4, 5):
        turn = np.clip(np.rint((off + TILT) / step).astype(int) + spread, 0, bins - 1)
        theta = normal + turn * step - TILT
        rho = np.rint(x * np.cos(theta) + y * np.sin(theta)).astype(int) + reach
        each += np.bincount(turn * 2 * reach + rho, weight, len(each))
    sharp = each.astype(np.float32).reshape(bins, 2 * reach)
    votes = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 1.0), np.float32)
    found = []
    for _ in range(LINES):
        turn, rho = np.unravel_index(int(votes.argmax()), votes.shape)
        if votes[turn, rho] <= 0:
            break
        theta = normal + turn * step - TILT
        found.append((np.cos(theta), np.sin(theta), rho - reach))
        _forget(votes, int(turn), int(rho), normal, shape, reach)
    return np.array(found, float).reshape(-1, 3)


def _forget(
    votes: NDArray[np.float32],
    turn: int,
    rho: int,
    normal: float,
    shape: tuple[int, ...],
    reach: int,
) -> None:
    """Take away the votes for lines that are nearly the one found, where they cross the picture."""
    step = np.deg2rad(1.0)
    theta = normal + np.arange(len(votes)) * step - TILT
    middle = np.array([shape[1] / 2, shape[0] / 2])
    own = theta[turn]
    along = (rho - reach) - middle @ (np.cos(own), np.sin(own))
    for other in range(max(0, turn - 6), min(len(votes), turn + 7)):
        here = middle @ (np.cos(theta[other]), np.sin(theta[other])) + along
        at = round(here) + reach
        votes[other, max(0, at - 5) : at + 6] = 0


def _fitted(corners: Points, grey: NDArray[np.uint8]) -> Points:
    """The corners where the four edges, fitted to the picture, meet."""
    gradient = quadrilaterals.gradient(_smooth(grey, 1.5))
    reach = max(4, round(REACH * max(grey.shape)))
    ends = [_side(corners[k], corners[(k + 1) % 4], gradient, reach) for k in range(4)]
    found = np.empty((4, 2))
    for k in range(4):
        before, after = ends[k - 1][1], ends[k][0]
        found[k] = _meeting(before, after, corners[k])
    moved = np.linalg.norm(found - corners, axis=1).max()
    return found if moved < 4 * reach else corners


def _side(
    start: Points, end: Points, gradient: NDArray[np.float32], reach: int
) -> tuple[tuple[Points, Points], tuple[Points, Points]]:
    """A point and a direction of the edge at both ends of a side."""
    height, width = gradient.shape[:2]
    along = end - start
    length = float(np.linalg.norm(along))
    along = along / max(length, 1e-9)
    normal = np.array([along[1], -along[0]])
    t = np.linspace(0.03, 0.97, 90)
    shifts = np.arange(-reach, reach + 1)
    places = start + (t * length)[:, None, None] * along + shifts[None, :, None] * normal
    at = np.rint(places).astype(int)
    x, y = at[..., 0].clip(0, width - 1), at[..., 1].clip(0, height - 1)
    strength = gradient[y, x] @ normal
    strength = strength * (1 if np.median(_extreme(strength)) >= 0 else -1)
    where = strength.argmax(1)
    weight = np.clip(strength.max(1), 0, None)
    offset, bend = _robust(t, shifts[where].astype(float), weight)
    ends = []
    for s in (0.0, 1.0):
        value = offset[0] + offset[1] * s + bend * s * s
        slope = (offset[1] + 2 * bend * s) / length
        ends.append((start + s * length * along + value * normal, along + slope * normal))
    return ends[0], ends[1]


def _extreme(strength: NDArray[Any]) -> NDArray[Any]:
    """The value of largest magnitude in each row."""
    return np.take_along_axis(strength, np.abs(strength).argmax(1)[:, None], 1)[:, 0]


def _robust(
    t: NDArray[Any], offset: NDArray[Any], weight: NDArray[Any]
) -> tuple[NDArray[np.float64], float]:
    """Offset = a + b t + c t^2 by reweighted least squares (Tukey's biweight): ((a, b), c)."""
    design = np.stack([np.ones_like(t), t, t * t], 1)
    w = weight / max(float(weight.max()), 1e-9)
    found = np.array([np.median(offset), 0.0, 0.0])
    for _ in range(12):
        residual = np.abs(offset - design @ found)
        spread = max(1.0, 3.0 * float(np.median(residual)))
        trust = w * np.clip(1 - (residual / spread) ** 2, 0, None) ** 2
        root = np.sqrt(trust + 1e-9)[:, None]
        found = np.linalg.lstsq(design * root, offset * root[:, 0], rcond=None)[0]
    return found[:2], float(found[2])


def _meeting(before: tuple[Points, Points], after: tuple[Points, Points], other: Points) -> Points:
    """Where two lines (point, direction) meet; ``other`` where they are parallel."""
    matrix = np.stack([before[1], -after[1]], 1)
    if abs(np.linalg.det(matrix)) < 1e-6:
        return other
    s = np.linalg.solve(matrix, after[0] - before[0])[0]
    return np.asarray(before[0] + s * before[1])
