"""Releases with one, two and three networks a part: each mode gives what it says it gives."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from core import files, manifest, report
from core.__main__ import main
from core.cascade import Cascade
from core.errors import WeightsInvalid
from core.explain import grad_cam
from core.manifest import Release
from core.quality import contradict, finding_of, sigmoid
from core.registry import Registry
from core.study import combine
from core.types import (
    BodyPart,
    Finding,
    FracturePrediction,
    ImageResult,
    MemberPrediction,
    Mode,
    OperatingPoint,
)
from tests import scored
from tests.ensembles import NAMES, POINTS, with_members
from tests.test_cascade import RADIOGRAPHS
from training import card, measured

HAND = BodyPart.HAND


@pytest.fixture(scope="module")
def three(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three")
    with_members(weights, folder, *NAMES)
    return folder


@pytest.fixture(scope="module")
def members(three: Path) -> Cascade:
    return Cascade.load(three, device="cpu")


def test_the_card_has_the_thresholds_of_both_modes(members):
    text = card.model_card(members.release)
    sensitive = {p["name"]: p["threshold"] for p in POINTS}["sensitive"]
    for mode, threshold in ((Mode.FAST, 0.3), (Mode.ENSEMBLE, sensitive)):
        assert f"| hand | {mode} | fracture | sensitive | {threshold:.3f} |" in text


def test_figures_of_another_mode_are_told_from_those_of_another_release(members, tmp_path):
    release, other = members.release, members.release.in_mode(Mode.ENSEMBLE)
    assert release.mode is Mode.FAST
    path = tmp_path / "test" / "metrics.json"
    about = {"split": "test", "figures": [scored.FIGURE]}
    for sha256, said in ((other.sha256, "--mode fast"), ("0" * 64, "another release or split")):
        files.write_json(path, about | {"release_sha256": sha256})
        with pytest.raises(measured.FiguresInvalid, match=said):
            measured.of_candidate(tmp_path, release)


def test_fast_is_what_it_was_to_the_last_bit(cascade, members):
    assert members.release.mode is Mode.FAST and members.release.modes == (*Mode,)
    assert members.release.networks == "ResNet50"
    first, second, third, last = ("ResNet50", *NAMES)
    together = members.in_mode(Mode.ENSEMBLE).release.networks
    assert together == f"{first}, {second}, {third} and {last}"
    for one, other in zip(
        cascade.predict(RADIOGRAPHS[:3], HAND), members.predict(RADIOGRAPHS[:3], HAND), strict=True
    ):
        assert one.fracture == other.fracture and other.fracture.members == ()
        np.testing.assert_array_equal(one.heatmap.values, other.heatmap.values)
        assert set(other.to_json()["fracture"]) == {"probability", "finding"}


def test_the_average_is_of_calibrated_logits_by_weight(members):
    ensemble = members.in_mode(Mode.ENSEMBLE)
    [fast] = members.predict(RADIOGRAPHS[:1], HAND)
    [result] = ensemble.predict(RADIOGRAPHS[:1], HAND)
    said = result.fracture.members
    assert [m.name for m in said] == ["ResNet50", *NAMES]
    assert [m.weight for m in said] == [0.25, 0.25, 0.25, 0.25]
    assert said[0].probability == fast.fracture.probability
    odds = [np.log(m.probability / (1 - m.probability)) for m in said]
    average = np.dot([m.weight for m in said], odds)
    assert result.fracture.probability == pytest.approx(sigmoid(average, 0.9, 0.05), abs=1e-9)
    record = result.to_json()["fracture"]
    assert [m["name"] for m in record["members"]] == ["ResNet50", *NAMES]
    assert record["disagreement"] == pytest.approx(np.ptp([m.probability for m in said]), abs=1e-6)
    assert FracturePrediction.from_json(record).members[1].name == "EfficientNet-Lite2"


def test_the_map_of_the_whole_adds_up_those_of_the_members(members):
    """On the finest grid (6x6, of cells and patches); each map's own peak is its probability."""
    [result] = members.in_mode(Mode.ENSEMBLE).predict(RADIOGRAPHS[:1], HAND)
    shapes = [m.heatmap.values.shape for m in result.fracture.members]
    assert shapes == [(3, 3), (3, 3), (6, 6), (6, 6)] and result.heatmap.values.shape == (6, 6)
    for member in result.fracture.members:
        top = member.heatmap.values.max()
        assert top == pytest.approx(member.probability, rel=1e-5)
    [fast] = members.predict(RADIOGRAPHS[:1], HAND)
    np.testing.assert_array_equal(result.fracture.members[0].heatmap.values, fast.heatmap.values)
    top = result.heatmap.values.max()
    assert top == pytest.approx(result.fracture.probability, rel=1e-5)


def test_one_network_of_weight_one_has_the_map_of_the_whole():
    from core.explain import joint_grad_cam

    rng = np.random.default_rng(0)
    maps, row = rng.normal(size=(5, 4, 4)).astype(np.float32), rng.normal(size=5)
    row = row.astype(np.float32)
    alone = grad_cam(maps, row, 0.7)
    small = np.zeros((2, 2), np.float32)
    evidence = np.tensordot(row, maps, axes=1)
    joint = joint_grad_cam([evidence, small], [1.0, 0.0], 0.7)
    np.testing.assert_allclose(joint.values, alone.values, atol=1e-6)
    finer = cv2.resize(small + 1, (4, 4)) * 0.5
    both = joint_grad_cam([evidence, small + 1], [0.5, 0.5], 0.7).values
    expected = np.maximum(0.5 * evidence + finer, 0)
    np.testing.assert_allclose(both, 0.7 * expected / expected.max(), atol=1e-6)


def test_alone_and_in_a_batch_an_ensemble_says_the_same(members):
    ensemble = members.in_mode(Mode.ENSEMBLE)
    together = ensemble.predict(RADIOGRAPHS[:4])
    for radiograph, result in zip(RADIOGRAPHS[:4], together, strict=True):
        [alone] = ensemble.predict([radiograph])
        assert alone.fracture == result.fracture


def test_the_report_names_the_networks(members):
    ensemble = members.in_mode(Mode.ENSEMBLE)
    [result] = ensemble.predict(RADIOGRAPHS[:1], HAND)
    study = combine("", [result], ensemble.release)
    made = report.StudyReport(study, (None,), ensemble.release, datetime(2026, 11, 29, tzinfo=UTC))
    assert report.as_json(made)["release"]["mode"] == "ensemble"
    assert len(report.as_json(made)["views"][0]["fracture"]["members"]) == 1 + len(NAMES)
    assert report.pdf(made).startswith(b"%PDF")


def test_explain_gives_the_whole_and_of_the_library_the_resnet(members):
    ensemble = members.in_mode(Mode.ENSEMBLE)
    [result] = ensemble.predict(RADIOGRAPHS[:1], HAND)
    heatmap = ensemble.explain(RADIOGRAPHS[0], HAND)
    np.testing.assert_array_equal(heatmap.values, result.heatmap.values)
    other = ensemble.explain(RADIOGRAPHS[0], HAND, "Eigen-CAM").values
    assert other.shape == (6, 6)
    alone = result.fracture.members[0].probability
    assert abs(alone - result.fracture.probability) > 1e-4
    assert other.max() == pytest.approx(alone, abs=1e-6)


def test_each_mode_has_its_points_and_its_digest(three):
    fast = Registry.open(three).find("champion")
    ensemble = fast.in_mode(Mode.ENSEMBLE)
    assert ensemble.in_mode(Mode.FAST) == fast
    assert [p.threshold for p in fast.stages["hand"].operating_points] == [0.3, 0.7]
    found = [p.threshold for p in ensemble.stages["hand"].operating_points]
    assert found == [p["threshold"] for p in POINTS]
    assert fast.sha256 != ensemble.sha256
    assert fast.with_digest(ensemble.sha256) == ensemble
    assert fast.with_digest("0" * 64) is None


def test_a_digest_tells_the_mode_and_the_optional_parts(three):
    """Whatever is installed now: a part that came or went orphans no earlier study."""
    raw = Registry.open(three).find("champion").raw
    optional = {n: s | {"optional": n in ("elbow", "hand")} for n, s in raw["stages"].items()}
    entry = raw | {"stages": optional}
    parts = [
        dict.fromkeys(absent, ("a.safetensors",)) for absent in ("", ["hand"], ["elbow", "hand"])
    ]
    ways = [Release.from_json(entry, None, absent) for absent in parts]
    ways += [way.in_mode(mode) for way in ways for mode in way.modes[1:]]
    assert len({way.sha256 for way in ways}) == len(ways) > 4
    for now in ways:
        for then in ways:
            found = now.with_digest(then.sha256)
            assert found is not None and found.sha256 == then.sha256
            assert (found.mode, found.parts) == (then.mode, then.parts)
        assert now.with_digest("0" * 64) is None


def test_the_choices_of_optional_parts_that_are_tried_have_a_bound(three, monkeypatch):
    raw = Registry.open(three).find("champion").raw
    many = {f"part_{n}": raw["stages"]["hand"] | {"optional": True} for n in range(40)}
    release = Release.from_json(raw | {"stages": raw["stages"] | many})
    without = Release.from_json(release.raw, None, {"part_7": ()})
    found = release.with_digest(without.sha256)
    assert found is not None and found.parts == without.parts  # the nearest ones come first
    with monkeypatch.context() as patched:
        tried = 0

        def counted(*_):
            nonlocal tried
            tried += 1
            return ""

        patched.setattr(manifest, "_digest_in", counted)
        assert release.with_digest("0" * 64) is None
    assert tried == len(release.modes) * manifest.MOST_ABSENCES


def test_a_release_may_have_the_ensemble_as_its_default(weights, tmp_path):
    entry = with_members(weights, tmp_path, "EfficientNet-Lite2", default="ensemble")
    cascade = Cascade.load(tmp_path, device="cpu")
    assert cascade.release.mode is Mode.ENSEMBLE
    [result] = cascade.predict(RADIOGRAPHS[:1], HAND)
    assert len(result.fracture.members) == 2
    assert cascade.in_mode(Mode.FAST).predict(RADIOGRAPHS[:1], HAND)[0].fracture.members == ()
    assert entry["default"] == "ensemble"


def test_a_release_without_members_has_one_mode(cascade):
    assert cascade.release.modes == (Mode.FAST,)
    with pytest.raises(WeightsInvalid, match="no mode ensemble"):
        cascade.in_mode(Mode.ENSEMBLE)


def test_what_is_wrong_with_a_member_is_one_sentence(weights, tmp_path):
    entry = with_members(weights, tmp_path, "EfficientNet-Lite2")
    file = tmp_path / "random" / "efficientnet-lite2.safetensors"
    whole = file.read_bytes()
    file.unlink()
    with pytest.raises(WeightsInvalid, match=r"efficientnet-lite2\.safetensors cannot be read"):
        Cascade.load(tmp_path)
    file.write_bytes(whole)

    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    [listed] = manifest["releases"]
    listed["architectures"] = {k: "swin" for k in entry["architectures"]}
    path.write_text(json.dumps(manifest))
    with pytest.raises(WeightsInvalid, match="architecture swin"):
        Cascade.load(tmp_path)
    listed["architectures"] = {}
    path.write_text(json.dumps(manifest))
    with pytest.raises(WeightsInvalid, match="do not fit the network"):
        Cascade.load(tmp_path)
    listed["stages"]["hand"]["members"][0]["weight"] = 1.2
    path.write_text(json.dumps(manifest))
    with pytest.raises(WeightsInvalid, match="weights that add up to 1"):
        Cascade.load(tmp_path)
    listed["stages"]["hand"]["members"][0] |= {"weight": 0.2, "name": "<b>"}
    path.write_text(json.dumps(manifest))
    with pytest.raises(WeightsInvalid, match="short name of its own"):
        Registry.open(tmp_path).find("champion", Mode.ENSEMBLE)


def points() -> list[OperatingPoint]:
    return [OperatingPoint(**p) for p in POINTS]


@pytest.mark.parametrize(
    ("members", "finding"),
    [
        ((), Finding.SUSPECTED),
        ((0.9, 0.7), Finding.SUSPECTED),
        ((0.9, 0.4), Finding.SUSPECTED),
        ((0.9, 0.34), Finding.DOUBTFUL),
        ((0.64, 0.1), Finding.SUSPECTED),
    ],
)
def test_members_that_contradict_each_other_make_it_doubtful(members, finding):
    assert finding_of(0.8, points(), members) is finding
    assert contradict(members, points()) == (finding is Finding.DOUBTFUL)


def test_a_study_has_the_mean_of_each_member_and_says_that_they_contradict(three):
    release = Registry.open(three).find("champion", Mode.ENSEMBLE)

    def view(one: float, two: float) -> ImageResult:
        said = (MemberPrediction("ResNet50", one, 0.5), MemberPrediction("Lite2", two, 0.5))
        fracture = FracturePrediction((one + two) / 2, Finding.SUSPECTED, said)
        return ImageResult("a", None, None, "r", "s", 1.0, None, fracture, chosen=HAND)

    study = combine("", [view(0.9, 0.2), view(0.9, 0.4)], release)
    assert [m.probability for m in study.members] == pytest.approx([0.9, 0.3])
    assert study.finding is Finding.DOUBTFUL
    assert "The networks contradict each other (ResNet50 90 %, Lite2 30 %)" in study.notes[0]
    calm = combine("", [view(0.9, 0.7)], release)
    assert calm.finding is Finding.SUSPECTED and calm.notes == ()


def test_the_command_takes_the_mode(three, tmp_path, capsys, monkeypatch):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), RADIOGRAPHS[0].pixels)
    monkeypatch.setattr("core.cascade.Cascade._refusal", lambda *_: None)
    monkeypatch.setattr("core.quality.collapse", lambda *_: np.array([9.0, 0, 0, 0]))
    both = []
    for mode in Mode:
        assert main(["--weights", str(three), "--mode", mode, "predict", "--json", str(path)]) == 0
        both.append(json.loads(capsys.readouterr().out))
    assert "members" not in both[0]["fracture"]
    assert len(both[1]["fracture"]["members"]) == 1 + len(NAMES)
    assert both[0]["release_sha256"] != both[1]["release_sha256"]
