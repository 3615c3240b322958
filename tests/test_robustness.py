"""What handling does to a picture, and what is counted of the answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core.types import BodyPart, Finding, FracturePrediction, ImageResult, Radiograph
from tests.simulated import phantom
from training import robustness
from training.data import PARTS
from training.robustness import DISTURBANCES


@pytest.mark.parametrize("name", DISTURBANCES)
def test_a_disturbance_is_small_and_leaves_the_original_alone(name):
    grey = phantom(300, 240, seed=3)
    before = grey.copy()
    after = DISTURBANCES[name](grey)
    assert np.array_equal(grey, before)
    assert after.dtype == np.uint8
    if name == "border cropped":
        assert after.shape == (276, 222)
        assert np.array_equal(after, grey[12:-12, 9:-9])
        return
    assert after.shape == grey.shape
    difference = np.abs(after.astype(int) - grey.astype(int))
    assert 0 < difference.mean() < 20


def test_the_corners_are_painted_in_the_grey_of_the_border_and_nothing_else():
    grey = np.full((100, 100), 30, np.uint8)
    grey[2:8, 2:8] = 255  # a marker
    grey[50, 50] = 200
    after = robustness.masked(grey)
    assert (after[:12, :12] == 30).all()
    assert after[50, 50] == 200


def test_findings_that_change_are_told_from_those_that_turn_round(cascade):
    radiograph = Radiograph(phantom(90, 90), "a", "0" * 64, "PNG")
    [result] = cascade.predict([radiograph], BodyPart.HAND)

    def answer(probability: float, finding: Finding) -> ImageResult:
        return replace(result, fracture=FracturePrediction(probability, finding))

    low, middle = answer(0.1, Finding.NOT_SUSPECTED), answer(0.4, Finding.DOUBTFUL)
    high = answer(0.9, Finding.SUSPECTED)
    assert robustness._change(low, middle) == {
        "finding changed": 1.0,
        "finding turned round": 0.0,
        "change of probability": pytest.approx(0.3),
        "body part changed": 0.0,
    }
    assert robustness._change(high, low)["finding turned round"] == 1.0
    assert robustness._change(high, high)["finding changed"] == 0.0


def test_every_disturbance_and_control_has_figures(cascade, tmp_path):
    rows = []
    for i, part in enumerate(("elbow", "hand", "shoulder")):
        Image.fromarray(phantom(120, 90, seed=i)).save(tmp_path / f"{i}.png")
        rows.append({"path": str(tmp_path / f"{i}.png"), "part": part, "patient": i})
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    rows.append({"path": str(tmp_path / "broken.png"), "part": "hand", "patient": 9})
    records = robustness.measure(cascade, pd.DataFrame(rows), draws=20)
    changed = [r for r in records if r["metric"] == "change of probability"]
    assert [(r["part"], r["n"]) for r in changed] == [(name, 3) for name in DISTURBANCES]
    controls = {r["part"]: r for r in records if r["metric"] == "rank correlation"}
    assert set(controls) <= set(robustness.CONTROLS)
    # the parts of the random release share one branch, so their maps are the same
    assert controls["control: another part"]["value"] == pytest.approx(1.0)
    assert controls["control: random branch"]["value"] < 1.0
    assert controls["control: another picture"]["n"] == 2


def test_maps_of_another_grid_are_compared(cascade, tmp_path, monkeypatch):
    """As that of an ensemble with a transformer, beside which the control is the ResNet50's."""
    Image.fromarray(phantom(120, 90)).save(tmp_path / "0.png")
    rows = pd.DataFrame([{"path": str(tmp_path / "0.png"), "part": "elbow", "patient": 0}])
    explain = type(cascade).explain

    def finer(self, radiograph, part):
        found = explain(self, radiograph, part)
        return replace(found, values=np.kron(found.values, np.ones((2, 2), np.float32)))

    monkeypatch.setattr(type(cascade), "explain", finer)
    records = robustness.measure(cascade, rows, draws=20)
    controls = {r["part"]: r for r in records if r["metric"] == "rank correlation"}
    assert controls["control: another part"]["value"] > 0.9


def test_only_labelled_real_radiographs_of_the_parts_are_drawn():
    rows = pd.DataFrame(
        {
            "split": ["val"] * 5 + ["test"],
            "part": ["hand", "hand", "leg", "elbow", "elbow", "hand"],
            "positive": [1.0, np.nan, 1.0, 0.0, 0.0, 1.0],
            "source": ["mura", "mura", "mura", "simulated", "mura", "mura"],
        }
    )
    assert sorted(robustness.chosen(rows, PARTS, "val", 200).index) == [0, 4]
    assert len(robustness.chosen(rows, PARTS, "val", 1)) == 1
