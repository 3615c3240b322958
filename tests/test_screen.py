"""Several networks on the same validation pictures, before any of them gets near a release."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.cascade import Cascade
from core.types import Mode
from tests import ensembles, tiny
from training import data, metrics, screen
from training.__main__ import main

NAME = "EfficientNet-Lite2"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("tiny"))


def test_networks_side_by_side(weights, manifest, tmp_path, monkeypatch, capsys) -> None:
    """What it prints of a release's network is what the cascade with that release answers."""
    ensembles.with_members(weights, tmp_path, NAME, stage1=True)
    monkeypatch.setenv("BONE_WEIGHTS", str(tmp_path))
    records = screen.measure(["champion", "champion+champion"], [f"manifest:{manifest}"], draws=20)
    of = {(r["source"], r["part"], r["metric"]): r for r in records}
    cascade = Cascade.load(tmp_path, device="cpu").in_mode(Mode.ENSEMBLE)
    rows = data.read(f"manifest:{manifest}")
    for part in cascade.release.parts:
        val = rows[(rows.split == "val") & (rows.part == part)]
        val, canvases = data.load_canvases(val, cascade.release.preprocessing)
        logits, _ = cascade.logits_and_features(part, canvases, NAME)
        found = of["champion", part, "auroc"]
        assert found["value"] == pytest.approx(metrics.auroc(val.positive, logits[:, 0]))
        assert found["n"] == len(val) and np.isnan(found["low"])  # a handful of patients
        assert ("champion", part, "auroc - first") not in of
        same = of["champion+champion", part, "auroc - first"]  # the mean of twice the same
        assert same["value"] == 0 and np.isnan(same["low"])  # always, and never for sure
        kinds, _ = cascade.logits_and_features("body_part", canvases, NAME)
        named = np.array(cascade.release.stages["body_part"].ensemble.members[0].classes)
        right = np.mean(named[kinds.argmax(1)] == part)
        assert of["champion", part, "body part right"]["value"] == pytest.approx(right)
    for view in screen.DISTURBANCES:
        assert of["champion", "all", f"moved, {view}"]["value"] > 0
    command = ["screen", "nobody", "--data", f"manifest:{manifest}"]
    assert main(command) == 1 and "no release" in capsys.readouterr().err


def test_each_network_sees_the_same_disturbance() -> None:
    canvases = np.random.default_rng(0).integers(0, 256, (2, 96, 96), dtype=np.uint8)
    for disturb in screen.DISTURBANCES.values():
        changed = disturb(canvases)
        assert changed.shape == canvases.shape and changed.dtype == np.uint8
        assert np.array_equal(changed, disturb(canvases))
        assert not np.array_equal(changed, canvases)
