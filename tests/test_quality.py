"""Calibration, findings, rejection, and their fitting."""

from __future__ import annotations

import numpy as np
import pytest

from core.quality import FeatureSpace, finding_of, sigmoid, softmax
from core.types import Finding, OperatingPoint
from training import calibrate


def points(sensitive: float, specific: float) -> list[OperatingPoint]:
    return [
        OperatingPoint("sensitive", sensitive, 0.95, 0.5, 40),
        OperatingPoint("specific", specific, 0.5, 0.9, 40),
        OperatingPoint("balanced", 0.99, 0.7, 0.7, 40),
    ]


@pytest.mark.parametrize(
    ("probability", "finding"),
    [
        (0.1, Finding.NOT_SUSPECTED),
        (0.3, Finding.DOUBTFUL),
        (0.69, Finding.DOUBTFUL),
        (0.7, Finding.SUSPECTED),
    ],
)
@pytest.mark.parametrize("order", [(0.3, 0.7), (0.7, 0.3)])
def test_three_findings(probability, finding, order):
    assert finding_of(probability, points(*order)) is finding


def test_without_operating_points_a_half_decides():
    assert finding_of(0.5, []) is Finding.SUSPECTED
    assert finding_of(0.49, []) is Finding.NOT_SUSPECTED


def test_softmax_and_sigmoid_are_stable():
    np.testing.assert_allclose(softmax(np.array([1000.0, 1000.0])), [0.5, 0.5])
    np.testing.assert_allclose(softmax(np.array([0.0, 2.0]), 2.0)[1], 1 / (1 + np.exp(-1)))
    assert sigmoid(0.0) == 0.5
    assert sigmoid(2.0, temperature=2.0, bias=-1.0) == 0.5


def test_temperature_and_platt_recover_what_was_put_in():
    rng = np.random.default_rng(0)
    z = rng.normal(0, 2, 20_000)
    truth = (rng.random(20_000) < 1 / (1 + np.exp(-z))).astype(float)
    temperature, bias = calibrate.platt(z * 3.0 + 1.5, truth)
    assert temperature == pytest.approx(3.0, rel=0.05)
    assert bias == pytest.approx(-0.5, abs=0.05)
    logits = np.stack([np.zeros_like(z), z * 3.0], 1)
    assert calibrate.temperature(logits, truth.astype(int)) == pytest.approx(3.0, rel=0.05)


def test_calibration_never_turns_an_answer_round():
    z = np.linspace(-2, 2, 40)
    temperature, _ = calibrate.platt(z, (z < 0).astype(float))
    assert temperature > 0


def test_operating_points_keep_their_promises():
    rng = np.random.default_rng(1)
    truth = (rng.random(200) < 0.4).astype(float)
    probability = 1 / (1 + np.exp(-(rng.normal(0, 1, 200) + 1.5 * truth)))
    found = {p["name"]: p for p in calibrate.operating_points(probability, truth)}
    assert found["sensitive"]["sensitivity"] >= 0.95
    assert found["specific"]["specificity"] >= 0.90
    assert found["balanced"]["sensitivity"] + found["balanced"]["specificity"] >= 1.4
    above = probability >= found["specific"]["threshold"]
    assert found["specific"]["specificity"] == pytest.approx((~above)[truth == 0].mean())


def test_distance_tells_outliers():
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(5, 40))
    inside = (rng.normal(size=(300, 5)) @ basis).astype(np.float32)
    inside += rng.normal(0, 0.01, inside.shape).astype(np.float32)
    space = FeatureSpace.fit(inside, components=5)
    typical = np.median([space.distance(f) for f in inside])
    assert space.distance(inside.mean(0) + 20 * basis[0].astype(np.float32)) > 3 * typical
    assert space.distance(rng.normal(size=40).astype(np.float32)) > 10 * typical
