"""Figures of the heads that a release does not have."""

from __future__ import annotations

import pytest
import torch

from tests import tiny
from training import joint
from training.data import DataInvalid
from training.model import JointNetwork


def test_every_head_is_scored_on_its_own_part(tmp_path):
    manifest = tiny.write(tmp_path, each=3)
    torch.manual_seed(0)
    network = JointNetwork(("elbow", "hip", "leg"))  # there is no hip to choose a threshold on
    (tmp_path / "config.toml").write_text("size = 32\n")
    state = {"done": {"joint": network.state_dict()}, "kinds": list(network.kinds)}
    torch.save(state, tmp_path / "checkpoint.pt")
    records = joint.measure(tmp_path, [f"manifest:{manifest}"], "test", draws=20)
    assert [(r["part"], r["metric"], r["n"]) for r in records] == [
        (part, metric, 6) for part in ("elbow", "leg") for metric in ("auroc", "kappa", "accuracy")
    ]
    assert all(0 <= r["value"] <= 1 for r in records if r["metric"] == "auroc")


def test_a_run_without_a_joint_phase_is_refused(tmp_path):
    with pytest.raises(DataInvalid, match="joint phase"):
        joint.load(tmp_path)
