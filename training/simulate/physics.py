"""From geometry to grey values: projection, attenuation, scatter, noise, detector.

The path length of a ray through a closed surface is the sum, over the triangles it meets, of
plus or minus the depth at which it meets them. That holds for any closed surface, also one that
cuts itself, so bone fragments and marrow spaces need no boolean operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Points = NDArray[np.float64]

# Linear attenuation at about 50 keV, per mm.
MU_MUSCLE = 0.0222
MU_FAT = 0.0180
MU_SKIN = 0.0235
MU_LUNG = 0.0055
MU_CORTEX = 0.076
MU_TRABECULAR = 0.034
MU_MARROW = 0.0205
MU_METAL = {"titanium": 0.42, "steel": 1.1}
MU_CAST = {"plaster": 0.046, "fibreglass": 0.021}

SKIN_MM = 1.5
STEP_MM = 2.0
# Flesh is smooth: it is computed on about this many points along the longer side.
SOFT_GRID = 180
SUBPIXEL = 256


@dataclass(frozen=True)
class Camera:
    """A point source over a flat detector.

    axes: 3x3, rows are the picture's right, the picture's down, and the beam's direction.
    target: world point (3,) in mm that lies ``object_distance`` behind the source on the beam.
    source_distance: source to detector, mm. pitch: mm per pixel on the detector.
    size: (height, width) in pixels. centre: pixel (x, y) at which the beam meets the detector.
    """

    axes: Points
    target: Points
    object_distance: float
    source_distance: float
    pitch: float
    size: tuple[int, int]
    centre: tuple[float, float]

    def project(self, world: Points) -> Points:
        """World points (Nx3 mm) -> Nx3: pixel x, pixel y, depth behind the source in mm."""
        local = (world - self.target) @ self.axes.T
        depth = local[:, 2] + self.object_distance
        scale = self.source_distance / (depth * self.pitch)
        return np.stack(
            [
                local[:, 0] * scale + self.centre[0],
                local[:, 1] * scale + self.centre[1],
                depth,
            ],
            axis=1,
        )

    def scale(self) -> float:
        """Pixels per mm in the plane of the target."""
        return self.source_distance / (self.object_distance * self.pitch)


@numba.njit(cache=True)
def _add_triangles(  # type: ignore[no-untyped-def]
    x, y, z, faces, thickness, left, top
):
    """Add +-z of each triangle to the pixels (centres) it covers; x, y in 1/256 pixel, int64.

    Integer edge functions and the top-left rule give each pixel on a shared edge to exactly one
    of the two triangles, so a closed surface leaves no cracks.
    """
    height, width = thickness.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        area = (x[b] - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (y[b] - y[a])
        if area == 0:
            continue
        sign = 1.0
        if area < 0:
            b, c = c, b
            area = -area
            sign = -1.0
        y0 = max((min(y[a], y[b], y[c]) - 128) // 256, top)
        y1 = min((max(y[a], y[b], y[c]) + 128) // 256, top + height - 1)
        x0 = max((min(x[a], x[b], x[c]) - 128) // 256, left)
        x1 = min((max(x[a], x[b], x[c]) + 128) // 256, left + width - 1)
        if y1 < y0 or x1 < x0:
            continue
        bias_a = 0 if (y[c] == y[b] and x[c] > x[b]) or y[c] < y[b] else -1
        bias_b = 0 if (y[a] == y[c] and x[a] > x[c]) or y[a] < y[c] else -1
        bias_c = 0 if (y[b] == y[a] and x[b] > x[a]) or y[b] < y[a] else -1
        for py in range(y0, y1 + 1):
            cy = py * 256 + 128
            for px in range(x0, x1 + 1):
                cx = px * 256 + 128
                wa = (x[c] - x[b]) * (cy - y[b]) - (y[c] - y[b]) * (cx - x[b])
                wb = (x[a] - x[c]) * (cy - y[c]) - (y[a] - y[c]) * (cx - x[c])
                wc = (x[b] - x[a]) * (cy - y[a]) - (y[b] - y[a]) * (cx - x[a])
                if wa + bias_a >= 0 and wb + bias_b >= 0 and wc + bias_c >= 0:
                    depth = (wa * z[a] + wb * z[b] + wc * z[c]) / area
                    thickness[py - top, px - left] += sign * depth


@dataclass(frozen=True)
class Patch:
    """A rectangle of the picture: values (hxw float32) with their top left pixel."""

    values: Image
    top: int
    left: int

    def add_to(self, picture: Image, weight: float = 1.0) -> None:
        """Add the values to the HxW picture, in place."""
        h, w = self.values.shape
        picture[self.top : self.top + h, self.left : self.left + w] += weight * self.values


def window_of(projected: Points, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, left, height and width of the pixels that projected points may cover."""
    low = np.floor(projected[:, :2].min(axis=0)).astype(int) - 1
    high = np.ceil(projected[:, :2].max(axis=0)).astype(int) + 2
    left, top = np.maximum(low, 0)
    width = max(0, min(int(high[0]), size[1]) - int(left))
    height = max(0, min(int(high[1]), size[0]) - int(top))
    return int(top), int(left), height, width


def path_length(
    projected: Points,
    faces: NDArray[np.int64],
    size: tuple[int, int],
    window: tuple[int, int, int, int] | None = None,
) -> Patch:
    """Path length (mm) through a closed surface, projected vertices Nx3 and faces Fx3.

    Surfaces seen from outside are counter-clockwise in the world. window: top, left, height and
    width of the pixels wanted, where not all.
    """
    top, left, height, width = window or window_of(projected, size)
    thickness = np.zeros((height, width))
    if height and width:
        x, y = np.rint(projected[:, :2].T * SUBPIXEL).astype(np.int64)
        # Depth relative to the middle keeps the sum exact where a surface is not quite closed.
        z = projected[:, 2] - projected[:, 2].mean()
        _add_triangles(x, y, z, faces, thickness, left, top)
    return Patch(np.maximum(thickness, 0.0).astype(np.float32), top, left)


@numba.njit(cache=True)
def _near_cones(cones, dx, dy, blend, near):  # type: ignore[no-untyped-def]
    """Which cones the ray (dx, dy, 1) * depth may touch; their count and range of depth."""
    norm = np.sqrt(dx * dx + dy * dy + 1.0)
    found, z0, z1 = 0, 1e9, -1e9
    for k in range(cones.shape[0]):
        az, bz = cones[k, 2], cones[k, 5]
        ux, uy = cones[k, 0] - dx * az, cones[k, 1] - dy * az
        ex, ey = cones[k, 3] - dx * bz - ux, cones[k, 4] - dy * bz - uy
        t = min(max(-(ux * ex + uy * ey) / max(ex * ex + ey * ey, 1e-9), 0.0), 1.0)
        qx, qy = ux + t * ex, uy + t * ey
        reach = (max(cones[k, 6], cones[k, 7]) + blend) * norm
        if qx * qx + qy * qy < reach * reach:
            near[found] = k
            found += 1
            z0 = min(z0, min(az, bz) - reach)
            z1 = max(z1, max(az, bz) + reach)
    return found, z0, z1, norm


@numba.njit(cache=True)
def _depth_inside(cones, near, found, px, py, pz, blend):  # type: ignore[no-untyped-def]
    """Signed distance to the smooth union of cones at a point, and the fat's thickness there."""
    total, fat, nearest = 0.0, 0.0, 1e9
    for j in range(found):
        k = near[j]
        ax, ay, az = cones[k, 0], cones[k, 1], cones[k, 2]
        ex, ey, ez = cones[k, 3] - ax, cones[k, 4] - ay, cones[k, 5] - az
        qx, qy, qz = px - ax, py - ay, pz - az
        t = (qx * ex + qy * ey + qz * ez) / max(ex * ex + ey * ey + ez * ez, 1e-9)
        t = min(max(t, 0.0), 1.0)
        rx, ry, rz = qx - t * ex, qy - t * ey, qz - t * ez
        radius = cones[k, 6] + t * (cones[k, 7] - cones[k, 6])
        distance = np.sqrt(rx * rx + ry * ry + rz * rz) - radius
        nearest = min(nearest, distance)
        if distance > 1.5 * blend:
            continue
        weight = np.exp(min(-distance * 4.0 / blend, 60.0))
        # Where a chain of cones goes on, neighbours share the weight instead of doubling it.
        if cones[k, 9] > 0.0 or cones[k, 10] > 0.0:
            length = np.sqrt(ex * ex + ey * ey + ez * ez)
            s = (qx * ex + qy * ey + qz * ez) / max(length, 1e-9)
            if cones[k, 9] > 0.0:
                weight /= 1.0 + np.exp(min(-s / (0.15 * radius), 40.0))
            if cones[k, 10] > 0.0:
                weight /= 1.0 + np.exp(min((s - length) / (0.15 * radius), 40.0))
        total += weight
        fat += weight * cones[k, 8]
    if total < 1e-2:
        return nearest, 0.0
    return -np.log(total) * blend / 4.0, fat / total


@numba.njit(cache=True)
def _soft_lengths(cones, blend, spacing, focal, centre, out):  # type: ignore[no-untyped-def]
    """Lengths inside the outline, under the skin and under the fat, at every spacing-th pixel.

    cones: Kx11 (start xyz, end xyz, two radii, fat, whether a chain goes on at either end) in
        camera coordinates (mm behind the source).
    out: hxwx3.
    """
    near = np.empty(cones.shape[0], np.int64)
    for row in range(out.shape[0]):
        dy = (row * spacing + 0.5 * spacing - centre[1]) * focal
        for col in range(out.shape[1]):
            dx = (col * spacing + 0.5 * spacing - centre[0]) * focal
            found, z0, z1, norm = _near_cones(cones, dx, dy, blend, near)
            if found == 0:
                continue
            steps = min(max(int((z1 - z0) / (STEP_MM + 0.01 * (z1 - z0))), 6), 80)
            step = (z1 - z0) / steps
            i = 0
            while i < steps:
                z = z0 + (i + 0.5) * step
                distance, fat = _depth_inside(cones, near, found, dx * z, dy * z, z, blend)
                # Far from the surface, the steps up to it are all alike.
                away = distance if distance > 0 else -distance - fat
                same = min(max(int((away - blend) / (step * norm)), 1), steps - i)
                i += same
                if distance < step:
                    length = same * step * norm
                    out[row, col, 0] += length * min(max(0.5 - distance / step, 0.0), 1.0)
                    skin = distance + SKIN_MM
                    out[row, col, 1] += length * min(max(0.5 - skin / step, 0.0), 1.0)
                    flesh = distance + fat
                    out[row, col, 2] += length * min(max(0.5 - flesh / step, 0.0), 1.0)


def soft_tissue(cones: Points, camera: Camera, blend: float) -> Image:
    """Path lengths (HxWx3 mm) inside the body's outline, under its skin and under its fat.

    cones: Kx11 world coordinates: start, end, radius at each, thickness of the fat (mm), and
        whether the chain goes on at either end.
    blend: mm over which neighbouring cones melt into each other.
    """
    local = cones.copy()
    for at in (0, 3):
        local[:, at : at + 3] = (cones[:, at : at + 3] - camera.target) @ camera.axes.T
        local[:, at + 2] += camera.object_distance
    height, width = camera.size
    spacing = max(1, round(max(height, width) / SOFT_GRID))
    rows, cols = -(-height // spacing), -(-width // spacing)
    out = np.zeros((rows, cols, 3))
    focal = camera.pitch / camera.source_distance
    _soft_lengths(local, blend, spacing, focal, camera.centre, out)
    fine = cv2.resize(
        out.astype(np.float32), (cols * spacing, rows * spacing), interpolation=cv2.INTER_CUBIC
    )
    return np.maximum(fine[:height, :width], 0.0)


@dataclass(frozen=True)
class Exposure:
    """How the picture is taken.

    photons: detected quanta per pixel behind the middle of the body. blur: detector, sigma in
    pixels. scatter: scattered to primary radiation behind the thickest part.
    """

    photons: float
    blur: float
    scatter: float


def wide_blur(picture: Image, sigma: float) -> Image:
    """Gaussian blur by many pixels, computed on a coarser grid (HxW)."""
    step = max(1, int(sigma / 4.0))
    height, width = picture.shape
    coarse = (-(-width // step), -(-height // step))
    small = cv2.resize(picture, coarse, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / step)
    wide = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(wide, np.float32)


def expose(attenuation: Image, exposure: Exposure, rng: np.random.Generator) -> Image:
    """Line integrals (HxW) -> measured line integrals with scatter, blur and noise (HxW)."""
    primary = np.exp(-attenuation)
    wide = wide_blur(primary, 0.07 * max(primary.shape))
    shadow = 1.0 - wide_blur(primary, 0.05 * max(primary.shape))
    signal = primary + exposure.scatter * wide * shadow
    signal = cv2.GaussianBlur(signal, (0, 0), exposure.blur)
    white = rng.standard_normal(signal.shape, dtype=np.float32)
    # Part of the blur comes before the quanta are counted, part (the screen) after.
    noise = np.asarray(cv2.GaussianBlur(white, (0, 0), 0.45 + 0.3 * exposure.blur), np.float32)
    noise /= max(float(noise.std()), 1e-6)
    # The timer ends the exposure when the body's shadow has received its dose.
    body = signal[signal < 0.8]
    dose = exposure.photons / max(float(np.median(body)) if body.size else 1.0, 1e-4)
    counted = signal + noise * np.sqrt(np.maximum(signal, 1e-5) / dose)
    return np.asarray(-np.log(np.maximum(counted, 2e-4)), np.float32)
