"""The pointing game and the energy inside, on maps whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from training import heatmaps
from training.data import PARTS


def spot(y: int, x: int, height: int = 100, width: int = 200) -> np.ndarray:
    heat = np.zeros((height, width), np.float32)
    heat[y, x] = 0.8
    return heat


BOX = "0.5 0.2 0.6 0.4"  # x 100 to 120, y 20 to 40 of 200 x 100


@pytest.mark.parametrize(
    ("y", "x", "pointing", "energy"),
    [(30, 110, 1, 1), (30, 129, 1, 0), (30, 131, 0, 0), (12, 110, 1, 0), (8, 110, 0, 0)],
)
def test_a_spot_points_into_the_widened_box(y, x, pointing, energy):
    assert heatmaps.score(spot(y, x), BOX) == (pointing, energy)


def test_several_boxes_count_as_one_place():
    both = f"{BOX};0.0 0.8 0.1 1.0"
    assert heatmaps.score(spot(90, 10) + spot(30, 110), both)[1] == pytest.approx(1.0)
    assert heatmaps.score(spot(90, 10), both)[0] == 1


def test_a_map_without_evidence_points_nowhere():
    assert heatmaps.score(np.zeros((10, 10), np.float32), BOX) == (0.0, 0.0)


def test_energy_of_an_even_map_is_the_share_of_the_box():
    heat = np.ones((100, 200), np.float32)
    assert heatmaps.score(heat, BOX)[1] == pytest.approx(0.02, rel=0.15)


def test_only_positives_of_the_three_parts_with_boxes_are_chosen():
    rows = pd.DataFrame(
        {
            "split": ["val", "val", "val", "test", "val"],
            "part": ["hand", "leg", "hand", "hand", "elbow"],
            "positive": [1.0, 1.0, 0.0, 1.0, 1.0],
            "boxes": [BOX, BOX, BOX, BOX, None],
        }
    )
    assert heatmaps.chosen(rows, PARTS, "val").index.tolist() == [0]


def test_every_method_and_control_is_measured(cascade, tmp_path):
    import cv2

    from tests import tiny

    rng = np.random.default_rng(0)
    rows = []
    for k in range(3):
        path = tmp_path / f"{k}.png"
        cv2.imwrite(str(path), tiny.picture("hand", True, rng))
        rows.append((str(path), "drawn", "hand", f"p{k}", "0.1 0.7 0.9 0.9"))
    table = pd.DataFrame(rows, columns=["path", "source", "part", "patient", "boxes"])
    records = heatmaps.measure(cascade, table, draws=20)
    measured = {r["part"] for r in records}
    assert {"Grad-CAM", "LayerCAM", heatmaps.CENTRE, heatmaps.RANDOM} <= measured
    assert all(0 <= r["value"] <= 1 and r["n"] == 3 for r in records)
    centre = [r["value"] for r in records if r["part"] == heatmaps.CENTRE]
    assert centre == [0.0, 0.0]
