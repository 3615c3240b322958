"""Figures of an operating point, and what they mean for one reader's patients."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from core.manifest import Release
from core.operating import (
    CENTRE,
    Estimate,
    calibration_error,
    counted_as,
    performance,
    pointing,
    predictive_values,
)
from core.refusals import of_part
from core.report import GONE
from core.study import combine
from core.types import (
    STRANGER,
    BodyPart,
    BodyPartPrediction,
    Finding,
    FracturePrediction,
    ImageResult,
    OperatingPoint,
)
from core.words import percent
from pages import _operating, _reading
from training import taken


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
    stage = cascade.release.stages[BodyPart.HAND]
    assert stage.point("sensitive") is found.point and stage.point("best") is None


def turned(release: Release) -> dict[str, object]:
    """The entry of a release that named the hand's lower threshold "specific"."""
    points = [
        {"name": "sensitive", "threshold": 0.4, "sensitivity": 1.0, "specificity": 0.97, "n": 39},
        {"name": "specific", "threshold": 0.3, "sensitivity": 1.0, "specificity": 0.9, "n": 39},
        {"name": "balanced", "threshold": 0.37, "sensitivity": 1.0, "specificity": 0.93, "n": 39},
    ]
    common = {"stage": "fracture", "part": "hand", "level": "image", "source": "all", "n": 64}
    values = {
        "sensitivity (sensitive)": 0.36,
        "specificity (sensitive)": 1.0,
        "sensitivity (specific)": 0.68,
        "specificity (specific)": 0.92,
        "accuracy (balanced)": 0.7,
    }
    figures = [common | {"metric": name, "value": value} for name, value in values.items()]
    figures += [figure | {"part": "elbow"} for figure in figures]
    entry = json.loads(json.dumps(release.raw))
    entry["stages"]["hand"]["operating_points"] = points
    return entry | {"metrics": {"figures": figures}}


def test_sensitive_is_the_lower_of_the_two_and_has_the_figures_of_its_threshold(cascade):
    entry = turned(cascade.release)
    release = Release.from_json(entry)
    points = release.stages["hand"].operating_points
    assert [(p.name, p.threshold) for p in points] == [
        ("sensitive", 0.3),
        ("specific", 0.4),
        ("balanced", 0.37),
    ]
    found = performance(release, BodyPart.HAND, "sensitive")
    assert (found.point.threshold, found.sensitivity.value, found.specificity.value) == (
        0.3,
        0.68,
        0.92,
    )
    assert performance(release, BodyPart.HAND, "specific").sensitivity.value == 0.36
    assert performance(release, BodyPart.ELBOW, "sensitive").sensitivity.value == 0.36
    # What shows the figures as they are listed says the same, and the digest is that of the entry.
    listed = {(f["part"], f["metric"]): f["value"] for f in release.metrics["figures"]}
    assert listed["hand", "sensitivity (sensitive)"] == 0.68
    assert listed["hand", "specificity (specific)"] == 1.0
    assert listed["hand", "accuracy (balanced)"] == 0.7
    assert listed["elbow", "sensitivity (sensitive)"] == 0.36
    assert release.raw == entry


def test_what_begins_with_a_release_has_its_points_under_their_true_names(cascade):
    """Its own figures are measured under these: turned once more they would be the other's."""
    base = Release.from_json(turned(cascade.release))
    entry = taken.entry(base, "made-2", taken.paths(base, "made-2"))
    entry |= {"files": [], "architecture": cascade.release.raw["architecture"]}
    figure = {"stage": "fracture", "part": "hand", "level": "image", "source": "all", "n": 64}
    figures = [
        figure | {"metric": f"{name} ({point})", "value": value, "low": value, "high": value}
        for point, value in (("sensitive", 0.68), ("specific", 0.36))
        for name in ("sensitivity", "specificity")
    ]
    found = Release.from_json(entry | {"metrics": {"figures": figures}})
    points = {p["name"]: p["threshold"] for p in entry["stages"]["hand"]["operating_points"]}
    assert (points["sensitive"], points["specific"]) == (0.3, 0.4)
    assert performance(found, BodyPart.HAND, "sensitive").sensitivity.value == 0.68
    joined = json.loads(json.dumps(base.raw))
    joined["stages"]["hand"]["ensemble"] = {
        "operating_points": joined["stages"]["hand"]["operating_points"]
    }
    entry = taken.entry(replace(base, raw=joined), "made-2", taken.paths(base, "made-2"))
    points = entry["stages"]["hand"]["ensemble"]["operating_points"]
    assert [p["threshold"] for p in points] == [0.3, 0.4, 0.37]


def test_the_share_of_patients_outlives_a_study_without_figures(monkeypatch):
    """Its slider is not drawn there, and Streamlit forgets what is not drawn."""

    def page() -> None:
        import streamlit as st

        from core.operating import Estimate, Performance
        from core.types import BodyPart
        from pages import _operating

        class Found:
            name, threshold, probability, finding = "sensitive", 0.2, 0.5, None
            body_part = BodyPart("knee" if st.session_state.get("other") else "hand")

        measured = Performance(Found(), Estimate(0.9), Estimate(0.8), "test", 100)
        _operating.performance = lambda _, part, __: measured if part == "hand" else None
        _operating.draw(Found(), object())
        st.session_state["said"] = _operating.chosen(BodyPart("hand"))
        st.session_state["other part"] = _operating.chosen(BodyPart("elbow"))

    monkeypatch.setattr(_operating, "performance", _operating.performance)  # and back afterwards
    app = AppTest.from_function(page).run()
    assert app.slider[0].value == 20 and app.session_state["said"] == ("sensitive", None)
    app.slider[0].set_value(5).run()
    for other in (True, True, False, False):
        app.session_state["other"] = other
        app.run()
        assert not app.exception and app.session_state["said"] == ("sensitive", 0.05)
    assert app.slider[0].value == 5
    assert app.session_state["other part"] == ("sensitive", None)  # said for hands alone


def test_of_a_release_that_is_gone_no_point_is_said_to_be_missing():
    def page() -> None:
        from pages import _operating

        _operating.draw(None, None)

    app = AppTest.from_function(page).run()
    assert not app.exception and not app.slider
    assert [GONE in str(h.proto) for h in app.get("html")] == [True]


def test_shares_that_stand_beside_each_other_are_told_apart():
    assert [percent(v) for v in (0.0, 0.005, 0.087, 0.995, 1.0)] == [
        "0 %",
        "<1 %",
        "9 %",
        ">99 %",
        "100 %",
    ]
    assert [percent(0.087, [0.0893]), percent(0.0893, [0.087])] == ["8.7 %", "8.9 %"]
    assert percent(0.0893, [0.0893, 0.4]) == "9 %"  # nothing to be told apart
    assert [percent(0.0891, [0.0893]), percent(0.0893, [0.0891])] == ["8.91 %", "8.93 %"]
    assert [percent(0.003, [0.004]), percent(0.0003, [0.004])] == ["0.3 %", "<0.1 %"]
    assert [percent(0.997, [0.996]), percent(0.9997, [0.996])] == ["99.7 %", ">99.9 %"]
    assert percent(0.1, [0.1 + 1e-9]) == "10.000 %"


def test_a_study_just_below_a_point_is_seen_to_be_below(cascade):
    point = OperatingPoint("sensitive", 0.0893, 0.95, 0.5, 40)
    stages = cascade.release.stages
    hand = replace(stages["hand"], operating_points=(point,))
    release = replace(cascade.release, stages=stages | {"hand": hand})
    part = BodyPartPrediction(BodyPart.HAND, 0.99, {BodyPart.HAND: 0.99})
    fracture = FracturePrediction(0.087, Finding.NOT_SUSPECTED)
    view = ImageResult("a.png", "0" * 64, None, "r", "0" * 64, 1.0, part, fracture)
    study = combine("s", [view], release)
    page = _reading.operating(performance(release, BodyPart.HAND, "sensitive"), study, 0.2)
    assert "positive (8.9&nbsp;% and above): this study is negative." in page
    assert "(NPV)" in page and "(PPV)" not in page
    assert "<span class='number'>8.7&nbsp;%</span>" in _reading.study(study, release)


@pytest.mark.parametrize(
    ("probability", "name", "said"),
    [
        (0.5, "sensitive", "doubtful counts as positive (30 % and above): this study is positive."),
        (0.5, "specific", "doubtful counts as negative (below 70 %): this study is negative."),
        (0.8, "specific", "70 % and above counts as positive: this study is positive."),
        (0.1, "sensitive", "30 % and above counts as positive: this study is negative."),
    ],
)
def test_what_doubtful_counts_as_at_a_point(probability: float, name: str, said: str) -> None:
    """In the last two the networks contradict each other, or the finding would be a clear one."""
    point = OperatingPoint(name, 0.3 if name == "sensitive" else 0.7, 0.9, 0.9, 40)
    assert counted_as(point, probability, Finding.DOUBTFUL) == f"At “{name}”, {said}"


def measured(release: Release, **values: tuple[float, float, float]) -> Release:
    """With figures of the hand on the test split; the names of metrics begin with these words."""
    common = {"stage": "fracture", "part": "hand", "level": "image", "source": "all", "n": 64}
    names = {"sensitivity": "sensitivity (sensitive)", "specificity": "specificity (sensitive)"}
    figures = [
        common | {"metric": names.get(what, what), "value": value, "low": low, "high": high}
        for what, (value, low, high) in values.items()
    ]
    return replace(release, metrics={"split": "test", "figures": figures})


def read(release: Release, probability: float, finding: Finding) -> str:
    """What the page says of a hand."""
    part = BodyPartPrediction(BodyPart.HAND, 0.99, {BodyPart.HAND: 0.99})
    fracture = FracturePrediction(probability, finding)
    view = ImageResult("a.png", "0" * 64, None, "r", "0" * 64, 1.0, part, fracture)
    said = _reading.study(combine("s", [view], release), release)
    return said.replace("&nbsp;", " ")


def test_what_is_not_suspected_says_how_many_were_missed(cascade):
    common = {"specificity": (0.5, 0.4, 0.6), "ece": (0.14, 0.1, 0.2)}
    few = measured(cascade.release, sensitivity=(0.925, 0.81, 1.0), **common)
    said = read(few, 0.1, Finding.NOT_SUSPECTED)
    line = "“Not suspected” does not rule out a finding: of the positive hand radiographs that the"
    line += " release was measured on, 8 % [0, 19] were below the threshold, too."
    assert f"<p class='soft'>{line}</p>" in said
    assert "Doubtful from 30 %, suspected from 70 %." in said and "were off by" not in said
    assert "rule out" not in read(few, 0.5, Finding.DOUBTFUL)
    assert "rule out" not in read(cascade.release, 0.1, Finding.NOT_SUSPECTED)  # not measured
    many = measured(cascade.release, sensitivity=(0.75, 0.55, 0.93), **common)
    said = read(many, 0.1, Finding.NOT_SUSPECTED)
    assert said.count("25 % [7, 45]") == 1  # in one sentence
    assert "<p class='caution'>“Not suspected” does not rule out a finding" in said


def test_a_part_that_is_calibrated_badly_says_so_outside_of_the_fold(cascade):
    release = measured(cascade.release, ece=(0.194, 0.06, 0.33))
    seen, _, folded = read(release, 0.5, Finding.DOUBTFUL).partition("<details")
    assert "<p class='caution'>Hand probabilities were off by 19 percentage points" in seen
    assert "calibrated" not in seen and "calibration error 19 percentage points" in folded
    assert "a positive label meant" not in seen + folded


def test_a_part_that_is_not_sure_is_marked_and_not_said_again(cascade):
    part = BodyPartPrediction(BodyPart.HAND, 0.6, {BodyPart.HAND: 0.6, BodyPart.ELBOW: 0.4})
    fracture = FracturePrediction(0.5, Finding.DOUBTFUL)
    view = ImageResult("a.png", "0" * 64, None, "r", "0" * 64, 1.0, part, fracture)
    study = combine("s", [view], cascade.release)
    said = _reading.study(study, cascade.release)
    assert "<span class='check'>Not sure: 60&nbsp;%</span>" in said
    assert study.notes and "Please check" not in said
    chosen = combine("s", [replace(view, chosen=BodyPart.HAND)], cascade.release)
    assert "check" not in _reading.study(chosen, cascade.release)


@pytest.mark.parametrize(("looks_like", "hint"), [("", True), ("knee", True), (STRANGER, False)])
def test_what_was_refused_can_be_chosen_where_the_reason_names_the_parts(cascade, looks_like, hint):
    seen = BodyPartPrediction(BodyPart.OTHER, 0.9, {BodyPart.OTHER: 0.9}, looks_like)
    reason = of_part(seen, cascade.release)
    view = ImageResult("a.png", "0" * 64, reason, "r", "0" * 64, 1.0, seen)
    said = _reading.study(combine("s", [view], cascade.release), cascade.release)
    assert "<span>Not recognised</span>" in said and f"<p class='caution'>{reason}" in said
    assert ("choose it under “Body part is wrong?”" in said) == hint


def test_pointing_is_said_only_where_it_was_measured(cascade):
    assert pointing(cascade.release, "Grad-CAM") is None
    common = {"stage": "heatmap", "part": "Grad-CAM", "metric": "pointing game", "level": "image"}
    figures = [
        common | {"source": "simulated", "value": 0.9, "low": 0.8, "high": 1.0, "n": 500},
        common | {"source": "fracatlas", "value": 0.6, "low": 0.5, "high": 0.7, "n": 80},
    ]
    estimate, n = pointing(replace(cascade.release, metrics={"figures": figures}), "Grad-CAM")
    assert (estimate.value, estimate.low, n) == (0.6, 0.5, 80)


def test_pointing_says_how_near_the_box_counts_and_what_the_centre_gets(cascade):
    common = {"stage": "heatmap", "metric": "pointing game", "level": "image", "source": "all"}
    heat = common | {"part": "Grad-CAM", "value": 0.45, "low": 0.34, "high": 0.55, "n": 96}
    centre = common | {"part": CENTRE, "value": 0.32, "low": 0.24, "high": 0.41, "n": 96}
    release = replace(cascade.release, metrics={"figures": [heat, centre]})
    said = _reading.pointed(release, "Grad-CAM").replace("&nbsp;", " ")
    assert "its peak lay in or near the marked lesion in 45 % [34, 55] of 96 measured (" in said
    assert "centre alone: 32 %)" in said
    alone = replace(cascade.release, metrics={"figures": [heat]})
    assert "centre" not in _reading.pointed(alone, "Grad-CAM")


def test_all_or_none_is_no_interval_of_no_width(cascade):
    """Resampling a few dozen that are all right gives 100 % each time, which tells nothing."""
    common = {"stage": "fracture", "part": "hand", "level": "image", "source": "all", "n": 64}
    limits = {
        "sensitivity (specific)": (0.36, 0.2, 0.55),
        "specificity (specific)": (1.0, 1.0, 1.0),
        "sensitivity (sensitive)": (1.0, 0.9, 1.0),
        "specificity (sensitive)": (0.0, 0.0, 0.0),
        "accuracy (sensitive)": (0.7, 0.7, 0.7),  # of one patient
    }
    figures = [
        common | {"metric": name} | dict(zip(("value", "low", "high"), values, strict=True))
        for name, values in limits.items()
    ]
    release = Release.from_json(cascade.release.raw | {"metrics": {"figures": figures}})
    specific = performance(release, BodyPart.HAND, "specific")
    assert specific.sensitivity == Estimate(0.36, 0.2, 0.55)
    assert specific.specificity == Estimate(1.0)
    sensitive = performance(release, BodyPart.HAND, "sensitive")
    assert sensitive.sensitivity == Estimate(1.0, 0.9, 1.0)
    assert sensitive.specificity == Estimate(0.0)
    [alone] = [f for f in release.metrics["figures"] if f["metric"] == "accuracy (sensitive)"]
    assert alone["value"] == 0.7 and alone["low"] is alone["high"] is None
