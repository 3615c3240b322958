"""Simulated photographs of radiographs: a film on a light box, or a radiograph on a screen.

A radiograph is put into a scene (in linear light), seen by a tilted camera through a lens that
bends straight lines, with a lamp's reflection and a veil of stray light, fingers at the edge,
uneven light, and on a screen the moire of its pixels against the camera's. Then what a telephone
does: blur, noise, white balance, tone curve, JPEG. Where the film's corners went is known.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Light = NDArray[np.float32]
GRID = 8  # pixels


class Carrier(StrEnum):
    """What was photographed."""

    FILM = "light box"
    SCREEN = "screen"


@dataclass(frozen=True)
class Settings:
    """Ranges from which every photograph is drawn uniformly; shares are probabilities.

    side: longer side in pixels, as a messenger sends it. fill: share of the photograph's shorter
    way that the film takes. tilt, turn: degrees out of and in the plane. distance: of the camera,
    in widths of the film. distortion: radial k1, of half the diagonal. glare: strength of a
    reflection, of white. veil: stray light everywhere. uneven: how much darker the light gets.
    moire: amplitude. noise: standard deviation at mid grey. quality: of JPEG. exif: how often the
    file still names its exposure.
    """

    side: int = 1280
    fill: tuple[float, float] = (0.6, 0.92)
    tilt: tuple[float, float] = (0.0, 18.0)
    turn: tuple[float, float] = (-8.0, 8.0)
    distance: tuple[float, float] = (1.6, 3.0)
    distortion: tuple[float, float] = (-0.05, 0.05)
    glare: tuple[float, float] = (0.03, 0.3)
    glare_share: float = 0.6
    veil: tuple[float, float] = (0.0, 0.02)
    uneven: tuple[float, float] = (0.0, 0.35)
    fingers_share: float = 0.35
    neighbour_share: float = 0.2
    border_share: float = 0.4
    moire: tuple[float, float] = (0.01, 0.08)
    noise: tuple[float, float] = (0.004, 0.02)
    blur: tuple[float, float] = (0.4, 1.4)
    quality: tuple[int, int] = (70, 93)
    exif: float = 0.5


@dataclass(frozen=True)
class Photograph:
    """data: a JPEG file. corners: 4x2 (x, y) in pixels, clockwise from the top left of the
    radiograph. size: (height, width) of the picture."""

    data: bytes
    corners: NDArray[np.float64]
    size: tuple[int, int]
    carrier: Carrier


def photograph(
    grey: NDArray[np.uint8], carrier: Carrier, seed: int, settings: Settings = Settings()
) -> Photograph:
    """A photograph of a radiograph (HxW uint8, bright = dense); equal seeds give equal bytes."""
    rng = np.random.default_rng(seed)
    plane, inner = (_light_box if carrier is Carrier.FILM else _screen)(grey, rng, settings)
    size = _frame(grey, rng, settings)
    way = _way(inner, size, rng, settings)
    picture, corners = _seen(plane, inner, way, size, rng, settings)
    if carrier is Carrier.SCREEN:
        picture *= _moire(size, rng, settings)
    picture = _reflections(picture, rng, settings)
    if rng.random() < settings.fingers_share:
        picture = _fingers(picture, corners, carrier, rng)
    data = _encoded(_exposed(picture, rng, settings), rng, settings)
    return Photograph(data, corners, size, carrier)


def _light_box(
    grey: NDArray[np.uint8], rng: np.random.Generator, settings: Settings
) -> tuple[Light, NDArray[np.float64]]:
    """(plane in linear light HxWx3, corners of the film in it): white around a dark film."""
    film = _film(grey, rng, settings)
    height, width = film.shape
    gap = (rng.uniform(0.08, 0.6, 4) * max(height, width)).astype(int)
    frame = int(0.5 * max(height, width))
    total = (height + gap[0] + gap[2] + 2 * frame, width + gap[1] + gap[3] + 2 * frame)
    plane = np.full(total, rng.uniform(0.01, 0.12), np.float32)  # the room and the box's frame
    lit = np.s_[frame : total[0] - frame, frame : total[1] - frame]
    plane[lit] = 1.0
    top, left = frame + gap[0], frame + gap[3]
    if rng.random() < settings.neighbour_share:
        other = np.fliplr(film)
        away = int(rng.uniform(0.03, 0.15) * width)
        x = left + width + away
        there = plane[top : top + height, x : min(x + width, total[1] - frame)]
        there[:] = other[:, : there.shape[1]]
    plane[top : top + height, left : left + width] = film
    plane[lit] *= _uneven(plane[lit].shape, rng, settings)
    colour = np.array([rng.uniform(0.82, 1.0), 1.0, rng.uniform(0.98, 1.15)], np.float32)
    return plane[..., None] * colour, _box(left, top, width, height)


def _film(grey: NDArray[np.uint8], rng: np.random.Generator, settings: Settings) -> Light:
    """What a film lets through: as dense as it can be at black, never quite clear at white."""
    darkest, clearest = rng.uniform(0.002, 0.012), rng.uniform(0.55, 0.85)
    through = darkest + (clearest - darkest) * (grey / np.float32(255)) ** np.float32(2.2)
    if rng.random() < settings.border_share:
        edge = max(2, int(rng.uniform(0.004, 0.015) * max(grey.shape)))
        for side in (np.s_[:edge], np.s_[-edge:], np.s_[:, :edge], np.s_[:, -edge:]):
            through[side] = darkest
    return through.astype(np.float32)


def _screen(
    grey: NDArray[np.uint8], rng: np.random.Generator, settings: Settings
) -> tuple[Light, NDArray[np.float64]]:
    """(plane, corners): a viewer's window on a monitor, its tools above and beside it."""
    height, width = grey.shape
    black = rng.uniform(0.001, 0.006)  # a screen's black glows
    shown = black + 0.9 * (grey / np.float32(255)) ** np.float32(2.2)
    gap = (rng.uniform(0.03, 0.35, 4) * max(height, width)).astype(int)
    bezel, room = int(0.05 * max(height, width)), int(0.5 * max(height, width))
    out = bezel + room
    total = (height + gap[0] + gap[2] + 2 * out, width + gap[1] + gap[3] + 2 * out)
    plane = np.full(total, rng.uniform(0.01, 0.15), np.float32)
    plane[room:-room, room:-room] = rng.uniform(0.001, 0.02)
    page = rng.uniform(0.02, 0.2)
    plane[out:-out, out:-out] = page
    top, left = out + gap[0], out + gap[3]
    _tools(plane, (out, top, left, total[1] - out), page, rng)
    plane[top : top + height, left : left + width] = shown
    colour = np.array([rng.uniform(0.85, 1.0), 1.0, rng.uniform(1.0, 1.2)], np.float32)
    plane *= _uneven(total, rng, settings) ** np.float32(0.5)
    return plane[..., None] * colour, _box(left, top, width, height)


def _tools(
    plane: Light, place: tuple[int, int, int, int], page: float, rng: np.random.Generator
) -> None:
    """Buttons and words of a viewer, above the picture and at its left."""
    out, top, left, right = place
    drawn = np.zeros(plane.shape, np.uint8)
    tall = max(4, (top - out) // 3)
    for x in range(out + tall, right - 2 * tall, int(rng.uniform(2.0, 4.0) * tall)):
        cv2.rectangle(drawn, (x, out + tall), (x + tall, out + 2 * tall), 255, -1)
    for y in range(top, plane.shape[0] - out - 20, 22):
        if left - out > 60 and rng.random() < 0.7:
            word = "x" * int(rng.integers(2, max(3, (left - out) // 12)))
            cv2.putText(drawn, word, (out + 6, y + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1)
    plane[drawn > 127] = page + rng.uniform(0.1, 0.5)


def _uneven(shape: tuple[int, ...], rng: np.random.Generator, settings: Settings) -> Light:
    """Brightness over a plane: a slope and a fall towards the edges; 1 at the brightest."""
    height, width = shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    fall, slope = rng.uniform(*settings.uneven, 2)
    turn = rng.uniform(0, 2 * np.pi)
    light = 1 - 0.5 * fall * (x * x + y * y) - 0.5 * slope * (np.cos(turn) * x + np.sin(turn) * y)
    return np.asarray(light / light.max(), np.float32).clip(0.2, 1)


def _box(left: int, top: int, width: int, height: int) -> NDArray[np.float64]:
    x, y = left - 0.5, top - 0.5  # corners lie between pixels
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], float)


def _frame(
    grey: NDArray[np.uint8], rng: np.random.Generator, settings: Settings
) -> tuple[int, int]:
    """(height, width) of the photograph: 4:3 or 16:9, mostly held the way the film is."""
    short = round(settings.side * rng.choice([0.75, 0.5625]))
    upright = (grey.shape[0] >= grey.shape[1]) != (rng.random() < 0.15)
    return (settings.side, short) if upright else (short, settings.side)


def _way(
    inner: NDArray[np.float64],
    size: tuple[int, int],
    rng: np.random.Generator,
    settings: Settings,
) -> NDArray[np.float64]:
    """The homography from the plane to the photograph of a tilted camera."""
    middle, extent = inner.mean(0), float(np.ptp(inner, 0).max())
    lean, heading = np.deg2rad(rng.uniform(*settings.tilt)), rng.uniform(0, 2 * np.pi)
    axis = np.array([np.cos(heading), np.sin(heading), 0.0])
    rotation = cv2.Rodrigues(lean * axis)[0]
    turn = np.deg2rad(rng.uniform(*settings.turn))
    in_plane = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    away = rng.uniform(*settings.distance) * extent
    view = rotation @ in_plane
    centred = np.array([[1, 0, -middle[0]], [0, 1, -middle[1]], [0, 0, 1.0]])
    pose = np.column_stack([view[:, 0], view[:, 1], [0, 0, away]])
    seen = _through(pose @ centred, inner)
    reach = np.ptp(seen, 0)
    scale = rng.uniform(*settings.fill) * min(size[1] / reach[0], size[0] / reach[1])
    room = np.array([size[1], size[0]]) - scale * reach
    corner = rng.uniform(0.25, 0.75, 2) * room
    shift = corner - scale * seen.min(0)
    fitted = np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1.0]])
    return np.asarray(fitted @ pose @ centred)


def _through(way: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nx2 points through a homography."""
    out = np.column_stack([points, np.ones(len(points))]) @ way.T
    return np.asarray(out[:, :2] / out[:, 2:])


def _seen(
    plane: Light,
    inner: NDArray[np.float64],
    way: NDArray[np.float64],
    size: tuple[int, int],
    rng: np.random.Generator,
    settings: Settings,
) -> tuple[Light, NDArray[np.float64]]:
    """(the plane through camera and lens, HxWx3; where the corners went)."""
    height, width = size
    k1 = rng.uniform(*settings.distortion)
    middle = np.array([width / 2, height / 2])
    radius = np.hypot(*middle)
    rows, columns = height // GRID + 2, width // GRID + 2  # smooth, so that a grid will do
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float64) * GRID
    flat = np.stack([x.ravel(), y.ravel()], 1)
    away = (flat - middle) / radius
    straight = middle + radius * away * (1 + k1 * (away**2).sum(1, keepdims=True))
    back = np.asarray(np.linalg.inv(way), np.float64)
    source = _through(back, straight).astype(np.float32)
    grid_y, grid_x = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(GRID)
    map_x, map_y = (
        cv2.remap(np.ascontiguousarray(s.reshape(rows, columns)), grid_x, grid_y, cv2.INTER_LINEAR)
        for s in source.T
    )
    edge = [float(v) for v in plane[0, 0]]
    picture = cv2.remap(
        plane, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=edge
    )
    ideal = (_through(way, inner) - middle) / radius
    bent = ideal.copy()
    for _ in range(20):  # the inverse of the distortion, by iteration
        bent = ideal / (1 + k1 * (bent**2).sum(1, keepdims=True))
    return np.asarray(picture, np.float32), middle + radius * bent


def _soft(light: Light, sigma: float) -> Light:
    return np.asarray(cv2.GaussianBlur(light, (0, 0), sigma), np.float32)


def _moire(size: tuple[int, int], rng: np.random.Generator, settings: Settings) -> Light:
    """Bands of the screen's pixels against the camera's, HxWx3 around 1; bent as the view is."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    out = np.ones((*size, 3), np.float32)
    for _ in range(2):
        wave, turn = rng.uniform(4, 40), rng.uniform(0, np.pi)
        along = np.cos(turn) * x + np.sin(turn) * y
        bend = rng.uniform(-0.15, 0.15) * along * along / max(size)
        for channel in range(3):
            phase = 2 * np.pi * ((along + bend) / wave + channel * rng.uniform(0.1, 0.4))
            out[..., channel] += rng.uniform(*settings.moire) * np.sin(phase)
    return out


def _reflections(picture: Light, rng: np.random.Generator, settings: Settings) -> Light:
    """With a veil everywhere and perhaps a lamp or a window in the glass."""
    out = picture + np.float32(rng.uniform(*settings.veil))
    if rng.random() < settings.glare_share:
        height, width = picture.shape[:2]
        spot = np.zeros((height, width), np.float32)
        middle = (int(rng.uniform(0.1, 0.9) * width), int(rng.uniform(0.1, 0.9) * height))
        axes = tuple(int(v) for v in rng.uniform(0.03, 0.14, 2) * max(height, width))
        cv2.ellipse(spot, middle, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
        spot = _soft(spot, rng.uniform(0.01, 0.05) * max(height, width))
        out += np.float32(rng.uniform(*settings.glare)) * spot[..., None]
    return np.asarray(out, np.float32)


def _fingers(
    picture: Light, corners: NDArray[np.float64], carrier: Carrier, rng: np.random.Generator
) -> Light:
    """One to three fingertips over a side of the film; against a light box they are dark."""
    k = int(rng.integers(4))
    start, end = corners[k], corners[(k + 1) % 4]
    along = (end - start) / np.linalg.norm(end - start)
    outward = np.array([along[1], -along[0]])
    size = float(np.linalg.norm(end - start))
    mask = np.zeros(picture.shape[:2], np.float32)
    thick = int(rng.uniform(0.05, 0.08) * size)
    place = rng.uniform(0.1, 0.7)
    for n in range(int(rng.integers(1, 4))):
        tip = start + (place + 0.1 * n) * (end - start) - rng.uniform(0.01, 0.06) * size * outward
        root = tip + 0.8 * size * outward + rng.uniform(-0.15, 0.15) * size * along
        points = [tuple(int(v) for v in p) for p in (tip, root)]
        cv2.line(mask, points[0], points[1], 1.0, thick, cv2.LINE_AA)
    mask = _soft(mask, 2.0)[..., None]
    lit = rng.uniform(0.05, 0.25) if carrier is Carrier.FILM else rng.uniform(0.03, 0.2)
    skin = np.array([1.0, 0.62, 0.48], np.float32) * np.float32(lit)
    return np.asarray(picture * (1 - mask) + skin * mask, np.float32)


def _exposed(picture: Light, rng: np.random.Generator, settings: Settings) -> NDArray[np.uint8]:
    """Linear light to an 8-bit sRGB picture, as a telephone develops it."""
    picture = _soft(picture, rng.uniform(*settings.blur))
    picture = picture * np.float32(rng.uniform(0.85, 1.1) / np.percentile(picture[::8, ::8], 99))
    balance = rng.uniform(0.92, 1.08, 3).astype(np.float32)
    picture = (picture * balance).clip(0, 1)
    noise = rng.uniform(*settings.noise)
    drawn = rng.standard_normal(picture.shape, dtype=np.float32)
    picture = picture + drawn * np.float32(noise) * np.sqrt(picture * 0.5 + 0.02)
    shown = picture.clip(0, 1) ** np.float32(1 / 2.2)
    contrast = np.float32(rng.uniform(0.0, 0.25))
    curved = shown + contrast * (shown * shown * (3 - 2 * shown) - shown)
    return np.rint(255 * curved.clip(0, 1)).astype(np.uint8)


def _encoded(picture: NDArray[np.uint8], rng: np.random.Generator, settings: Settings) -> bytes:
    """A JPEG file, with the exposure in its header unless a messenger took it out."""
    image = Image.fromarray(picture)
    options: dict[str, Any] = {"quality": int(rng.integers(*settings.quality))}
    if rng.random() < settings.exif:
        exif = Image.Exif()
        exif[0x010F] = "Simulated"
        exif.get_ifd(0x8769)[0x829A] = 0.01  # exposure time, seconds
        options["exif"] = exif
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()
