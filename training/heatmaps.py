"""Do the heatmaps point at what was found? Measured on boxes, for each method, beside controls.

Pointing game (Zhang et al. 2018): the share of positives whose hottest place lies in a box or not
farther from it than 5 % of the picture's longer side. Energy: the share of the map's sum inside the
boxes. The controls: the centre of the picture, and the same method on a network with random weights
in its branch, which has seen nothing (Adebayo et al. 2018, "sanity checks").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.cams import METHODS
from core.cascade import Cascade
from core.explain import on_picture
from core.operating import CENTRE, WIDENED
from core.types import BodyPart, Heatmap, Radiograph
from training import metrics
from training.data import boxes_of, radiographs
from training.records import record

RANDOM = "control: random branch"


def inside(boxes: str, height: int, width: int, margin: float = 0.0) -> NDArray[np.bool_]:
    """HxW, True inside one of ``x0 y0 x1 y1;...`` (fractions), each widened by margin pixels."""
    mask = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in boxes_of(boxes):
        rows = slice(max(0, int(y0 * height - margin)), int(np.ceil(y1 * height + margin)))
        columns = slice(max(0, int(x0 * width - margin)), int(np.ceil(x1 * width + margin)))
        mask[rows, columns] = True
    return mask


def score(heat: NDArray[np.float32], boxes: str) -> tuple[float, float]:
    """(pointing, energy) of a map over a picture; a map without evidence points nowhere."""
    height, width = heat.shape
    if heat.max() <= 0:
        return 0.0, 0.0
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    near = inside(boxes, height, width, WIDENED * max(height, width))
    energy = heat[inside(boxes, height, width)].sum() / heat.sum()
    return float(near[y, x]), float(energy)


def measure(cascade: Cascade, rows: pd.DataFrame, draws: int = 1000) -> list[dict[str, Any]]:
    """Figures of every method and control, by source; rows: positives with boxes."""
    random = cascade.with_random_branches()
    scores: dict[tuple[str, str], list[tuple[float, float, str]]] = {}
    for row, radiograph in radiographs(rows):
        if pd.isna(row.boxes):
            continue  # they lie beside the film
        for method, heat in _maps(cascade, random, radiograph, BodyPart(row.part)).items():
            found = (*score(heat, row.boxes), row.patient)
            scores.setdefault((str(row.source), method), []).append(found)
    records = []
    for (source, method), triples in scores.items():
        table = pd.DataFrame(triples, columns=["pointing game", "energy inside", "patient"])
        for name in ("pointing game", "energy inside"):
            values, nothing = table[name].to_numpy(), np.zeros(len(table))
            estimate = metrics.bootstrap(metrics.mean, nothing, values, table.patient, draws)
            records.append(record("heatmap", method, source, name, estimate))
    return records


def _maps(
    cascade: Cascade, random: Cascade, radiograph: Radiograph, part: BodyPart
) -> dict[str, NDArray[np.float32]]:
    height, width = radiograph.pixels.shape
    centre = np.zeros((height, width), np.float32)
    centre[height // 2, width // 2] = 1.0
    found: dict[str, Heatmap] = {
        method: cascade.explain(radiograph, part, method) for method in ("Grad-CAM", *METHODS)
    }
    found[RANDOM] = random.explain(radiograph, part)
    maps = {method: on_picture(heatmap, height, width) for method, heatmap in found.items()}
    return maps | {CENTRE: centre}


def chosen(rows: pd.DataFrame, parts: Sequence[str], split: str) -> pd.DataFrame:
    """The positives of the parts with boxes."""
    here = (rows.split == split) & rows.part.isin(parts) & (rows.positive == 1)
    return rows[here & rows.boxes.notna()]
