"""Calibration, findings, rejection, and their fitting."""

from __future__ import annotations

import numpy as np
import pytest

from core.manifest import Stage
from core.quality import FeatureSpace, collapse, finding_of, most_like, sigmoid, softmax
from core.types import STRANGER, BodyPart, Finding, OperatingPoint
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
    assert isinstance(sigmoid(np.float32(0.0)), float)


def test_an_array_of_logits_has_the_probabilities_of_each_of_them():
    """Calibration has arrays, a result one logit: a threshold must mean the same to both."""
    logits = np.random.default_rng(0).normal(0, 4, (7, 9))
    found = sigmoid(logits, 1.3, -0.2)
    assert found.dtype == np.float64 and found.shape == (7, 9)
    assert found.ravel().tolist() == [sigmoid(float(x), 1.3, -0.2) for x in logits.ravel()]
    assert sigmoid(np.zeros(0)).shape == (0,)


PARTS = (BodyPart.ELBOW, BodyPart.HAND, BodyPart.SHOULDER)
KINDS = ("elbow", "hand", "shoulder", "chest", "lower_leg", "stranger", "other")


def test_kinds_of_other_add_up():
    logits = np.random.default_rng(0).normal(0, 3, (5, len(KINDS)))
    fine, coarse = softmax(logits), softmax(collapse(logits, KINDS, PARTS))
    np.testing.assert_allclose(coarse[:, :3], fine[:, :3], atol=1e-12)
    np.testing.assert_allclose(coarse[:, 3], fine[:, 3:].sum(1), atol=1e-12)


def test_four_classes_collapse_to_themselves():
    logits = np.array([0.5, -2.0, 800.0, -900.0])
    np.testing.assert_array_equal(
        collapse(logits, ("elbow", "hand", "shoulder", "other"), PARTS), logits
    )
    moved = collapse(logits, ("other", "elbow", "hand"), PARTS)  # another order, and no shoulder
    np.testing.assert_array_equal(moved, [-2.0, 800.0, -np.inf, 0.5])


@pytest.mark.parametrize(
    ("logits", "name"),
    [
        ([9, 0, 0, 2, 0, 0, 0], "chest"),  # whatever the parts of the cascade say
        ([0, 0, 0, 0, 5, 0, 0], "lower leg"),
        ([0, 0, 0, 1, 1, 0, 0], ""),  # none has more than half
        ([0, 0, 0, 0, 0, 0, 5], ""),  # "other" names nothing
    ],
)
def test_what_an_other_looks_like(logits, name):
    assert most_like(np.array(logits, float), KINDS, PARTS) == name


def test_temperature_and_platt_recover_what_was_put_in():
    rng = np.random.default_rng(0)
    z = rng.normal(0, 2, 20_000)
    truth = (rng.random(20_000) < 1 / (1 + np.exp(-z))).astype(float)
    temperature, bias = calibrate.platt({"hand": z * 3.0 + 1.5}, {"hand": truth})["hand"]
    assert temperature == pytest.approx(3.0, rel=0.05)
    assert bias == pytest.approx(-0.5, abs=0.05)
    logits = np.stack([np.zeros_like(z), z * 3.0], 1)
    assert calibrate.temperature(logits, truth.astype(int)) == pytest.approx(3.0, rel=0.05)


def test_calibration_never_turns_an_answer_round():
    z = np.linspace(-2, 2, 40)
    temperature, _ = calibrate.platt({"hand": z}, {"hand": (z < 0).astype(float)})["hand"]
    assert temperature > 0


def _points(probability, truth):
    """By part and name."""
    found = calibrate.operating_points(probability, truth)
    return {part: {p["name"]: p for p in points} for part, points in found.items()}


def test_operating_points_keep_their_promises():
    rng = np.random.default_rng(1)
    truth = (rng.random(200) < 0.4).astype(float)
    probability = 1 / (1 + np.exp(-(rng.normal(0, 1, 200) + 1.5 * truth)))
    found = _points({"hand": probability}, {"hand": truth})["hand"]
    assert found["sensitive"]["sensitivity"] >= 0.95
    assert found["specific"]["specificity"] >= 0.90
    assert found["balanced"]["sensitivity"] + found["balanced"]["specificity"] >= 1.4
    above = probability >= found["specific"]["threshold"]
    assert found["specific"]["specificity"] == pytest.approx((~above)[truth == 0].mean())


def test_the_sensitive_point_is_never_the_higher_one():
    """Of a part that is told apart well, whose two points would stand the other way round."""
    truth = np.repeat([0.0, 1.0], 30)
    probability = np.concatenate([np.linspace(0.01, 0.3, 30), np.linspace(0.5, 0.99, 30)])
    probability[3] = 0.6
    found = _points({"hand": probability}, {"hand": truth})["hand"]
    assert found["sensitive"]["threshold"] < found["specific"]["threshold"]
    for point in (found["sensitive"], found["specific"]):
        assert point["sensitivity"] >= 0.95 and point["specificity"] >= 0.90
    assert set(found["sensitive"]) == {"name", "threshold", "sensitivity", "specificity", "n"}


def test_a_part_of_few_pictures_borrows_from_the_others_where_its_points_lie():
    """The lowest of nine positives is no quantile: at it, of many more, a third would be missed."""
    rng = np.random.default_rng(2)

    def drawn(positives, negatives):
        truth = np.repeat([1.0, 0.0], [positives, negatives])
        return sigmoid(rng.normal(2 * truth - 1, 1.2)), truth

    many, few = drawn(400, 600), drawn(9, 30)
    lucky = np.where(few[1] == 1, np.clip(few[0], 0.6, None), few[0])
    alone = {
        p: _points({p: s}, {p: t})[p] for p, s, t in (("hand", *many), ("elbow", lucky, few[1]))
    }
    both = _points({"hand": many[0], "elbow": lucky}, {"hand": many[1], "elbow": few[1]})
    assert alone["elbow"]["sensitive"]["threshold"] > 0.5
    assert both["elbow"]["sensitive"]["threshold"] < 0.3
    assert both["elbow"]["sensitive"]["sensitivity"] == 1.0  # and says what it is on its own
    assert both["elbow"]["sensitive"]["n"] == 39
    for name in ("sensitive", "specific", "balanced"):  # a part with many keeps its own
        near = pytest.approx(alone["hand"][name]["threshold"], abs=0.01)
        assert both["hand"][name]["threshold"] == near


def test_no_point_moves_up_to_the_lowest_positive_for_what_others_reach():
    """In the gap of a part with few pictures the point stays in the middle, however far apart the
    positives and negatives of the others lie, and however many values they have in the gap."""
    rng = np.random.default_rng(4)
    own = np.concatenate([np.linspace(0.02, 0.1, 30), np.linspace(0.5, 0.95, 9)])
    truth = {"elbow": np.repeat([0.0, 1.0], [30, 9]), "hand": np.repeat([0.0, 1.0], 200)}
    other = np.concatenate([rng.uniform(0.01, 0.4, 200), rng.uniform(0.6, 0.99, 200)])
    found = _points({"elbow": own, "hand": other}, truth)["elbow"]
    assert found["sensitive"]["threshold"] == pytest.approx(0.3)


def test_a_part_reaches_what_is_asked_on_its_own_pictures_too():
    """However high the positives of the others lie."""
    hard, easy = np.linspace(0.05, 0.9, 40), np.linspace(0.8, 0.99, 40)
    probability = {p: np.concatenate([np.linspace(0.01, 0.5, 40), high])
                   for p, high in (("hand", hard), ("elbow", easy))}  # fmt: skip
    truth = dict.fromkeys(probability, np.repeat([0.0, 1.0], 40))
    for points in _points(probability, truth).values():
        assert points["sensitive"]["sensitivity"] >= 0.95
        assert points["specific"]["specificity"] >= 0.90


def test_a_part_that_is_mostly_positive_has_its_points_beside_others(caplog):
    """Below all of its values half of the other part's positives lie: no threshold did for both,
    and there was no candidate."""
    rng = np.random.default_rng(0)
    elbow, hand = np.repeat([0.0, 1.0], [8, 32]), np.repeat([0.0, 1.0], [60, 20])
    probability = {"elbow": 0.6 + 0.1 * elbow, "hand": 0.02 + 0.1 * hand}
    probability = {p: v + rng.uniform(0, 0.29, len(v)) for p, v in probability.items()}
    found = _points(probability, {"elbow": elbow, "hand": hand})
    alone = _points({"elbow": probability["elbow"]}, {"elbow": elbow})
    assert found["elbow"]["sensitive"] == alone["elbow"]["sensitive"]
    assert "elbow: no threshold has the sensitivity" in caplog.text
    assert found["hand"]["specific"]["specificity"] >= 0.90


def test_distance_tells_outliers():
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(5, 40))
    inside = (rng.normal(size=(300, 5)) @ basis).astype(np.float32)
    inside += rng.normal(0, 0.01, inside.shape).astype(np.float32)
    space = FeatureSpace.fit(inside, components=5)
    typical = np.median([space.distance(f) for f in inside])
    assert space.distance(inside.mean(0) + 20 * basis[0].astype(np.float32)) > 3 * typical
    assert space.distance(rng.normal(size=40).astype(np.float32)) > 10 * typical


def test_parts_share_a_slope_and_keep_their_own_share_of_positives():
    rng = np.random.default_rng(0)
    logits = {p: rng.normal(size=4000) for p in ("elbow", "hand")}
    odds = {"elbow": -1.0, "hand": 1.0}
    truth = {
        p: (rng.random(4000) < 1 / (1 + np.exp(-(z + odds[p])))).astype(float)
        for p, z in logits.items()
    }
    found = calibrate.platt({p: 2.0 * z for p, z in logits.items()}, truth)
    assert found["elbow"][0] == found["hand"][0] == pytest.approx(2.0, rel=0.1)
    assert {p: b for p, (_, b) in found.items()} == pytest.approx(odds, abs=0.15)


def test_a_share_of_positives_that_is_known_moves_the_bias_as_bayes_says():
    rng = np.random.default_rng(0)
    truth = np.repeat([1.0, 0.0], [4000, 16_000])
    z = rng.normal(2 * truth - 1, 1)  # the slope is 2, the bias at one half is 0
    found = calibrate.platt({"shoulder": z}, {"shoulder": truth}, {"shoulder": 0.5})["shoulder"]
    assert found == (pytest.approx(0.5, rel=0.05), pytest.approx(0.0, abs=0.1))
    found = calibrate.platt({"shoulder": z}, {"shoulder": truth})["shoulder"]
    assert found == (pytest.approx(0.5, rel=0.05), pytest.approx(np.log(0.25), abs=0.1))


def test_other_takes_as_much_as_it_may():
    """Of 200 supported radiographs at most two are lost; one more step would lose a third."""
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], [200, 300])
    logits = np.stack([np.where(truth == 0, 2.0, -2.0) + rng.normal(0, 1, 500), np.zeros(500)], 1)
    parts = np.array([True, False])
    shift = calibrate.shift(logits, truth == 0, parts, ~parts, lost=0.01)
    lost = [int((logits[:200, 0] < s).sum()) for s in (shift, shift + 2e-6)]
    assert lost == [2, 3]


def test_others_are_raised_no_further_than_it_takes_to_refuse_most_of_them():
    """Where the share that may be lost would refuse more of the others than asked, less is lost."""
    rng = np.random.default_rng(0)
    classes = ("elbow", "hand", "shoulder", "foot", "other")
    kinds = np.repeat([1, 3], [400, 400])
    logits = rng.normal(0, 1, (800, 5))
    logits[np.arange(800), kinds] += 4
    supported = kinds == 1
    parts = np.array([True, True, True, False, False])
    most = calibrate.shift(logits, supported, parts, ~parts, calibrate.LOST)
    found = calibrate.shifts(logits, supported, classes, PARTS)["other_shift"]
    assert found < most
    stage = Stage("t", "b", classes, other_shift=found)
    refused = collapse(logits + stage.shifts(PARTS), classes, PARTS).argmax(1) == 3
    assert refused[~supported].mean() == pytest.approx(calibrate.REFUSED, abs=0.0025)
    assert refused[supported].mean() < calibrate.LOST


def test_what_is_no_radiograph_keeps_its_logit_where_others_are_lowered():
    """Named others that are near to the parts are lowered; a stranger, which is far, is not."""
    rng = np.random.default_rng(0)
    classes = ("elbow", "hand", "shoulder", "foot", STRANGER, "other")
    kinds = np.repeat([1, 3, 4], [300, 300, 100])  # hands, feet, strangers
    logits = rng.normal(0, 1, (700, 6))
    logits[np.arange(700), kinds] += 6
    logits[:300, 3] += 5  # hands look like feet
    found = calibrate.shifts(logits, kinds == 1, classes, PARTS)
    assert found["stranger_shift"] == 0.0
    assert found["other_shift"] < -1.0
    stage = Stage("t", "b", classes, **found)
    assert stage.shifts(PARTS).tolist() == [
        0,
        0,
        0,
        *[found["other_shift"]],
        0,
        found["other_shift"],
    ]
    said = collapse(logits + stage.shifts(PARTS), classes, PARTS).argmax(1)
    assert (said[:300] == 3).sum() <= 3
    assert (said[600:] == 3).mean() == 1.0
    old = Stage("t", "b", classes, other_shift=found["other_shift"])
    assert old.shifts(PARTS)[4] == found["other_shift"]  # as it was before there were two


def test_the_balanced_point_does_not_follow_one_picture():
    """Two far outliers would move the empirical optimum; the smoothed one stays in the middle."""
    rng = np.random.default_rng(1)
    truth = np.repeat([0.0, 1.0], 60)
    z = np.where(truth == 1, 1.5, -1.5) + rng.normal(0, 1, 120)
    probability = 1 / (1 + np.exp(-z))
    assert 0.3 < calibrate.balanced(probability, truth) < 0.7
