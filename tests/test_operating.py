"""Figures of an operating point, and what they mean for one reader's patients."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core import manifest
from core.operating import (
    Estimate,
    calibration_error,
    performance,
    pointing,
    predictive_values,
)
from core.types import BodyPart, OperatingPoint


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "prevalence", "ppv", "npv"),
    [
        (0.9, 0.8, 0.5, 0.45 / 0.55, 0.4 / 0.45),  # counted by hand on 1000 patients
        (0.95, 0.5, 0.1, 95 / 545, 450 / 455),
        (1.0, 0.2, 0.0, 0.0, 1.0),
        (1.0, 1.0, 1.0, 1.0, None),
        (0.0, 1.0, 0.3, None, 0.7),
    ],
)
def test_predictive_values_by_bayes(sensitivity, specificity, prevalence, ppv, npv):
    found = predictive_values(Estimate(sensitivity), Estimate(specificity), prevalence)
    for estimate, value in zip(found, (ppv, npv), strict=True):
        assert (estimate and estimate.value) == (value if value is None else pytest.approx(value))


def test_predictive_values_have_the_limits_of_what_they_follow_from():
    ppv, npv = predictive_values(Estimate(0.9, 0.8, 0.95), Estimate(0.8, 0.7, 0.9), 0.5)
    assert (ppv.low, ppv.high) == pytest.approx((0.8 / 1.1, 0.95 / 1.05))
    assert (npv.low, npv.high) == pytest.approx((0.7 / 0.9, 0.9 / 0.95))
    ppv, npv = predictive_values(Estimate(0.9), Estimate(0.8), 0.5)
    assert ppv.low is ppv.high is npv.low is npv.high is None
    # no false positive among 36 does not make a positive at 1 % a certain one
    for certain in (Estimate(1.0, 1.0, 1.0), Estimate(1.0)):
        ppv, _ = predictive_values(Estimate(0.68, 0.4, 0.9), certain, 0.01)
        assert ppv.value == ppv.high == 1 and ppv.low < 0.02
    ppv, _ = predictive_values(Estimate(0.68, 0.4, 0.9), Estimate(1.0, 0.9, 1.0), 0.01)
    assert ppv.low == pytest.approx(0.4 * 0.01 / (0.4 * 0.01 + 0.1 * 0.99))


def test_a_figure_that_is_not_defined_is_one_that_was_not_measured(cascade):
    """As of a test split without positives of the part."""
    common = {"stage": "fracture", "part": "hand", "source": "all", "level": "image", "n": 9}
    figures = [
        common | {"metric": "sensitivity (sensitive)", "value": None, "low": None, "high": None},
        common | {"metric": "specificity (sensitive)", "value": 0.5, "low": 0.4, "high": 0.6},
        common | {"metric": "ece", "value": None, "low": None, "high": None},
    ]
    release = replace(cascade.release, metrics={"split": "test", "figures": figures})
    found = performance(release, BodyPart.HAND, "sensitive")
    assert found == performance(cascade.release, BodyPart.HAND, "sensitive")
    assert calibration_error(release, BodyPart.HAND) is None


def test_without_test_figures_those_of_validation_are_named(cascade):
    found = performance(cascade.release, BodyPart.HAND, "sensitive")
    assert (found.split, found.n, found.sensitivity.value) == ("validation", 40, 0.95)
    assert performance(cascade.release, BodyPart.OTHER, "sensitive") is None
    assert performance(cascade.release, BodyPart.HAND, "best") is None


def test_sensitive_is_the_lower_of_the_two_and_has_the_figures_of_its_threshold(cascade):
    """As a release has them that named the lower one "specific"."""
    listed = [
        OperatingPoint("sensitive", 0.4, 1.0, 0.97, 39),
        OperatingPoint("specific", 0.3, 1.0, 0.9, 39),
        OperatingPoint("balanced", 0.37, 1.0, 0.93, 39),
    ]
    points = manifest.in_order(listed)
    assert [(p.name, p.threshold) for p in points] == [
        ("sensitive", 0.3),
        ("specific", 0.4),
        ("balanced", 0.37),
    ]
    assert manifest.in_order(points) == points
    common = {"stage": "fracture", "part": "hand", "level": "image", "source": "all", "n": 64}
    values = {
        "sensitivity (sensitive)": 0.36,
        "specificity (sensitive)": 1.0,
        "sensitivity (specific)": 0.68,
        "specificity (specific)": 0.92,
    }
    figures = [common | {"metric": name, "value": value} for name, value in values.items()]
    stage = replace(cascade.release.stages["hand"], operating_points=points)
    stages = cascade.release.stages | {"hand": stage}
    release = replace(cascade.release, stages=stages, metrics={"figures": figures})
    found = performance(release, BodyPart.HAND, "sensitive")
    assert (found.point.threshold, found.sensitivity.value, found.specificity.value) == (
        0.3,
        0.68,
        0.92,
    )
    assert performance(release, BodyPart.HAND, "specific").sensitivity.value == 0.36


def test_pointing_is_said_only_where_it_was_measured(cascade):
    assert pointing(cascade.release, "Grad-CAM") is None
    common = {"stage": "heatmap", "part": "Grad-CAM", "metric": "pointing game", "level": "image"}
    figures = [
        common | {"source": "simulated", "value": 0.9, "low": 0.8, "high": 1.0, "n": 500},
        common | {"source": "fracatlas", "value": 0.6, "low": 0.5, "high": 0.7, "n": 80},
    ]
    estimate, n = pointing(replace(cascade.release, metrics={"figures": figures}), "Grad-CAM")
    assert (estimate.value, estimate.low, n) == (0.6, 0.5, 80)
