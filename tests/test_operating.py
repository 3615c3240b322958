"""Figures of an operating point, and what they mean for one reader's patients."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core import manifest
from core.operating import performance, pointing, predictive_values
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
    assert predictive_values(sensitivity, specificity, prevalence) == (
        pytest.approx(ppv) if ppv is not None else None,
        pytest.approx(npv) if npv is not None else None,
    )


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
