"""Metrics against values worked out by hand, and intervals that mean something."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from training import metrics


def test_discrimination_and_agreement():
    truth = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    decision = np.array([1, 1, 0, 1, 0, 0, 0, 0])
    assert metrics.sensitivity(truth, decision) == pytest.approx(2 / 3)
    assert metrics.specificity(truth, decision) == pytest.approx(4 / 5)
    assert metrics.accuracy(truth, decision) == pytest.approx(6 / 8)
    assert metrics.kappa(truth, decision) == pytest.approx(sk.cohen_kappa_score(truth, decision))
    assert metrics.auroc(truth, [0.9, 0.8, 0.3, 0.4, 0.1, 0.1, 0.2, 0.2]) == pytest.approx(14 / 15)


@pytest.mark.parametrize("steps", [3, 1000])  # of the scores: many are equal, or nearly none
def test_areas_are_those_of_scikit_learn(steps):
    rng = np.random.default_rng(steps)
    for n in (2, 3, 10, 200):
        truth = rng.permutation(np.arange(n) % 3 == 0).astype(float)
        score = rng.integers(steps, size=n) / steps
        assert metrics.auroc(truth, score) == pytest.approx(sk.roc_auc_score(truth, score))
        expected = sk.average_precision_score(truth, score)
        assert metrics.auprc(truth, score) == pytest.approx(expected)
    for area in (metrics.auroc, metrics.auprc):
        with pytest.raises(ValueError, match="not a number"):
            area([0, 1], [0.5, math.nan])


def test_what_is_not_defined_is_nan():
    assert math.isnan(metrics.auroc([1, 1], [0.2, 0.3]))
    assert math.isnan(metrics.sensitivity([0, 0], [0, 1]))
    assert math.isnan(metrics.kappa([1, 1], [1, 1]))
    assert math.isnan(metrics.auprc([0, 0], [0.1, 0.2]))
    assert metrics.bootstrap(metrics.auroc, [], [], []).n == 0


def test_calibration():
    truth = np.tile([0, 0, 0, 1], 50)
    assert metrics.ece(truth, np.full(200, 0.25) + np.arange(200) * 1e-9) < 0.06
    assert metrics.ece(truth, np.full(200, 0.75) + np.arange(200) * 1e-9) == pytest.approx(0.5)
    assert metrics.brier([1, 0], [0.8, 0.4]) == pytest.approx((0.04 + 0.16) / 2)


def test_the_interval_covers_and_is_repeatable():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        sample = (rng.random(120) < 0.7).astype(float)
        e = metrics.bootstrap(
            metrics.accuracy, np.ones(120), sample, np.arange(120).astype(str), 300, seed=trial
        )
        covered += e.low <= 0.7 <= e.high
    assert covered >= 52
    again = metrics.bootstrap(
        metrics.accuracy, np.ones(120), sample, np.arange(120).astype(str), 300, seed=59
    )
    assert again == e


def test_patients_are_resampled_whole():
    """Ten copies of each picture under one patient must not make the interval narrower."""
    rng = np.random.default_rng(1)
    right = (rng.random(40) < 0.7).astype(float)
    who = np.arange(40).astype(str)
    one = metrics.bootstrap(metrics.accuracy, np.ones(40), right, who)
    ten = metrics.bootstrap(
        metrics.accuracy, np.ones(400), np.repeat(right, 10), np.repeat(who, 10)
    )
    assert ten.high - ten.low == pytest.approx(one.high - one.low, rel=0.1)
    naive = metrics.bootstrap(
        metrics.accuracy, np.ones(400), np.repeat(right, 10), np.arange(400).astype(str)
    )
    assert naive.high - naive.low < 0.6 * (one.high - one.low)


def test_bins_of_calibration_hold_neighbours():
    found = metrics.calibration([0, 1, 0, 1, 1], [0.1, 0.9, 0.2, 0.4, 0.8], bins=2)
    assert [(b.n, b.share) for b in found] == [(3, pytest.approx(1 / 3)), (2, 1.0)]
    assert [b.mean for b in found] == pytest.approx([0.7 / 3, 0.85])
    ece = (3 * (1 / 3 - 0.7 / 3) + 2 * (1 - 0.85)) / 5
    assert metrics.ece([0, 1, 0, 1, 1], [0.1, 0.9, 0.2, 0.4, 0.8], bins=2) == pytest.approx(ece)


def test_precision_is_not_defined_where_nothing_is_called_positive():
    assert metrics.precision([1, 0, 1, 0], [1, 1, 1, 0]) == pytest.approx(2 / 3)
    assert math.isnan(metrics.precision([1, 0], [0, 0]))


def test_a_calibrated_model_has_an_ece_too():
    """Of few pictures a large one; labels drawn from the probabilities lie within its interval."""
    p = np.random.default_rng(0).uniform(0.05, 0.95, 60)
    few, many = metrics.ece_of_calibrated(p), metrics.ece_of_calibrated(np.tile(p, 30), draws=100)
    assert few.n == 60 and 0.08 < few.value < 0.2
    assert many.value < 0.03
    rng = np.random.default_rng(1)
    inside = [few.low <= metrics.ece(rng.random(60) < p, p) <= few.high for _ in range(200)]
    assert 0.9 < np.mean(inside) <= 1.0
    assert metrics.ece(np.zeros(60), p) > few.high  # a model that is wrong is told apart
    assert math.isnan(metrics.ece_of_calibrated([]).value)


def test_the_interval_of_ece_has_its_value_inside():
    """Where all is calibrated what is measured is bias alone, and every draw has it twice."""
    rng, outside = np.random.default_rng(5), 0
    for _ in range(20):
        p = rng.random(100)
        truth = (rng.random(100) < p).astype(float)
        plain, wide = (
            metrics.bootstrap(metrics.ece, truth, p, np.arange(100), 100, biased=b)
            for b in (False, True)
        )
        outside += plain.value < plain.low
        assert wide.low <= wide.value <= wide.high
        assert wide.low < plain.low <= plain.high <= wide.high
    assert outside > 0


def test_what_is_always_right_is_not_certain():
    """Twenty patients of twenty: at least 83 % by Clopper and Pearson, and not [1, 1]."""
    n = 20
    truth = np.repeat([1.0, 0.0], [n, 3 * n])
    who = np.arange(4 * n).astype(str)
    low = stats.binomtest(n, n).proportion_ci(0.95).low

    def found(metric, score, groups=who):
        e = metrics.bootstrap(metric, truth, score, groups, 100)
        return e.low, e.high

    assert found(metrics.sensitivity, truth) == (pytest.approx(low), 1.0)
    assert found(metrics.sensitivity, 1 - truth) == (0.0, pytest.approx(1 - low))
    assert found(metrics.auroc, truth) == (pytest.approx(low), 1.0)  # by the rarer class
    wider = stats.binomtest(3 * n, 3 * n).proportion_ci(0.95).low
    assert found(metrics.specificity, truth) == (pytest.approx(wider), 1.0)
    all_right = stats.binomtest(4 * n, 4 * n).proportion_ci(0.95).low
    assert found(metrics.accuracy, truth) == (pytest.approx(all_right), 1.0)
    assert found(metrics.mean, np.zeros(4 * n)) == (0.0, pytest.approx(1 - all_right))
    assert found(metrics.kappa, truth)[0] < all_right
    twins = np.repeat(np.arange(2 * n), 2).astype(str)  # patients count, not pictures
    half = stats.binomtest(n // 2, n // 2).proportion_ci(0.95).low
    assert found(metrics.sensitivity, truth, twins) == (pytest.approx(half), 1.0)
    assert np.isnan(found(metrics.brier, truth)).all()  # 0 each time, which is no share
    moved = metrics.bootstrap(metrics.mean, truth, np.full(4 * n, 0.3), who, 100)
    assert moved.value == pytest.approx(0.3) and math.isnan(moved.low) and math.isnan(moved.high)


def test_one_patient_makes_no_interval():
    """Who is drawn again each time: 7 of 10 pictures right is not 0.7 for sure."""
    alone = metrics.bootstrap(metrics.accuracy, np.ones(10), [1] * 7 + [0] * 3, ["a"] * 10, 50)
    assert alone.value == 0.7 and math.isnan(alone.low) and math.isnan(alone.high)
    assert str(alone) == "0.700, no interval (n=10)"
    truth = np.array([1.0, 1.0] + [0.0] * 30)
    who = ["a", "a", *map(str, range(30))]
    said = np.array([1.0, 0.0] + [0.0, 1.0] * 15)
    positive = metrics.bootstrap(metrics.sensitivity, truth, said, who, 50)
    assert positive.value == 0.5 and math.isnan(positive.low)
    negative = metrics.bootstrap(metrics.specificity, truth, said, who, 50)
    assert negative.low < 0.5 < negative.high  # thirty patients


@pytest.mark.parametrize("area", [metrics.auroc, metrics.auprc])
def test_an_area_has_an_interval_from_ten_patients_of_either_class_on(area):
    """With fewer it would hold the true one far less often than it says."""
    rng = np.random.default_rng(2)
    truth = np.repeat([1.0, 0.0], [20, 40])
    score = rng.random(60) + 0.3 * truth

    def found(positives: int) -> metrics.Estimate:
        who = [f"p{k % positives}" for k in range(20)] + [f"n{k}" for k in range(40)]
        return metrics.bootstrap(area, truth, score, who, 50)

    assert found(10).low < found(10).value < found(10).high
    few = found(9)  # of as many pictures
    assert few.value == found(10).value and math.isnan(few.low) and math.isnan(few.high)
    turned = [f"n{k % 9}" for k in range(20)] + [f"p{k}" for k in range(40)]
    assert math.isnan(metrics.bootstrap(area, 1 - truth, score, turned, 50).low)
