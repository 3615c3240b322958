"""How a fit ends early, repeats itself, and weighs its losses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from tests import tiny
from training import fit
from training.augment import vary


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
    pictures = fit.Pictures(rows, np.zeros((7, 1, 1), np.uint8), classes, positive)
    logits = {h: torch.randn(7, n) for h, n in {"body_part": 4, "elbow": 1, "hand": 1}.items()}
    whole = rng.permutation(7)
    drawn = {h: v[whole] for h, v in logits.items()}
    loss = fit.loss(drawn, pictures, whole, whole, 0.1)
    known = [0, 1, 5, 6]
    own = torch.stack([logits[parts[i]][i, 0] for i in known])
    expected = F.cross_entropy(logits["body_part"], classes, label_smoothing=0.1)
    expected += F.binary_cross_entropy_with_logits(own, positive[known] * 0.9 + 0.05)
    torch.testing.assert_close(loss, expected)
    shares = [
        fit.loss({h: v[r::3] for h, v in drawn.items()}, pictures, whole[r::3], whole, 0.1)
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
    with pytest.raises(ValueError, match="bf16 or fp32"):
        replace(settings, precision="fp8")
