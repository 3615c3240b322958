"""The four corners of a film, or of a radiograph on a screen, in a photograph of it.

As document scanners do it: edges, straight lines through many of them, and of all quadrilaterals
of two lines across and two lines down the best one. Its sides lie on edges everywhere, and these
end at the corners. Around it all sides are equally bright, as it lies on one box or one page; what
is put together of a film's side and a monitor's is not. And it is rather dark at its sides, and
rather the inner of two: a collimated field in the film is bright, a monitor lies around its page.

The sides are then fitted to the edge at full resolution, each with a bend, as lenses make straight
edges round, and by most of its points, so that a finger on it does not move it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Points: TypeAlias = NDArray[np.float64]
"""4x2, (x, y) in pixels: top left, top right, bottom right, bottom left."""

SIDE = 420  # longer side on which lines are sought, pixels
FINE = 1400  # and on which they are fitted
LINES = 14  # across and down each, at most
TILT = np.deg2rad(32)  # of a side against the picture's, at most
SMALLEST = 0.12  # share of the photograph that a film covers at least
SAMPLES = 40  # places on a side
KEPT = 400  # quadrilaterals that are looked at closely
OUTSIDE = 5  # pixels outside of a side, where its surroundings are looked at
WEAK, TEXTURE = 0.2, 4.0  # of an edge: grey values of the root, and times the median gradient
# What counts how much, chosen on photographs simulated from validation radiographs: support of
# all sides and of the worst, darkness inside, edges behind the corners, size, uneven surroundings
WEIGHTS = np.array([1.0, 0.2, 0.2, -0.3, -0.25, -0.2])
MOST_DARK = 0.75  # three sides' worth: what is bright at one side is no worse


@dataclass(frozen=True)
class Quadrilateral:
    """corners: of the film in pixels of the photograph. support: share of its sides that lies on
    an edge, in [0, 1]: the mean of that of all sides and that of the worst."""

    corners: Points
    support: float


def find(pixels: NDArray[Any]) -> Quadrilateral | None:
    """The film in a photograph (HxW uint8 or uint16); None where nothing looks like one."""
    grey = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
    small, scale = _reduced(grey, SIDE)
    smooth = _smooth(small, 1.4)
    gradient = _gradient(smooth)
    across, down = _lines(gradient)
    best = _best(across, down, gradient, _root(smooth))
    if best is None:
        return None
    fine, fine_scale = _reduced(grey, FINE)
    corners = _fitted(best / scale * fine_scale, fine)
    hits = _by_side(corners[None] / fine_scale * scale, gradient, SAMPLES)[0]
    return Quadrilateral(corners / fine_scale, float(0.5 * hits.mean() + 0.5 * hits.min()))


def _reduced(grey: NDArray[np.uint8], side: int) -> tuple[NDArray[np.uint8], float]:
    """(the picture with its longer side at most ``side``, its scale)"""
    scale = min(1.0, side / max(grey.shape))
    size = (round(grey.shape[1] * scale), round(grey.shape[0] * scale))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def _smooth(grey: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), sigma), np.uint8)


def _root(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(np.sqrt(grey.astype(np.float32) + 4))


def _gradient(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """HxWx2: (x, y) in grey values a pixel of the square root, in which shadows count as well."""
    root = _root(grey)
    across = cv2.Sobel(root, cv2.CV_32F, 1, 0, scale=1 / 8)
    down = cv2.Sobel(root, cv2.CV_32F, 0, 1, scale=1 / 8)
    return np.stack([across, down], -1)


def _lines(gradient: NDArray[np.float32]) -> tuple[Points, Points]:
    """Lines across and down (Kx3: nx, ny, distance from the origin) by votes of edge pixels.

    Each edge pixel votes for lines at right angles to its gradient (Ballard 1981), weak and strong
    edges alike from a threshold on.
    """
    magnitude = np.hypot(gradient[..., 0], gradient[..., 1])
    weight = np.minimum(1.0, magnitude / max(_edge(magnitude), 1e-6))
    thin = magnitude >= cv2.dilate(magnitude, np.ones((3, 3), np.uint8)) * 0.8
    y, x = np.nonzero((weight > 0.35) & thin)
    angle = np.arctan2(gradient[y, x, 1], gradient[y, x, 0])  # of the normal
    size, strength = gradient.shape[:2], weight[y, x]
    across = _voted(x, y, angle, strength, size, np.pi / 2)
    return across, _voted(x, y, angle, strength, size, 0.0)


def _edge(magnitude: NDArray[np.float32]) -> float:
    """What counts as a whole edge: well above the texture of the picture."""
    return float(max(WEAK, TEXTURE * float(np.median(magnitude))))


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
    votes = np.zeros((bins, 2 * reach), np.float32)
    for spread in range(-4, 5):
        turn = np.clip(np.rint((off + TILT) / step).astype(int) + spread, 0, bins - 1)
        theta = normal + turn * step - TILT
        rho = np.rint(x * np.cos(theta) + y * np.sin(theta)).astype(int) + reach
        np.add.at(votes, (turn, rho), weight)
    votes[:] = cv2.GaussianBlur(votes, (0, 0), 1.0)
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


def _best(
    across: Points, down: Points, gradient: NDArray[np.float32], root: NDArray[np.float32]
) -> Points | None:
    """Corners (4x2) of the best of all quadrilaterals; None where there is none."""
    if len(across) < 2 or len(down) < 2:
        return None
    height, width = gradient.shape[:2]
    quads = _ordered(_crossings(across, down))
    share = area(quads) / (height * width)
    slack = 0.02 * max(height, width)
    inside = (quads > -slack).all((1, 2)) & (quads < np.array([width, height]) + slack).all((1, 2))
    sides = np.linalg.norm(np.roll(quads, -1, 1) - quads, axis=2)
    opposite = np.minimum(sides[:, :2], sides[:, 2:]) / np.maximum(sides[:, :2], sides[:, 2:])
    good = inside & convex(quads) & (share > SMALLEST) & (opposite > 0.6).all(1)
    if not good.any():
        return None
    quads, share = quads[good], share[good]
    hint = _by_side(quads, gradient, SAMPLES // 4)[0]
    kept = np.argsort(-hint.mean(1) - hint.min(1))[:KEPT]
    quads, share = quads[kept], share[kept]
    hits, dark = _by_side(quads, gradient, SAMPLES)
    beyond, uneven = _beyond(quads, gradient), _uneven(quads, root)
    dark = np.minimum(dark, MOST_DARK)
    every, worst = hits.mean(1), hits.min(1)
    score = np.stack([every, worst, dark, beyond, np.sqrt(share), uneven], 1) @ WEIGHTS
    return np.asarray(quads[int(score.argmax())], float)


def _crossings(across: Points, down: Points) -> Points:
    """Where every line across meets every line down: AxDx2."""
    determinant = across[:, None, 0] * down[:, 1] - across[:, None, 1] * down[:, 0]
    determinant = np.where(np.abs(determinant) < 1e-9, 1e-9, determinant)
    x = (across[:, None, 2] * down[:, 1] - across[:, None, 1] * down[:, 2]) / determinant
    y = (across[:, None, 0] * down[:, 2] - across[:, None, 2] * down[:, 0]) / determinant
    return np.stack([x, y], -1)


def _ordered(grid: Points) -> NDArray[np.float64]:
    """Every quadrilateral of two lines across and two down, from AxDx2 crossings: Nx4x2."""
    across, down = (np.array(list(combinations(range(n), 2))) for n in grid.shape[:2])
    quads = grid[across[:, None, :, None], down[None, :, None, :]].reshape(-1, 2, 2, 2)
    upside_down = quads[:, 0, :, 1].sum(1) >= quads[:, 1, :, 1].sum(1)
    quads = np.where(upside_down[:, None, None, None], quads[:, ::-1], quads)
    mirrored = quads[:, :, 0, 0].sum(1) >= quads[:, :, 1, 0].sum(1)
    quads = np.where(mirrored[:, None, None, None], quads[:, :, ::-1], quads)
    return np.stack([quads[:, 0, 0], quads[:, 0, 1], quads[:, 1, 1], quads[:, 1, 0]], 1)


def _cross(a: Points, b: Points) -> NDArray[np.float64]:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])


def area(quads: Points) -> NDArray[np.float64]:
    """Of each of Nx4x2 corners: N."""
    diagonals = quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1]
    return np.asarray(0.5 * np.abs(_cross(*diagonals)))


def convex(quads: Points) -> NDArray[np.bool_]:
    """Whether each of Nx4x2 corners goes clockwise, and turns at all of them: N."""
    sides = np.roll(quads, -1, 1) - quads
    return np.asarray((_cross(sides, np.roll(sides, -1, 1)) > 0).all(1))


def _by_side(
    quads: Points, gradient: NDArray[np.float32], samples: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of Nx4x2 corners: how much of each side lies on an edge (Nx4), and of that the share that
    is darker inside (N)."""
    hit, sign = _hits(quads, np.linspace(0.03, 0.97, samples), gradient)
    return hit.mean(-1), (hit * sign).sum((1, 2)) / np.maximum(hit.sum((1, 2)), 1e-9)


def _uneven(quads: Points, root: NDArray[np.float32]) -> NDArray[Any]:
    """How the surroundings differ from side to side (N): deviation of the sides' medians."""
    height, width = root.shape
    side, normal = _sides(quads)
    t = np.linspace(0.05, 0.95, 16)
    places = quads[:, :, None] + t[:, None] * side[:, :, None] + OUTSIDE * normal[:, :, None]
    at = np.rint(places).astype(int)
    around = root[at[..., 1].clip(0, height - 1), at[..., 0].clip(0, width - 1)]
    return np.asarray(np.median(around, 2).std(1))


def _sides(quads: Points) -> tuple[Points, Points]:
    """Nx4x2 each: the sides, and their unit normals outward, as corners go clockwise."""
    side = np.roll(quads, -1, 1) - quads
    normal = np.stack([side[..., 1], -side[..., 0]], -1)
    return side, normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)


def _beyond(quads: Points, gradient: NDArray[np.float32]) -> Points:
    """How far the edges go on behind the corners (N): the sides of a film end there."""
    after = np.concatenate([np.linspace(-0.1, -0.025, 6), np.linspace(1.025, 1.1, 6)])
    return np.asarray(_hits(quads, after, gradient)[0].mean((1, 2)))


def _hits(
    quads: Points, t: NDArray[Any], gradient: NDArray[np.float32]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """At places t on the sides of Nx4x2 corners, Nx4xT each: how much of an edge lies there, in
    [0, 1], and whether it is darker inside."""
    height, width = gradient.shape[:2]
    whole = _edge(np.hypot(gradient[..., 0], gradient[..., 1]))
    side, normal = _sides(quads)
    places = quads[:, :, None] + t[:, None] * side[:, :, None]
    strongest = np.zeros(places.shape[:3])
    for shift in (-2, -1, 0, 1, 2):
        at = np.rint(places + shift * normal[:, :, None]).astype(int)
        seen = (at >= 0).all(-1) & (at[..., 0] < width) & (at[..., 1] < height)
        x, y = at[..., 0].clip(0, width - 1), at[..., 1].clip(0, height - 1)
        along = (gradient[y, x] * normal[:, :, None]).sum(-1) * seen
        strongest = np.where(np.abs(along) > np.abs(strongest), along, strongest)
    return np.clip(np.abs(strongest) / whole, 0, 1), strongest > 0


def _fitted(corners: Points, grey: NDArray[np.uint8]) -> Points:
    """The corners where the four edges, fitted to the picture, meet."""
    gradient = _gradient(_smooth(grey, 1.5))
    reach = max(4, round(0.012 * max(grey.shape)))
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
