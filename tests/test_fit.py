"""How a fit ends early, repeats itself, and weighs its losses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from core.architectures import LITE2_LOCAL
from core.errors import SettingsInvalid
from core.registry import Registry
from core.types import WHOLE, Crop
from tests import small, tiny
from training import candidate, fit, fit_member, initial, joint, metrics, sampling
from training.augment import FLIP, GEOMETRY, RandomJpeg, RandomPhotograph, vary
from training.data import confined
from training.model import JointNetwork
from training.pictures import Pictures, dense_loss, pointing_loss, steady_loss
from training.pictures import loss as loss_of


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with small.runs():
        yield


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> fit.Settings:
    folder = tmp_path_factory.mktemp("fit")
    return fit.Settings(
        data=(f"manifest:{tiny.write(folder, each=3)}",),
        out=str(folder / "run"),
        size=32,
        joint_passes=32,
        branch_passes=16,
        body_part_passes=16,
        batch=16,
        validations=1,
        device="cpu",
    )


def test_two_runs_with_one_seed_give_one_result(settings, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        fit.Run(replace(settings, out=str(folder))).fit()
    assert tiny.events(folders[0]) == tiny.events(folders[1])
    networks = [torch.load(f / "networks.pt", weights_only=True)["networks"] for f in folders]
    torch.testing.assert_close(*networks, rtol=0, atol=0)


def test_patience_ends_a_phase_also_after_an_interruption(settings, tmp_path, monkeypatch):
    """Steps that change nothing: no validation is better than the first."""
    taken = 0

    def step(self, phase, state):
        nonlocal taken
        taken += 1
        if taken == 2:
            raise KeyboardInterrupt
        return 0.5

    monkeypatch.setattr(fit.Run, "_step", step)
    impatient = replace(
        settings,
        out=str(tmp_path),
        joint_passes=128,
        branch_passes=64,
        body_part_passes=64,
        validations=8,
        patience=2,
        minutes_between_checkpoints=0.0,
    )
    with pytest.raises(KeyboardInterrupt):
        fit.Run(impatient).fit()
    fit.Run(impatient).fit()
    places = [(e["phase"], e["seen"]) for e in tiny.events(tmp_path)]
    phases = ("joint", "body_part", "elbow", "hand", "shoulder")
    assert places == [(p, n) for p in phases for n in (0, 16, 32)]


def test_the_losses_of_all_shares_are_the_loss_of_the_batch():
    rng = np.random.default_rng(0)
    parts = ["elbow", "hand", "hand", "mixed", "chest", "hand", "elbow"]
    rows = pd.DataFrame({"part": parts, "positive": [1.0, 0.0, np.nan, 1.0, np.nan, 1.0, 0.0]})
    classes = torch.tensor([0, 1, 1, -100, 3, 1, 0])
    positive = torch.tensor(rows.positive.to_numpy(np.float32, copy=True))
    some = Pictures(rows, np.zeros((7, 1, 1), np.uint8), classes, positive)
    logits = {h: torch.randn(7, n) for h, n in {"body_part": 4, "elbow": 1, "hand": 1}.items()}
    whole = rng.permutation(7)
    drawn = {h: v[whole] for h, v in logits.items()}
    loss = loss_of(drawn, some, whole, whole, 0.1)
    known = [0, 1, 5, 6]
    own = torch.stack([logits[parts[i]][i, 0] for i in known])
    expected = F.cross_entropy(logits["body_part"], classes, label_smoothing=0.1)
    expected += F.binary_cross_entropy_with_logits(own, positive[known] * 0.9 + 0.05)
    torch.testing.assert_close(loss, expected)
    shares = [
        loss_of({h: v[r::3] for h, v in drawn.items()}, some, whole[r::3], whole, 0.1)
        for r in range(3)
    ]
    torch.testing.assert_close(sum(shares), loss)


def test_a_picture_varies_alike_in_any_company():
    grey = torch.rand(6, 1, 32, 32)
    seeds = np.arange(6)
    together = vary(grey.clone(), seeds)
    alone = torch.cat([vary(grey[i : i + 1].clone(), seeds[i : i + 1]) for i in range(6)])
    assert torch.equal(together, alone)
    assert not torch.equal(vary(grey[:1].clone(), [7]), together[:1])


def test_an_unknown_precision_is_refused(settings):
    with pytest.raises(SettingsInvalid, match="one of auto, bf16, fp32"):
        replace(settings, precision="fp8")


def marked(boxes: list[str | None], size: int = 32, crop: Crop = WHOLE) -> Pictures:
    """Positives of the hand, wider than high, with these boxes."""
    rows = pd.DataFrame(
        {"part": "hand", "positive": 1.0, "boxes": boxes, "height": 30, "width": 60}
    )
    rows["crop"] = [crop] * len(boxes)
    canvases = np.zeros((len(boxes), size, size), np.uint8)
    return Pictures(rows, canvases, torch.ones(len(boxes)).long(), torch.ones(len(boxes)))


def test_jpeg_changes_little_and_by_its_seed_alone():
    grey = F.avg_pool2d(torch.rand(1, 1, 72, 72, generator=torch.manual_seed(3)), 8)
    grey = F.interpolate(grey, (64, 64), mode="bilinear")[0]
    store = RandomJpeg((50, 50))
    stored = store(grey)
    assert stored.shape == grey.shape and stored.dtype == grey.dtype
    assert 0 < float((stored - grey).abs().mean()) < 0.02
    assert torch.equal(stored, store(grey))  # one quality, one result
    torch.manual_seed(5)
    first = [RandomJpeg((20, 95))(grey) for _ in range(2)]
    torch.manual_seed(5)
    again = [RandomJpeg((20, 95))(grey) for _ in range(2)]
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], first[1])


def test_a_photograph_is_darker_at_its_edges_veiled_and_banded():
    grey, black = torch.full((1, 64, 64), 0.5), torch.zeros(1, 64, 64)
    off = {"uneven": 0.0, "veil": 0.0, "glare": 0.0, "moire": 0.0}
    assert torch.equal(RandomPhotograph(**off)(grey), grey)
    seen = {}
    for name, strength in {"uneven": 0.5, "veil": 0.3, "glare": 0.5, "moire": 0.2}.items():
        torch.manual_seed(12)  # of which both the reflection and the bands are drawn
        seen[name] = RandomPhotograph(**(off | {name: strength}))
        torch.manual_seed(12)
        changed = seen[name](grey)
        torch.manual_seed(12)
        assert torch.equal(changed, seen[name](grey))
        assert float(changed.min()) >= 0 and float(changed.max()) <= 1.0
        assert float((changed - grey).abs().mean()) > 0.001, name
        torch.manual_seed(12)
        lit = float(seen[name](black).max())
        assert (lit > 0) == (name in ("veil", "glare"))  # light adds, the rest multiplies


def test_boxes_follow_the_geometry_of_their_picture():
    """What is bright only inside its box stays inside it, however the picture is turned."""
    some = marked(["0.5 0.25 0.9 0.75"], size=64)
    canvas = torch.zeros(1, 1, 64, 64)
    canvas[..., 24:40, 32:58] = 1.0  # letterboxed: 32 rows of picture below 16 of border
    for seed in range(6):
        torch.manual_seed(seed)
        turned = FLIP(GEOMETRY(canvas[0]))[0]
        inside = some.place(0, seed, 64)
        assert turned.sum() > 50
        assert float((turned * (inside > 0)).sum() / turned.sum()) > 0.98


def test_boxes_lie_on_the_canvas_of_the_crop():
    """A picture of 30 x 60 of which the right half is seen: the box fills its lower half."""
    some = marked(["0.5 0.5 1 1"], size=64, crop=Crop(0.0, 0.5, 1.0, 1.0))
    whole = marked(["0 0.5 1 1"], size=64)
    whole.rows["width"] = 30
    for seed in range(4):
        torch.testing.assert_close(some.place(0, seed, 8), whole.place(0, seed, 8))
        assert some.place(0, seed, 8).sum() > 10


def test_evidence_inside_the_box_costs_less():
    some = marked(["0 0 0.5 1", None])
    whole, seeds = np.array([0, 1]), np.array([3, 4])
    inside = some.place(0, 3, 4)
    right = {"hand": 8 * torch.stack([inside, inside])}
    wrong = {"hand": 8 * torch.stack([1 - inside, inside])}
    losses = [float(pointing_loss(e, some, whole, seeds, whole)) for e in (right, wrong)]
    assert losses[0] < 0.5
    assert losses[1] > 2
    parts = [pointing_loss(wrong, some, whole[r::2], seeds[r::2], whole) for r in range(2)]
    assert float(sum(parts)) == pytest.approx(
        float(pointing_loss({"hand": wrong["hand"]}, some, whole, seeds, whole))
    )
    assert float(pointing_loss(wrong, marked([None, None]), whole, seeds, whole)) == 0


def test_cells_are_asked_where_the_boxes_lie():
    """Of a positive without a box nothing is known; of a negative, that all cells are empty."""
    some = marked(["0 0 0.5 1", None, None], size=64)
    some.rows["positive"] = [1.0, 0.0, 1.0]
    whole, seeds = np.array([0, 1, 2]), np.array([3, 4, 5])
    inside = (some.place(0, 3, 4) > 0).float()
    empty = torch.full_like(inside, -8.0)
    right = torch.stack([16 * inside - 8, empty, empty])

    def cost(cells: torch.Tensor) -> float:
        return float(dense_loss({"hand": cells}, some, whole, seeds, whole))

    assert cost(right) < 0.01
    assert cost(torch.stack([-right[0], empty, empty])) > 5  # everywhere but there
    assert cost(torch.stack([right[0], -empty, empty])) > 5  # a finding in a negative
    assert cost(torch.stack([right[0], empty, -empty])) == cost(right)
    parts = [
        dense_loss({"hand": right[r::2]}, some, whole[r::2], seeds[r::2], whole) for r in range(2)
    ]
    assert float(sum(parts)) == pytest.approx(cost(right))
    assert float(dense_loss({"hand": empty[None]}, some, whole[2:], seeds[2:], whole[2:])) == 0
    assert float(dense_loss({"elbow": right}, some, whole, seeds, whole)) == 0  # not their part


def test_a_window_lies_near_a_box_where_there_is_one():
    some = marked(["0 0.8 0.2 1", None], size=64)
    some.rows["positive"] = [1.0, 0.0]
    near = [some.window(0, seed, 4, 2) for seed in range(40)]
    anywhere = [some.window(1, seed, 4, 2) for seed in range(40)]
    assert near == [some.window(0, seed, 4, 2) for seed in range(40)]
    assert all(s.start >= 0 and s.stop == s.start + 2 <= 4 for w in near + anywhere for s in w)
    boxed = [float(some.place(0, seed, 4)[w].sum()) for seed, w in enumerate(near)]
    assert np.mean([b > 0 for b in boxed]) > 0.9
    there = [float(some.place(0, seed, 4)[w].sum()) for seed, w in enumerate(anywhere)]
    assert np.mean([b > 0 for b in there]) < 0.6

    whole, seeds = np.array([0, 1]), np.array([3, 4])
    inside = (some.place(0, 3, 4) > 0).float()
    full = torch.stack([16 * inside - 8, torch.full_like(inside, -8.0)])
    windows = [some.window(int(k), int(s), 4, 2) for k, s in zip(whole, seeds)]
    seen = torch.stack([each[w] for each, w in zip(full, windows)])
    assert float(dense_loss({"hand": seen}, some, whole, seeds, whole, windows)) < 0.01
    assert float(dense_loss({"hand": -seen}, some, whole, seeds, whole, windows)) > 5

    # Of a window that a box only touches nothing is known.
    place = some.place(0, 3, 4)
    row, column = divmod(int(torch.where(place > 0, place, 2).argmin()), 4)
    least = (slice(row, row + 1), slice(column, column + 1))
    assert 0 < float(place[least] / place.max()) < 0.4
    one = {"hand": torch.zeros(1, 1, 1)}
    assert float(dense_loss(one, some, whole[:1], seeds[:1], whole[:1], [least])) == 0


def test_two_views_of_a_picture_should_have_one_answer(settings, tmp_path):
    some = marked([None, None, None])
    index, hand = np.array([0, 1, 2]), torch.tensor([[1.0], [2.0], [3.0]])
    first = {"hand": hand, "elbow": torch.zeros(3, 1)}
    second = {"hand": torch.tensor([[1.0], [-1.0]]), "elbow": torch.tensor([[5.0], [5.0]])}
    # 0 and 3 apart, squares halved, beside a variance of 2/3; of their own part alone
    assert float(steady_loss(first, second, some, index)) == pytest.approx(2.25 / (2 / 3))
    smaller = [{name: values / 100 for name, values in one.items()} for one in (first, second)]
    assert float(steady_loss(*smaller, some, index)) == pytest.approx(2.25 / (2 / 3), rel=1e-4)
    assert float(steady_loss(first, first, some, index)) == 0
    assert float(steady_loss({"body_part": hand}, {}, some, index)) == 0

    # Every picture has something of its own and, in each view, something of the view.
    own, views = torch.randn(2, 64, 1, generator=torch.Generator().manual_seed(1)).unbind(0)
    weights = torch.ones(2, requires_grad=True)
    many = marked([None] * 64)
    descent = torch.optim.SGD([weights], 0.2)
    for _ in range(60):
        one, other = weights[0] * own + weights[1] * views, weights[0] * own - weights[1] * views
        descent.zero_grad()
        steady_loss({"hand": one}, {"hand": other}, many, np.arange(64)).backward()
        descent.step()
    of_the_picture, of_the_view = weights.abs().tolist()
    assert of_the_view < 0.2 * of_the_picture and of_the_picture > 1

    def fitted(steady: float) -> dict[str, float]:
        changed = replace(settings, steady=steady, joint_passes=48, branch_passes=0)
        fit.Run(replace(changed, out=str(tmp_path / str(steady)))).fit()
        return next(e for e in tiny.events(tmp_path / str(steady)) if e["loss"])

    much, little = fitted(1000.0), fitted(1e-9)
    moved = [much[f"moved_{part}"] for part in ("elbow", "hand", "shoulder")]
    counted = [much[k] for k in ("body_part", "other", "elbow", "hand", "shoulder")]
    assert much["score"] == pytest.approx(np.mean(counted) - np.mean(moved), abs=1e-5)
    assert much["loss"] > 10 * little["loss"]


def simulated_hands(folder: Path) -> tuple[str, ...]:
    """``tiny``, a few hands of each split and label as simulated ones, the positives annotated."""
    tiny.write(folder, each=3)
    rows = pd.read_csv(folder / "manifest.csv")
    rows["file"] = "images/drawn/" + rows.id + ".webp"
    here = (rows.part == "hand") & (rows.id.str[-1] == "0")
    rows.loc[here, "source"] = "simulated"
    rows.loc[here & (rows.positive == 1), "boxes"] = "0.07 0.75 0.93 0.9"
    rows.to_csv(folder / "manifest.csv", index=False)
    return (f"manifest:{folder / 'manifest.csv'}",)


def test_simulated_fractures_have_figures_of_their_own(tmp_path, settings):
    data = simulated_hands(tmp_path)
    fit.Run(replace(settings, data=data, out=str(tmp_path / "run"))).fit()
    first, *_, last = tiny.events(tmp_path / "run")
    assert first["phase"] == "joint"
    assert {"simulated_hand"} == {k for k in first if k.startswith("simulated_")}
    counted = ["body_part", "other", "elbow", "hand", "shoulder"]
    assert first["score"] == pytest.approx(np.mean([first[k] for k in counted]), abs=1e-5)
    assert last["phase"] == "shoulder"
    assert "simulated_hand" not in last


def test_a_local_network_learns_from_windows_then_from_whole_pictures(tmp_path, settings):
    """What was learned from squares of the pictures is a start for a run on the whole ones."""
    data = simulated_hands(tmp_path)
    local = replace(
        settings, data=data, out=str(tmp_path / "windows"), arch=LITE2_LOCAL, init="imagenet",
        size=96, freeze=1, window=64, dense=1.0, joint_passes=96, joint_rate=1e-3, ema=0.5,
        validations=2,
    )  # fmt: skip
    run = fit_member.MemberRun(local)
    assert run.train.rows.positive.notna().all()  # nothing else teaches it
    drawn = sampling.JointSampler(run.train.rows, True).draw(30, np.random.default_rng(0))
    from_simulator = run.train.rows.source[drawn] == "simulated"
    assert from_simulator[-15:].all() and not from_simulator[:15].any()
    begun = initial.features(LITE2_LOCAL, run.spec)
    saved = torch.load(run.fit(), weights_only=True)
    assert not [name for name in saved["heads"] if name.startswith("body_part")]
    last = torch.load(run.folder / "checkpoint.pt", weights_only=True)["module"]
    kept = {k: torch.equal(v, last[f"features.{k}"]) for k, v in begun.items()}
    assert kept["blocks.3.conv1.weight"] and kept["blocks.9.bn1.running_mean"]
    assert not kept["blocks.9.conv1.weight"] and not kept["out.weight"]
    events = tiny.events(tmp_path / "windows")
    assert [e["score"] for e in events] == [e["simulated_hand"] for e in events]
    assert any(e["hand"] != e["simulated_hand"] for e in events)
    losses = [e["loss"] for e in events if e["loss"]]
    assert losses[1] < 0.8 * losses[0]

    whole = replace(
        local, out=str(tmp_path / "whole"), init=local.out, window=0, pointing=0.1, joint_passes=32
    )
    fit_member.MemberRun(whole).fit()
    first, *_ = tiny.events(tmp_path / "whole")
    assert first["simulated_hand"] == pytest.approx(max(e["simulated_hand"] for e in events))


def test_only_a_network_with_cells_learns_from_them(settings):
    for changed in ({"dense": 1.0}, {"window": 64}):
        with pytest.raises(SettingsInvalid, match="for a network with cells"):
            replace(settings, **changed)
    local = replace(settings, arch=LITE2_LOCAL, size=96)
    for changed in ({"window": 64}, {"window": 64, "dense": 1.0, "steady": 1.0}):
        with pytest.raises(SettingsInvalid, match="there is --dense, no --pointing"):
            replace(local, **changed)
    for window in (60, 112):
        with pytest.raises(SettingsInvalid, match="a multiple of 16 and at most the size, 96"):
            replace(local, window=window, dense=1.0)


def test_frozen_stages_strangers_and_pointing_train_to_the_end(settings, tmp_path):
    some = replace(settings, out=str(tmp_path), freeze=2, strangers=20, pointing=0.1)
    run = fit.Run(some)
    assert (run.train.rows.part == "stranger").sum() == 20
    assert (run.validation.real.rows.part == "stranger").sum() == 2  # drawn anew, from another seed
    assert "stranger" in run.kinds
    before = {k: v.clone() for k, v in fit.JointNetwork(run.parts).trunk.state_dict().items()}
    saved = torch.load(run.fit(), weights_only=True)["networks"]["trunk"]
    torch.manual_seed(some.seed)
    fresh = fit.JointNetwork(run.parts).trunk.state_dict()
    kept = [k for k in before if k.startswith(("conv1", "bn1", "layer1", "layer2"))]
    assert all(torch.equal(saved[k], fresh[k]) for k in kept)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    for phase, counted in (("joint", 5), ("body_part", 3)):
        [first] = [e for e in events if e["phase"] == phase and e["seen"] == 0]
        names = ["body_part", "other", "stranger", "elbow", "hand", "shoulder"]
        values = [
            first[n] for n in names if n in first and (phase == "body_part" or n != "stranger")
        ]
        assert len(values) == counted
        assert first["score"] == pytest.approx(np.mean(values), abs=1e-5)


def test_what_was_trained_on_limbs_is_released_for_limbs(settings, tmp_path, monkeypatch):
    """The cut is part of the candidate's preprocessing, and of what ``joint`` measures."""
    # a few steps teach a branch nothing, and it is to be kept
    monkeypatch.setattr(metrics, "bootstrap", lambda *a, **k: metrics.Estimate(0.9, 0.8, 1.0, 8))
    some = replace(settings, out=str(tmp_path / "run"), focus=1)
    run = fit.Run(some)
    assert run.spec.focus
    run.fit()
    assert joint.load(tmp_path / "run")[2] == run.spec
    found = Registry.open(candidate.build(tmp_path / "run", "cut")).find("cut")
    assert found.preprocessing == run.spec
    weights = tmp_path / "resnet50.pt"  # without a joint phase, from a file, it is cut as well
    joined = JointNetwork(())
    state = joined.trunk.state_dict() | {
        f"layer4.{k}": v for k, v in joined.layer4.state_dict().items()
    }
    torch.save(state, weights)
    branches = replace(some, init=str(weights), joint_passes=0, out=str(tmp_path / "branches"))
    assert fit.Run(branches).spec == run.spec
    plain = tmp_path / "plain"
    fit.Run(replace(settings, out=str(plain))).fit()
    assert not Registry.open(candidate.build(plain, "plain")).find("plain").preprocessing.focus


def test_a_phase_without_pictures_is_skipped(settings, tmp_path):
    fit.Run(replace(settings, out=str(tmp_path), joint_passes=0, body_part_passes=0)).fit()
    places = [(e["phase"], e["seen"]) for e in tiny.events(tmp_path)]
    trained = [(p, n) for p in ("elbow", "hand", "shoulder") for n in (0, 16)]
    assert places == [("joint", 0), ("body_part", 0), *trained]
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "finished"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"joint_passes": 0, "branch_passes": 0, "body_part_passes": 0}, "At least one phase"),
        ({"joint_passes": -1}, "none less than 0"),
    ],
)
def test_settings_that_train_nothing_are_refused(settings, changed, words):
    with pytest.raises(SettingsInvalid, match=words):
        replace(settings, **changed)


@pytest.mark.parametrize("listed", [False, True])
def test_a_run_that_is_refused_for_its_data_leaves_the_folder_free(settings, tmp_path, listed):
    """With more pictures it was another run; but what lay there before stays."""
    path = Path(settings.data[0].partition(":")[2])
    rows = pd.read_csv(path)
    few = path.with_name("few.csv")
    rows[~rows.id.str.startswith("val_hand_1")].to_csv(few, index=False)
    if listed:
        rows[["source", "id", "split"]].to_csv(tmp_path / "rows.csv", index=False)
    small = replace(settings, out=str(tmp_path), data=(f"manifest:{few}",))
    with pytest.raises(
        fit.DataInvalid, match="The split val lacks positives or negatives of: hand"
    ):
        fit.Run(small)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.csv"] * listed
    fit.Run(replace(small, data=settings.data))
    assert {"config.toml", "rows.csv"} <= {p.name for p in tmp_path.iterdir()}


def test_a_run_that_was_begun_from_a_file_elsewhere_goes_on(settings, tmp_path):
    """Its start cannot be changed any more; runs of an earlier version were refused for good."""
    start, read = tmp_path / "own.pt", Path(settings.data[0].partition(":")[2]).parent
    torch.save({}, start)
    begun = replace(settings, out=str(tmp_path / "run"), init=str(start))
    fit.Run(begun)
    with confined([read]):
        fit.Run(begun)
        with pytest.raises(fit.DataInvalid, match="may be read"):
            fit.Run(replace(begun, out=str(tmp_path / "new")))


def test_validation_that_taught_the_start_is_refused_before_training(settings, tmp_path):
    """`calibrate` refused it when all was trained."""
    first, out = tmp_path / "first", tmp_path / "run"
    first.mkdir()
    (first / "config.toml").write_text('init = "scratch"\n')
    (first / "networks.pt").touch()
    rows = pd.read_csv(settings.data[0].partition(":")[2])[["source", "id", "split"]]
    rows.replace({"split": {"val": "train"}}).to_csv(first / "rows.csv", index=False)
    begun = replace(settings, out=str(out), init=str(first / "networks.pt"))
    with pytest.raises(fit.DataInvalid, match=r"of validation taught .* Train from another start"):
        fit.Run(begun)
    assert not (out / "config.toml").exists()
    fit.Run(replace(begun, arch="efficientnet-lite2", out=str(tmp_path / "other")))
    rows.to_csv(first / "rows.csv", index=False)  # of the same split
    fit.Run(begun)


def test_a_checkpoint_of_other_kinds_is_refused(settings, tmp_path):
    run = fit.Run(replace(settings, out=str(tmp_path)))
    torch.save({"kinds": ["elbow", "foot"]}, tmp_path / "checkpoint.pt")
    with pytest.raises(fit.DataInvalid, match="it knew elbow, foot, and now there are"):
        run.fit()
