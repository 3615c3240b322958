"""Of all quadrilaterals of two lines across and two lines down, the one that is most like a film.

Its sides lie on edges everywhere, and these end at the corners. Around it all sides are equally
bright and plain, as it lies on one box or one page; what is put together of a film's side and a
monitor's, or of a bone's, is not. It is rather dark at its sides, its opposite sides are of like
length, and of two it is rather the inner one: a monitor lies around its page.

There are thousands of them on a few dozen lines. So each line is looked at once, pixel by pixel,
and what a side has of it is a difference of two running sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Points: TypeAlias = NDArray[np.float64]
"""...x2, (x, y) in pixels; of a quadrilateral 4x2: top left, top right, bottom right, bottom left.
Of lines Kx3: a unit normal and the distance from the origin."""

SMALLEST = 0.12  # share of the picture that a film covers at least
UNLIKE = 0.6  # of two opposite sides the shorter to the longer, at least
SLACK = 0.02  # how far outside of the picture a corner may lie, of its longer side
MOST_DARK = 0.75  # three sides' worth: what is bright at one side is no worse
OUTSIDE = 5  # pixels outside of a side, where its surroundings are looked at
WEAK, TEXTURE = 0.2, 4.0  # of an edge: grey values of the root, and times the median gradient
END = 0.03  # of a side at each corner, which is left out
BEYOND = (0.025, 0.1)  # behind a corner, of the side
# What counts how much, beside the mean support of the sides, as `python -m training corners` found
# it on photographs simulated from 260 training radiographs.
WEIGHTS = {
    "support": 1.0,
    "support of the worst side": 1.14,
    "support of the second worst": 0.63,
    "dark inside": 0.61,
    "edges behind the corners": -0.05,
    "edges behind the worst two ends": -0.34,
    "side": -0.58,
    "uneven surroundings": -0.28,
    "textured surroundings": -0.29,
    "textured surroundings of the worst side": -0.09,
    "likeness of opposite sides": 1.24,
}


def best(across: Points, down: Points, grey: NDArray[np.uint8]) -> Points | None:
    """Corners (4x2) of the best of all quadrilaterals (``figures``); None where there is none."""
    found = figures(across, down, grey)
    if found is None:
        return None
    quads, of_each = found
    score = sum(WEIGHTS[name] * values for name, values in of_each.items())
    return np.asarray(quads[int(np.argmax(score))], float)


def figures(
    across: Points, down: Points, grey: NDArray[np.uint8]
) -> tuple[Points, dict[str, NDArray[np.float64]]] | None:
    """All quadrilaterals that may be a film (Nx4x2), and by the names of WEIGHTS what speaks for
    or against each (N); None where there is none.

    across, down: lines, Kx3. grey: HxW, smoothed; edges are sought in the square root of it, in
    which those of shadows count as well.
    """
    if len(across) < 2 or len(down) < 2:
        return None
    quads, lines = _every(across, down)
    height, width = grey.shape
    share = area(quads) / (height * width)
    slack = SLACK * max(height, width)
    inside = (quads > -slack).all((1, 2)) & (quads < np.array([width, height]) + slack).all((1, 2))
    sides = np.linalg.norm(np.roll(quads, -1, 1) - quads, axis=2)
    opposite = np.minimum(sides[:, :2], sides[:, 2:]) / np.maximum(sides[:, :2], sides[:, 2:])
    alike = opposite.min(1)
    good = inside & convex(quads) & (share > SMALLEST) & (alike > UNLIKE)
    if not good.any():
        return None
    quads, lines, share, alike = quads[good], lines[good], share[good], alike[good]
    seen = _Lines(np.concatenate([across, down]), grey).sides(quads, lines)
    support, behind = np.sort(seen.support, 1), np.sort(seen.behind, 1)
    dark = (seen.support * seen.dark).sum(1) / np.maximum(support.sum(1), 1e-9)
    return quads, {
        "support": support.mean(1),
        "support of the worst side": support[:, 0],
        "support of the second worst": support[:, 1],
        "dark inside": np.minimum(dark, MOST_DARK),
        "edges behind the corners": behind.mean(1),
        "edges behind the worst two ends": behind[:, -2:].mean(1),
        "side": np.sqrt(share),
        "uneven surroundings": seen.around.std(1),
        "textured surroundings": seen.texture.mean(1),
        "textured surroundings of the worst side": seen.texture.max(1),
        "likeness of opposite sides": alike,
    }


def gradient(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """HxWx2: (x, y) in grey values a pixel of the square root."""
    root = _root(grey)
    across = cv2.Sobel(root, cv2.CV_32F, 1, 0, scale=1 / 8)
    down = cv2.Sobel(root, cv2.CV_32F, 0, 1, scale=1 / 8)
    return np.stack([across, down], -1)


def edge(magnitude: NDArray[np.float32]) -> float:
    """What counts as a whole edge in a gradient: well above the texture of the picture."""
    return float(max(WEAK, TEXTURE * float(np.median(magnitude))))


def area(quads: Points) -> NDArray[np.float64]:
    """Of each of Nx4x2 corners: N."""
    diagonals = quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1]
    return np.asarray(0.5 * np.abs(_cross(*diagonals)))


def overlap(one: Points, other: Points) -> float:
    """Of two convex quadrilaterals (4x2) the intersection over the union, in [0, 1]."""
    common, _ = cv2.intersectConvexConvex(one.astype(np.float32), other.astype(np.float32))
    union = float(area(one[None])[0] + area(other[None])[0]) - common
    return common / union if union > 0 else 0.0


def convex(quads: Points) -> NDArray[np.bool_]:
    """Whether each of Nx4x2 corners goes clockwise, and turns at all of them: N."""
    sides = np.roll(quads, -1, 1) - quads
    return np.asarray((_cross(sides, np.roll(sides, -1, 1)) > 0).all(1))


def support(quad: Points, grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How much of each side of one quadrilateral (4x2) lies on an edge of HxW: 4, in [0, 1]."""
    steep = gradient(grey)
    side = np.roll(quad, -1, 0) - quad
    normal = np.stack([side[:, 1], -side[:, 0]], 1)
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    t = np.linspace(END, 1 - END, 40)[:, None]
    places = quad[:, None] + t * side[:, None]
    across = _strongest(places, normal[:, None], steep)
    return np.asarray(_share_of_edge(across, steep).mean(1), np.float64)


@dataclass(frozen=True)
class _Sides:
    """Of N quadrilaterals. support: Nx4, how much of a side lies on an edge. dark: Nx4, the share
    of that which is darker inside. behind: Nx8, how much of an edge lies behind its ends. around,
    texture: Nx4, mean and deviation of the root of the grey values outside."""

    support: NDArray[np.float64]
    dark: NDArray[np.float64]
    behind: NDArray[np.float64]
    around: NDArray[np.float64]
    texture: NDArray[np.float64]


class _Lines:
    """What lies along each of K lines (Kx3), as running sums from one end of it to the other."""

    def __init__(self, lines: Points, grey: NDArray[np.uint8]) -> None:
        self._lines = lines
        self._reach = int(np.hypot(*grey.shape)) + 2
        self._along = np.stack([-lines[:, 1], lines[:, 0]], 1)
        steps = np.arange(-self._reach, self._reach + 1)
        normal = lines[:, None, :2]
        places = lines[:, None, 2:] * normal + steps[None, :, None] * self._along[:, None]
        steep = gradient(grey)
        across = _strongest(places, normal, steep)
        hit = _share_of_edge(across, steep)
        root = _root(grey)
        one, other = (_at(root, places + off * normal) for off in (OUTSIDE, -OUTSIDE))
        seen = np.stack([hit, hit * (across > 0), one, one**2, other, other**2], -1)
        none = np.zeros((len(lines), 1, seen.shape[-1]))
        self._sums = np.concatenate([none, np.cumsum(seen, 1, dtype=np.float64)], 1)

    def sides(self, quads: Points, lines: NDArray[np.int_]) -> _Sides:
        """quads: Nx4x2. lines: Nx4, which of the lines each side lies on, from the top one on."""
        ends = np.stack([quads, np.roll(quads, -1, 1)], 2)
        at = (ends * self._along[lines][:, :, None]).sum(-1)
        start, end = at.min(2), at.max(2)
        length = end - start
        seen = self._means(lines, start + END * length, end - END * length)
        hit, positive = seen[..., 0], seen[..., 1]
        near, far = (share * length for share in BEYOND)
        before = self._means(lines, start - far, start - near)[..., 0]
        after = self._means(lines, end + near, end + far)[..., 0]
        # Whether the normal of the line points out of the quadrilateral.
        middle = (self._lines[lines][..., :2] * quads.mean(1)[:, None]).sum(-1)
        outward = middle < self._lines[lines][..., 2]
        mean = np.where(outward, seen[..., 2], seen[..., 4])
        square = np.where(outward, seen[..., 3], seen[..., 5])
        return _Sides(
            hit,
            np.where(outward, positive, hit - positive) / np.maximum(hit, 1e-9),
            np.concatenate([before, after], 1),
            mean,
            np.sqrt(np.maximum(square - mean**2, 0)),
        )

    def _means(
        self, lines: NDArray[np.int_], start: NDArray[np.float64], end: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        last = 2 * self._reach
        first = (np.rint(start).astype(int) + self._reach).clip(0, last)
        after = np.maximum((np.rint(end).astype(int) + self._reach).clip(0, last), first) + 1
        whole = self._sums[lines, after] - self._sums[lines, first]
        return np.asarray(whole / (after - first)[..., None])


def _every(across: Points, down: Points) -> tuple[Points, NDArray[np.int_]]:
    """Nx4x2 corners, and Nx4 which line (those down after those across) each side lies on."""
    grid = _crossings(across, down)
    rows, columns = (np.array(list(combinations(range(n), 2))) for n in grid.shape[:2])
    quads = grid[rows[:, None, :, None], columns[None, :, None, :]].reshape(-1, 2, 2, 2)
    row, column = np.repeat(rows, len(columns), 0), np.tile(columns, (len(rows), 1))
    upside_down = quads[:, 0, :, 1].sum(1) >= quads[:, 1, :, 1].sum(1)
    quads = np.where(upside_down[:, None, None, None], quads[:, ::-1], quads)
    row = np.where(upside_down[:, None], row[:, ::-1], row)
    mirrored = quads[:, :, 0, 0].sum(1) >= quads[:, :, 1, 0].sum(1)
    quads = np.where(mirrored[:, None, None, None], quads[:, :, ::-1], quads)
    column = len(across) + np.where(mirrored[:, None], column[:, ::-1], column)
    corners = np.stack([quads[:, 0, 0], quads[:, 0, 1], quads[:, 1, 1], quads[:, 1, 0]], 1)
    return corners, np.stack([row[:, 0], column[:, 1], row[:, 1], column[:, 0]], 1)


def _crossings(across: Points, down: Points) -> Points:
    """Where every line across meets every line down: AxDx2."""
    determinant = across[:, None, 0] * down[:, 1] - across[:, None, 1] * down[:, 0]
    determinant = np.where(np.abs(determinant) < 1e-9, 1e-9, determinant)
    x = (across[:, None, 2] * down[:, 1] - across[:, None, 1] * down[:, 2]) / determinant
    y = (across[:, None, 0] * down[:, 2] - across[:, None, 2] * down[:, 0]) / determinant
    return np.stack([x, y], -1)


def _cross(a: Points, b: Points) -> NDArray[np.float64]:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])


def _root(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(np.sqrt(grey.astype(np.float32) + 4))


def _at(values: NDArray[Any], places: Points) -> NDArray[Any]:
    """Of HxW at places ...x2; outside, the nearest of the border."""
    height, width = values.shape
    at = np.rint(places).astype(np.int32)
    return np.take(values, at[..., 1].clip(0, height - 1) * width + at[..., 0].clip(0, width - 1))


def _strongest(places: Points, normal: Points, steep: NDArray[np.float32]) -> NDArray[np.float32]:
    """The steepest gradient along the normal, up to two pixels from each place (...x2): ...; zero
    outside of the picture."""
    height, width = steep.shape[:2]
    x, y = (np.ascontiguousarray(steep[..., k]) for k in (0, 1))
    found = np.zeros(places.shape[:-1], np.float32)
    for off in (-2, -1, 0, 1, 2):
        there = places + off * normal
        inside = (there > -0.5).all(-1) & (there[..., 0] < width - 0.5)
        inside &= there[..., 1] < height - 0.5
        along = (_at(x, there) * normal[..., 0] + _at(y, there) * normal[..., 1]) * inside
        found = np.where(np.abs(along) > np.abs(found), along, found)
    return found


def _share_of_edge(
    across: NDArray[np.floating], steep: NDArray[np.float32]
) -> NDArray[np.floating]:
    whole = edge(np.hypot(steep[..., 0], steep[..., 1]))
    return np.clip(np.abs(across) / whole, 0, 1)
