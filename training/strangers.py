"""What is no radiograph at all: blank pictures, noise, documents, charts, photographs.

Stage 1 learns them as one more kind of ``other``, and ``python -m training strangers`` counts how
many of fresh ones a release refuses. They are drawn from a seed; the photographs are random crops
of the few that come with scikit-learn and matplotlib (training) and with scikit-image (measuring):
no photograph is in both. Three photographs do not show what photographs are like, so half of those
to train on are dead leaves, whose statistics are those of natural pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.cascade import Cascade
from core.transforms import Preprocessing, to_canvas
from core.types import STRANGER, Radiograph
from training import metrics
from training.sources import DataInvalid

KIND = STRANGER
Grey = NDArray[np.uint8]

_WORDS = [
    "patient",
    "report",
    "finding",
    "history",
    "date",
    "left",
    "right",
    "view",
    "name",
    "department",
    "summary",
    "invoice",
    "total",
    "page",
    "section",
    "table",
    "figure",
    "result",
    "normal",
    "request",
    "doctor",
    "ward",
    "room",
    "phone",
    "address",
    "number",
]
_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
)
# scikit-image's photographs and close-ups, without its drawings, medical pictures and texts
_HELD_OUT = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "grass.png",
    "gravel.png", "motorcycle_left.png", "rocket.jpg", "clock_motion.png", "coins.png",
)  # fmt: skip


def blank(rng: np.random.Generator) -> Grey:
    """One grey value, or a slope of them, with at most a little noise."""
    height, width = _size(rng)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    slope = rng.uniform(-80, 80, 2) * (rng.random() < 0.6)
    grey = rng.uniform(0, 255) + slope[0] * y + slope[1] * x
    return _bytes(grey + rng.normal(0, rng.choice([0.0, 1.0, 4.0]), grey.shape))


def noise(rng: np.random.Generator) -> Grey:
    """White, salt and pepper, or clouds: noise of one or several sizes added up."""
    height, width = _size(rng)
    kind = rng.integers(3)
    if kind == 0:
        return _bytes(rng.normal(128, rng.uniform(15, 90), (height, width)))
    if kind == 1:
        return _bytes(255 * (rng.random((height, width)) < rng.uniform(0.02, 0.6)))
    clouds = np.zeros((height, width))
    fall = rng.uniform(0.4, 1.1)
    for octave in range(int(rng.integers(2, 8))):
        side = 2 ** (octave + 1)
        coarse = rng.normal(0, side**-fall, (side, side)).astype(np.float32)
        clouds += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return _bytes(255 * (clouds - clouds.min()) / max(float(np.ptp(clouds)), 1e-9))


def document(rng: np.random.Generator) -> Grey:
    """Lines of words, perhaps a heading, rules and a logo, on light or dark paper."""
    height, width = _size(rng)
    page = np.full((height, width), int(rng.uniform(215, 255)), np.uint8)
    ink, font = rng.uniform(0, 90), int(rng.choice(_FONTS))
    scale, margin = rng.uniform(0.3, 0.9), int(rng.uniform(0.02, 0.15) * width)
    step, y = int(38 * scale * rng.uniform(0.8, 1.3)), int(0.08 * height)
    if rng.random() < 0.5:
        cv2.rectangle(page, (margin, 5), (margin + 60, 5 + int(0.05 * height)), ink, -1)
    while y < height - step:
        if rng.random() < 0.9:
            words = " ".join(rng.choice(_WORDS, int(rng.integers(1, 12))))
            cv2.putText(page, words, (margin, y), font, scale, ink, 1, cv2.LINE_AA)
        elif rng.random() < 0.5:
            cv2.line(page, (margin, y), (width - margin, y), ink, 1)
        y += step
    return _finish(page, rng)


def chart(rng: np.random.Generator) -> Grey:
    """Axes with lines, bars, points or slices, ticks and a legend, on light or dark ground."""
    height, width = _size(rng)
    page = np.full((height, width), 255, np.uint8)
    left, bottom, top, right = (int(v) for v in rng.uniform(0.06, 0.18, 4) * min(height, width))
    box = (left, top, width - right, height - bottom)
    kind = rng.integers(4)
    if kind == 3:
        _slices(page, rng)
    else:
        _ticks(page, box, rng)
        (_lines, _bars, _points)[kind](page, box, rng)
    if rng.random() < 0.6:
        title = " ".join(rng.choice(_WORDS, int(rng.integers(1, 5))))
        cv2.putText(page, title, (left, top - 5), int(rng.choice(_FONTS)), 0.5, 20, 1, cv2.LINE_AA)
    return _finish(page, rng)


def leaves(rng: np.random.Generator) -> Grey:
    """Textured shapes that hide each other, few of them large and many small.

    The dead leaves model (Lee, Mumford and Huang 2001), from which networks learn to see natural
    pictures (Baradad et al. 2021, arXiv:2106.05963).
    """
    height, width = _size(rng)
    page: NDArray[Any] = np.full((height, width), rng.uniform(0, 255), np.float32)
    texture: NDArray[Any] = rng.normal(0, 1, (2 * height, 2 * width)).astype(np.float32)
    texture = cv2.GaussianBlur(texture, (0, 0), rng.uniform(0.6, 4.0))
    texture = texture / texture.std()
    smallest, largest = rng.uniform(4, 40), rng.uniform(0.3, 0.8) * min(height, width)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / max(height, width)
    count = int(rng.integers(60, 500))
    # radii fall with their third power, large ones first so that the small ones lie on them
    quantile = np.linspace(0, 1, count)
    radii = (largest**-2 + quantile * (smallest**-2 - largest**-2)) ** -0.5
    for radius in radii:
        middle = rng.uniform((0, 0), (width, height))
        shape = _shape(middle, radius, rng)
        x0, y0, w, h = cv2.boundingRect(shape)
        x1, y1, x0, y0 = min(width, x0 + w), min(height, y0 + h), max(0, x0), max(0, y0)
        if x1 <= x0 or y1 <= y0:
            continue
        inside = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(inside, [shape - np.array([x0, y0], np.int32)], 1)
        here = (slice(y0, y1), slice(x0, x1))
        v, u = int(rng.integers(height)), int(rng.integers(width))
        grain = texture[v : v + y1 - y0, u : u + x1 - x0]
        slope = rng.normal(0, 90, 2)
        grey = rng.uniform(0, 255) + slope[0] * (y[here] - y[y0, 0]) + slope[1] * x[here]
        grey = grey - slope[1] * x[0, x0] + rng.choice([0.0, 4.0, 20.0]) * grain
        page[here] = np.where(inside == 1, grey, page[here])
    light = 1 + rng.uniform(-0.5, 0.5) * x + rng.uniform(-0.5, 0.5) * y
    return _bytes(cv2.GaussianBlur(page * light, (0, 0), rng.uniform(0.4, 1.6)))


def photograph(rng: np.random.Generator) -> Grey:
    """To train on: of a photograph, or every other time ``leaves``."""
    return leaves(rng) if rng.random() < 0.5 else _of_photograph(rng, held_out=False)[0]


def _of_photograph(rng: np.random.Generator, held_out: bool) -> tuple[Grey, int]:
    """A random crop, turn and exposure of one of the photographs, in grey, and which one it is."""
    number = int(rng.integers(len(_photographs(held_out))))
    source = _photographs(held_out)[number]
    height, width = source.shape
    side = rng.uniform(0.25, 1.0)
    h, w = int(side * height), int(side * rng.uniform(0.7, 1.0) * width)
    y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    crop = np.rot90(source[y : y + h, x : x + w], int(rng.integers(4)) * int(rng.random() < 0.4))
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    grey = 255 * (crop.astype(np.float32) / 255) ** np.exp(rng.uniform(-0.6, 0.6))
    return _bytes(255 - grey if rng.random() < 0.15 else grey), number


KINDS: dict[str, Callable[..., Grey]] = {
    "blank": blank,
    "noise": noise,
    "document": document,
    "chart": chart,
    "photograph": photograph,
}


def canvases(count: int, spec: Preprocessing, seed: int) -> NDArray[np.uint8]:
    """``count`` strangers to train on, ready for the network: count x S x S uint8."""
    rng, names = np.random.default_rng(seed), list(KINDS)
    # photographs and charts are what is hard, so they are half
    share = [0.1, 0.15, 0.2, 0.25, 0.3]
    drawn = rng.choice(len(names), count, p=share)
    made = [to_canvas(KINDS[names[k]](rng), spec) for k in drawn]
    return np.stack(made) if made else np.zeros((0, spec.size, spec.size), np.uint8)


def rows(count: int) -> pd.DataFrame:
    """The rows of ``canvases`` in the common form: no label, and a part that is ``other``."""
    names = [f"{KIND}-{i}" for i in range(count)]
    table = pd.DataFrame({"id": names, "patient": names, "source": KIND, "part": KIND})
    return table.assign(positive=np.nan, split="train", path="")


def measure(cascade: Cascade, count: int, seed: int, draws: int = 1000) -> list[dict[str, Any]]:
    """The share refused of ``count`` of each kind, none of which training has seen.

    Intervals are over drawn pictures; those of one photograph are resampled together. Raises
    DataInvalid where scikit-image is missing.
    """
    from training.records import record

    try:
        _photographs(True)
    except ImportError as error:
        raise DataInvalid(
            "Photographs to measure on come with scikit-image: pip install scikit-image."
        ) from error
    records: list[dict[str, Any]] = []
    everything: list[tuple[str, float]] = []
    for name, make in KINDS.items():
        rng = np.random.default_rng((seed, *name.encode()))
        refused = []
        for i in range(count):
            drawn, source = _of_photograph(rng, True) if make is photograph else (make(rng), i)
            radiograph = Radiograph(drawn, f"{name}-{i}", "0" * 64, "PNG")
            said = cascade.predict([radiograph])[0]
            refused.append((f"{name}-{source}", float(said.reason is not None)))
        everything += refused
        records.append(record("strangers", name, "drawn", "refused", _share(refused, draws)))
    records.append(record("strangers", "all", "drawn", "refused", _share(everything, draws)))
    return records


def _share(refused: list[tuple[str, float]], draws: int) -> metrics.Estimate:
    """refused: by what each was drawn from."""
    of, values = zip(*refused)
    return metrics.bootstrap(metrics.mean, values, values, of, draws)


def _size(rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(280, 640)), int(rng.integers(280, 640))


def _bytes(values: NDArray[Any]) -> Grey:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _finish(drawn: Grey, rng: np.random.Generator) -> Grey:
    """Paper is light or, for a third, dark as a screen; perhaps scanned askew, blurred, noisy."""
    page: NDArray[Any] = drawn.astype(np.float32)
    if rng.random() < 0.35:
        page = 255 - page
    if rng.random() < 0.3:
        middle = (page.shape[1] / 2, page.shape[0] / 2)
        turn = cv2.getRotationMatrix2D(middle, rng.uniform(-8, 8), rng.uniform(0.8, 1.1))
        page = cv2.warpAffine(page, turn, page.shape[::-1], borderValue=float(page[0, 0]))
    if rng.random() < 0.3:
        page = cv2.GaussianBlur(page, (0, 0), rng.uniform(0.4, 1.5))
    return _bytes(page + rng.normal(0, rng.choice([0.0, 2.0, 6.0]), page.shape))


def _shape(middle: NDArray[Any], radius: float, rng: np.random.Generator) -> NDArray[np.int32]:
    """Corners (Kx1x2) of an ellipse or a polygon around a point, in any turn."""
    corners = 24 if rng.random() < 0.5 else int(rng.integers(3, 8))
    angle = (
        np.sort(rng.uniform(0, 2 * np.pi, corners)) if corners < 24 else np.linspace(0, 6.28, 24)
    )
    flat, turn = rng.uniform(0.2, 1.0), rng.uniform(0, 2 * np.pi)
    u, v = radius * np.cos(angle), flat * radius * np.sin(angle)
    across = np.cos(turn) * u - np.sin(turn) * v
    down = np.sin(turn) * u + np.cos(turn) * v
    return np.stack([middle[0] + across, middle[1] + down], 1).astype(np.int32)[:, None]


def _ticks(page: Any, box: tuple[int, int, int, int], rng: np.random.Generator) -> None:
    x0, y0, x1, y1 = box
    cv2.line(page, (x0, y0), (x0, y1), 0, 1)
    cv2.line(page, (x0, y1), (x1, y1), 0, 1)
    grid = rng.random() < 0.4
    for part in np.linspace(0, 1, int(rng.integers(3, 9))):
        x, y = int(x0 + part * (x1 - x0)), int(y0 + part * (y1 - y0))
        cv2.line(page, (x0 - 4, y), (x1 if grid else x0, y), 190 if grid else 0, 1)
        cv2.line(page, (x, y1 + 4), (x, y0 if grid else y1), 190 if grid else 0, 1)
        cv2.putText(page, f"{part:.1f}", (x - 8, y1 + 18), _FONTS[0], 0.35, 0, 1, cv2.LINE_AA)
        cv2.putText(page, f"{10 * part:.0f}", (x0 - 26, y), _FONTS[0], 0.35, 0, 1, cv2.LINE_AA)


def _lines(page: Any, box: tuple[int, int, int, int], rng: np.random.Generator) -> None:
    x0, y0, x1, y1 = box
    x = np.linspace(x0, x1, int(rng.integers(10, 120)))
    for _ in range(int(rng.integers(1, 6))):
        walk = np.cumsum(rng.normal(0, 1, len(x)))
        walk = (walk - walk.min()) / max(float(np.ptp(walk)), 1e-9)
        y = y1 - walk * (y1 - y0) * rng.uniform(0.3, 1.0)
        points = np.stack([x, y], 1).astype(np.int32)[:, None]
        width = int(rng.integers(1, 4))
        cv2.polylines(page, [points], False, rng.uniform(0, 170), width, cv2.LINE_AA)


def _bars(page: Any, box: tuple[int, int, int, int], rng: np.random.Generator) -> None:
    x0, y0, x1, y1 = box
    count = int(rng.integers(3, 20))
    width = (x1 - x0) / count
    ink = rng.uniform(0, 190, int(rng.integers(1, 4)))
    for i in range(count):
        top = int(y1 - rng.random() * (y1 - y0))
        start, end = int(x0 + i * width + 0.15 * width), int(x0 + (i + 1) * width - 0.15 * width)
        cv2.rectangle(page, (start, top), (end, y1), float(ink[i % len(ink)]), -1)


def _points(page: Any, box: tuple[int, int, int, int], rng: np.random.Generator) -> None:
    x0, y0, x1, y1 = box
    for _ in range(int(rng.integers(1, 4))):
        centre, spread = rng.uniform(0.2, 0.8, 2), rng.uniform(0.03, 0.3)
        ink, radius = rng.uniform(0, 170), int(rng.integers(1, 6))
        for u, v in np.clip(rng.normal(centre, spread, (int(rng.integers(10, 150)), 2)), 0, 1):
            at = (int(x0 + u * (x1 - x0)), int(y0 + v * (y1 - y0)))
            cv2.circle(page, at, radius, ink, -1, cv2.LINE_AA)


def _slices(page: Any, rng: np.random.Generator) -> None:
    height, width = page.shape
    centre, radius = (width // 2, height // 2), int(0.35 * min(height, width))
    angles = np.sort(rng.uniform(0, 360, int(rng.integers(2, 8))))
    for start, end in zip(angles, np.append(angles[1:], angles[0] + 360)):
        ink = rng.uniform(20, 235)
        cv2.ellipse(page, centre, (radius, radius), 0, start, end, ink, -1, cv2.LINE_AA)


@cache
def _photographs(held_out: bool) -> tuple[Grey, ...]:
    found = _scikit_image() if held_out else _to_train_on()
    return tuple(np.ascontiguousarray(p) for p in found)


def _to_train_on() -> list[Grey]:
    import matplotlib.cbook
    import matplotlib.image
    from sklearn.datasets import load_sample_images

    hopper = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    colour = [*load_sample_images().images, matplotlib.image.imread(hopper)]
    return [_luminance(c) for c in colour]


def _scikit_image() -> list[Grey]:
    """Raises ImportError where scikit-image, a package for tests, is missing."""
    import skimage
    import skimage.io

    folder = Path(skimage.__file__).parent / "data"
    return [_luminance(skimage.io.imread(folder / name)) for name in _HELD_OUT]


def _luminance(picture: NDArray[Any]) -> Grey:
    grey = picture[..., :3] @ np.array([0.299, 0.587, 0.114]) if picture.ndim == 3 else picture
    return _bytes(grey)
