"""Does an answer survive what changes nothing about the bone?

Each radiograph is disturbed as handling disturbs it: turned by 5 degrees, stored as JPEG of quality
70, brightened or darkened by 10 % of gamma, cropped at the border, its corners (where the side
markers stand) painted over. Its own part's fracture model answers before and after. Counted are the
findings that change (of three states), those that turn round (suspected to not suspected or back),
the mean change of the probability, and the body parts that change.

Beside it the sanity of the heatmaps (Adebayo et al. 2018, arXiv:1810.03292): the rank correlation
of a map with that of a branch of random weights, of another part's branch and of another picture.
A map that explains this answer has little in common with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from core.cascade import Cascade
from core.types import BodyPart, Finding, Heatmap, ImageResult, Radiograph
from training import metrics
from training.data import SIMULATED, radiographs
from training.records import record

Grey = NDArray[np.uint8]
CORNER = 0.12  # side of a painted corner, as a share of the picture's
BORDER = 0.04  # cropped from each side
OPPOSITE = {Finding.SUSPECTED, Finding.NOT_SUSPECTED}


def rotated(grey: Grey) -> Grey:
    """By 5 degrees about the centre; what comes in from outside is the median of the border."""
    height, width = grey.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 5.0, 1.0)
    out = cv2.warpAffine(
        grey, turn, (width, height), flags=cv2.INTER_LINEAR, borderValue=_edge(grey)
    )
    return np.asarray(out, np.uint8)


def jpeg(grey: Grey) -> Grey:
    """Stored as JPEG of quality 70 and read again."""
    stored = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
    return np.asarray(cv2.imdecode(stored, cv2.IMREAD_GRAYSCALE), np.uint8)


def gamma(exponent: float) -> Callable[[Grey], Grey]:
    """Grey values in [0, 1] to the power of ``exponent``."""
    return lambda grey: np.rint(255 * (grey / 255.0) ** exponent).astype(np.uint8)


def cropped(grey: Grey) -> Grey:
    """Without 4 % at each side."""
    y, x = (int(BORDER * side) for side in grey.shape)
    return np.ascontiguousarray(grey[y : grey.shape[0] - y, x : grey.shape[1] - x])


def masked(grey: Grey) -> Grey:
    """The four corners in the median of the border: markers and burned-in text stand there."""
    out = grey.copy()
    y, x = (max(1, int(CORNER * side)) for side in grey.shape)
    for rows in (slice(0, y), slice(-y, None)):
        for columns in (slice(0, x), slice(-x, None)):
            out[rows, columns] = _edge(grey)
    return out


DISTURBANCES: dict[str, Callable[[Grey], Grey]] = {
    "rotated by 5 degrees": rotated,
    "JPEG quality 70": jpeg,
    "gamma 0.9": gamma(0.9),
    "gamma 1.1": gamma(1.1),
    "border cropped": cropped,
    "corners masked": masked,
}
CONTROLS = ("control: random branch", "control: another part", "control: another picture")


def chosen(rows: pd.DataFrame, parts: Sequence[str], split: str, count: int) -> pd.DataFrame:
    """At most ``count`` labelled real radiographs of the parts, drawn from the split."""
    here = (rows.split == split) & rows.part.isin(parts) & rows.positive.notna()
    real = rows[here & (rows.source != SIMULATED)]
    return real.sample(min(count, len(real)), random_state=0)


def measure(cascade: Cascade, rows: pd.DataFrame, draws: int = 1000) -> list[dict[str, Any]]:
    """Figures of every disturbance and every control; rows: of ``chosen``.

    Parts that the release has no model for are left out, and so is the control of another part
    where it has only one.
    """
    random = cascade.with_random_branches()
    changes: list[dict[str, Any]] = []
    alike: list[dict[str, Any]] = []
    last: Heatmap | None = None
    known = rows[rows.part.isin(cascade.release.parts)]
    for row, read in radiographs(known):
        part, patient, grey = BodyPart(row.part), str(row.patient), as_8_bit(read)
        radiograph = replace(read, pixels=grey)
        before = _asked(cascade, radiograph, part)
        for name, disturb in DISTURBANCES.items():
            after = _asked(cascade, replace(radiograph, pixels=disturb(grey)), part)
            changes.append({"name": name, "patient": patient, **_change(before, after)})
        others = [p for p in cascade.release.parts if p != part]
        other = others[0] if others else None
        here = before.heatmap
        assert here is not None
        foreign = cascade.explain(radiograph, other) if other else None
        maps = (random.explain(radiograph, part), foreign, last)
        for name, heatmap in zip(CONTROLS, maps, strict=True):
            if heatmap is not None and here.has_evidence and heatmap.has_evidence:
                size = here.values.shape[::-1]  # of an ensemble whose member has a finer grid
                other_map = cv2.resize(heatmap.values, size, interpolation=cv2.INTER_LINEAR)
                value = float(spearmanr(here.values.ravel(), other_map.ravel()).statistic)
                alike.append({"name": name, "patient": patient, "rank correlation": value})
        last = here
    return _records("robustness", changes, draws) + _records("heatmap", alike, draws)


def _asked(cascade: Cascade, radiograph: Radiograph, part: BodyPart) -> ImageResult:
    return cascade.predict([radiograph], part)[0]


def _change(before: ImageResult, after: ImageResult) -> dict[str, float]:
    assert before.fracture and after.fracture and before.body_part and after.body_part
    findings = {before.fracture.finding, after.fracture.finding}
    return {
        "finding changed": float(len(findings) > 1),
        "finding turned round": float(findings == OPPOSITE),
        "change of probability": abs(before.fracture.probability - after.fracture.probability),
        "body part changed": float(before.body_part.label != after.body_part.label),
    }


def _records(stage: str, rows: list[dict[str, Any]], draws: int) -> list[dict[str, Any]]:
    if not rows:
        return []
    table = pd.DataFrame(rows)
    found = []
    for name, group in table.groupby("name", sort=False):
        for metric in table.columns.difference(["name", "patient"], sort=False):
            values = group[metric].to_numpy(float)
            estimate = metrics.bootstrap(
                metrics.mean, np.zeros(len(group)), values, group.patient, draws
            )
            found.append(record(stage, str(name), "all", metric, estimate))
    return found


def _edge(grey: Grey) -> float:
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return float(np.median(border))


def as_8_bit(radiograph: Radiograph) -> Grey:
    """8 bits, as the disturbances are those of a picture that somebody exported."""
    pixels = radiograph.pixels
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, np.uint8)
    low, high = float(pixels.min()), float(pixels.max())
    return np.rint(255 * (pixels - low) / max(1.0, high - low)).astype(np.uint8)
