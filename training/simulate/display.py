"""From measured line integrals to a picture: window, edge enhancement, borders, markers."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.simulate.physics import Image, wide_blur


@dataclass(frozen=True)
class Look:
    """How the measured picture is shown.

    low, high: share (per cent) of the pixels in the field that become black and white.
    compress: share of the large-scale contrast that is kept. boost: of the fine contrast.
    gamma: of the display. floor, ceiling: darkest and brightest grey of the export, in [0, 1].
    """

    low: float
    high: float
    compress: float
    boost: float
    gamma: float
    floor: float
    ceiling: float


def draw_look(rng: np.random.Generator) -> Look:
    """Mostly well processed, sometimes flat, dark or burnt out."""
    dull = rng.random() < 0.25
    return Look(
        low=float(rng.uniform(0.5, 4.0)),
        high=float(rng.uniform(99.2, 99.9)),
        compress=float(rng.uniform(0.55, 1.0)),
        boost=float(rng.uniform(1.0, 2.0)),
        gamma=float(rng.uniform(0.8, 1.35)),
        floor=float(rng.uniform(0.0, 0.22) if rng.random() < 0.4 else rng.uniform(0.0, 0.04)),
        ceiling=float(rng.uniform(0.35, 0.8) if dull else rng.uniform(0.85, 1.0)),
    )


def develop(measured: Image, field: Image, metal: Image, look: Look) -> Image:
    """Measured line integrals (HxW) -> grey values in [0, 1], bright where dense.

    field: share of the beam that reaches each pixel (HxW in [0, 1]). metal: its line integrals;
    what they cover does not set the window.
    """
    size = max(measured.shape)
    coarse = wide_blur(measured, 0.06 * size)
    fine = measured - cv2.GaussianBlur(measured, (0, 0), 0.006 * size)
    shown = look.compress * coarse + (measured - coarse) + (look.boost - 1.0) * fine
    seen = shown[(field > 0.9) & (metal < 0.2)][::7]
    low, high = np.percentile(seen, (look.low, look.high))
    grey = np.clip((shown - low) / max(float(high - low), 1e-3), 0.0, 1.0) ** look.gamma
    shown = look.floor + (look.ceiling - look.floor) * grey
    return np.asarray(shown, np.float32)


def collimator(size: tuple[int, int], rng: np.random.Generator) -> Image:
    """Share of the beam that reaches each pixel (HxW in [0, 1]) through a soft-edged window."""
    height, width = size
    field = np.ones(size, np.float32)
    angle = np.radians(rng.normal(0.0, 4.0))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x - width / 2.0, y - height / 2.0
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    soft = rng.uniform(0.6, 2.5)
    for axis, extent in ((u, width), (-u, width), (v, height), (-v, height)):
        if rng.random() < 0.75:
            edge = extent * rng.uniform(0.40, 0.49)
            field *= np.clip(0.5 + (edge - axis) / (2.0 * soft), 0.0, 1.0)
    return field


def show_borders(grey: Image, field: Image, rng: np.random.Generator) -> Image:
    """What lies outside the collimator: black, dark grey, or (unprocessed) white."""
    kind = rng.random()
    outside = 0.0 if kind < 0.6 else float(rng.uniform(0.03, 0.2)) if kind < 0.94 else 0.95
    return grey * field + outside * (1.0 - field)


def plate_edge(grey: Image, rng: np.random.Generator) -> Image:
    """A bright band where the detector or the film ends, on one or two sides."""
    height, width = grey.shape
    out = grey.copy()
    for side in rng.choice(4, int(rng.integers(1, 3)), replace=False):
        depth = rng.uniform(0.008, 0.05) * height
        across = np.arange(width if side < 2 else height, dtype=np.float32)
        wave = depth + 1.5 * np.sin(across * 0.05 + rng.uniform(0.0, 6.0)) + rng.normal(
            0.0, 0.5, len(across))  # fmt: skip
        inwards = np.arange(height if side < 2 else width, dtype=np.float32)
        band = np.clip(wave[None, :] - inwards[:, None], 0.0, 1.0)
        band = band if side < 2 else band.T
        band = band[::-1] if side == 1 else band[:, ::-1] if side == 3 else band
        out = out * (1.0 - band) + float(rng.uniform(0.85, 1.0)) * band
    return out


def marker(grey: Image, side: str, body: Image, field: Image, rng: np.random.Generator) -> Image:
    """A lead letter L or R, in the emptiest corner of the field (new HxW picture)."""
    size = max(grey.shape)
    letter = max(12, int(size * rng.uniform(0.035, 0.065)))
    stamp = draw_stamp(side, letter, rng)
    h, w = stamp.shape
    best, place = np.inf, (0, 0)
    for _ in range(24):
        top = int(rng.integers(2, max(3, grey.shape[0] - h - 2)))
        left = int(rng.integers(2, max(3, grey.shape[1] - w - 2)))
        window = np.s_[top : top + h, left : left + w]
        cost = float((body[window] > 2.0).mean() + 3.0 * (field[window] < 0.9).mean())
        cost += 0.25 * rng.random()
        if cost < best:
            best, place = cost, (top, left)
    out = grey.copy()
    window = np.s_[place[0] : place[0] + h, place[1] : place[1] + w]
    shape = out[window].shape
    ink = stamp[: shape[0], : shape[1]]
    bright = max(float(grey.max()), 0.5)
    out[window] = out[window] * (1.0 - ink) + bright * ink
    return out


def draw_stamp(side: str, letter: int, rng: np.random.Generator) -> Image:
    """The marker as a picture (hxw in [0, 1]): a letter, maybe initials, a disc or a frame."""
    scale = 4
    box = letter * scale * 2
    canvas = np.zeros((box, box), np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX if rng.random() < 0.6 else cv2.FONT_HERSHEY_DUPLEX
    thick = max(2, int(letter * scale * rng.uniform(0.10, 0.2)))
    (tw, th), _ = cv2.getTextSize(side, font, 1.0, 1)
    fs = letter * scale / th
    origin = (int(box / 2 - tw * fs / 2), int(box / 2 + letter * scale / 2))
    cv2.putText(canvas, side, origin, font, fs, 255, thick, cv2.LINE_AA)
    kind = rng.random()
    if kind < 0.2:
        cv2.circle(canvas, (box // 2, box // 2), int(box * 0.44), 255, thick // 2, cv2.LINE_AA)
    elif kind < 0.4:
        corner = int(box * 0.1)
        cv2.rectangle(canvas, (corner, corner), (box - corner, box - corner), 255, thick // 2)
    elif kind < 0.7:
        initials = "".join(chr(65 + int(k)) for k in rng.integers(0, 26, 2))
        small = fs * 0.42
        cv2.putText(canvas, initials, (origin[0], int(box * 0.95)), font, small, 255,
                    max(1, thick // 2), cv2.LINE_AA)  # fmt: skip
    angle = float(rng.choice([0, 0, 0, 90, 180, 270]) + rng.normal(0.0, 8.0))
    turn = cv2.getRotationMatrix2D((box / 2, box / 2), angle, 1.0)
    turned = cv2.warpAffine(canvas, turn, (box, box), flags=cv2.INTER_LINEAR)
    stamp = cv2.resize(turned, (letter * 2, letter * 2), interpolation=cv2.INTER_AREA)
    return stamp.astype(np.float32) / 255.0 * np.float32(rng.uniform(0.75, 1.0))


def stamp_simulated(grey: Image) -> Image:
    """The word SIMULATED on a black label in the lower left corner (new HxW picture)."""
    scale = max(0.4, 0.5 * max(grey.shape) / 512.0)
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, height), below = cv2.getTextSize("SIMULATED", font, scale, 1)
    label = np.zeros((height + below + 6, width + 10), np.uint8)
    cv2.putText(label, "SIMULATED", (5, height + 3), font, scale, 235, 1, cv2.LINE_AA)
    out = grey.copy()
    h, w = min(label.shape[0], out.shape[0]), min(label.shape[1], out.shape[1])
    out[out.shape[0] - h :, :w] = label[:h, :w].astype(np.float32) / 255.0
    return out
