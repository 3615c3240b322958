"""Does an answer survive being photographed?

Each radiograph is photographed in the computer (``training.camera``), as a film on a light box and
on a screen. The picture takes the way of an upload: decoded, found to be a photograph, its film cut
out, assessed. Counted are the findings (of three states, each radiograph's own part's model) and
the body parts that are those of the radiograph itself, and the corners that lie within 2 % of the
film's mean side of where they are, all four of them; a film that was not found has none.

Beside it the false alarms: plain radiographs of the same split that are taken for a photograph, or
that a reader would be asked about, as they are and with the tint of a film's base or a screenshot.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from core import film, imaging
from core.cascade import Cascade
from core.settings import ImageLimits
from core.types import BodyPart, Corners, ImageResult, Radiograph
from training import metrics
from training.camera import Carrier, Photograph, photograph
from training.data import SIMULATED, radiographs
from training.records import record
from training.robustness import as_8_bit

NEAR = 0.02  # of the mean side
STAGE = "photographs"


def measure(
    cascade: Cascade, rows: pd.DataFrame, draws: int = 1000, seed: int = 0
) -> list[dict[str, Any]]:
    """Figures by carrier and over both; rows: of ``training.robustness.chosen``.

    Parts that the release has no model for are left out. seed: of what the photographs look like.
    """
    known = rows[rows.part.isin(cascade.release.parts)]
    found: list[dict[str, Any]] = []
    for number, (row, read) in enumerate(radiographs(known)):
        grey, part = as_8_bit(read), BodyPart(row.part)
        before = cascade.predict([replace(read, pixels=grey)], part)[0]
        for carrier in Carrier:
            taken = photograph(grey, carrier, 2 * number + seed * 1_000_003)
            seen = film.as_seen(imaging.decode(taken.data, "", ImageLimits()))
            after = cascade.predict([seen], part)[0]
            line = {"patient": str(row.patient), "carrier": carrier.value}
            found.append(line | _compared(before, after) | _found(taken, seen))
    return _records(found, draws)


def plain(rows: pd.DataFrame, split: str, count: int) -> pd.DataFrame:
    """At most ``count`` real radiographs of the split, of any body part."""
    real = rows[(rows.split == split) & (rows.source != SIMULATED)]
    return real.sample(min(count, len(real)), random_state=0)


def false_alarms(rows: pd.DataFrame, draws: int = 1000) -> list[dict[str, Any]]:
    """How often plain radiographs are taken for a photograph, or asked about; tinted ones that are
    not taken for one are always asked about."""
    plain_ones: list[dict[str, Any]] = []
    tinted_ones: list[dict[str, Any]] = []
    for row, radiograph in radiographs(rows, film.Wish.AS_TAKEN):  # whatever it is taken for
        line: dict[str, Any] = {"patient": str(row.patient), "carrier": "radiograph"}
        taken = film.is_photograph(radiograph)
        asked = not taken and film.suspected(radiograph)
        plain_ones.append(
            line | {"taken for a photograph": float(taken), "asked about": float(asked)}
        )
        tinted = replace(radiograph, cast=film.CAST)  # the film is sought in the grey values
        share = {"taken for a photograph": float(film.is_photograph(tinted))}
        tinted_ones.append(line | {"carrier": "tinted radiograph"} | share)
    return _records(plain_ones, draws) + _records(tinted_ones, draws)


def _compared(before: ImageResult, after: ImageResult) -> dict[str, float]:
    assert before.fracture and after.fracture and before.body_part and after.body_part
    return {
        "finding the same": float(before.fracture.finding is after.fracture.finding),
        "change of probability": abs(before.fracture.probability - after.fracture.probability),
        "body part the same": float(before.body_part.label == after.body_part.label),
    }


def _found(taken: Photograph, seen: Radiograph) -> dict[str, float]:
    corners = seen.photograph.corners if seen.photograph else None
    near = float(corners is not None and distance(taken, corners) <= NEAR)
    return {"corners within 2 %": near, "film found": float(corners is not None)}


def distance(taken: Photograph, corners: Corners) -> float:
    """How far the worst corner lies from where it is, in mean sides of the film."""
    height, width = taken.size
    there = np.array(corners) * (width, height)
    side = np.linalg.norm(np.roll(taken.corners, -1, 0) - taken.corners, axis=1).mean()
    return float(np.linalg.norm(there - taken.corners, axis=1).max() / side)


def _records(rows: list[dict[str, Any]], draws: int) -> list[dict[str, Any]]:
    if not rows:
        return []
    table = pd.DataFrame(rows)
    groups = [(str(name), group) for name, group in table.groupby("carrier", sort=False)]
    if len(groups) > 1:
        groups.append(("all", table))
    return [
        record(STAGE, name, "all", metric, _estimate(group, metric, draws))
        for name, group in groups
        for metric in table.columns.difference(["patient", "carrier"], sort=False)
    ]


def _estimate(group: pd.DataFrame, metric: str, draws: int) -> metrics.Estimate:
    values = group[metric].to_numpy(float)
    return metrics.bootstrap(metrics.mean, np.zeros(len(values)), values, group.patient, draws)
