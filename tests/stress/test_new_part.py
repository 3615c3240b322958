"""``docs/new-part.md`` from its first command to its last, with simulated feet and the release.

Minutes: it simulates radiographs, and trains a branch of the released ResNet50 on them.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from core.__main__ import main as core
from core.registry import Registry
from core.settings import ROOT
from training.__main__ import main as training
from training.data import read

pytestmark = pytest.mark.stress
log = logging.getLogger(__name__)
COUNT = 300


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The released weights, to add to."""
    folder = tmp_path / "weights"
    manifest = json.loads((ROOT / "weights" / "manifest.json").read_text())
    champion = manifest["aliases"]["champion"]
    manifest["releases"] = [r for r in manifest["releases"] if r["id"] == champion]
    manifest["aliases"] = {"champion": champion}
    shutil.copytree(ROOT / "weights" / champion, folder / champion)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for name, value in (("WEIGHTS", folder), ("HOME", tmp_path / "home"), ("DEVICE", "cpu")):
        monkeypatch.setenv(f"BONE_{name}", str(value))
    return folder


def test_a_foot_is_added_by_the_commands_of_the_docs(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(run: object, *words: object) -> str:
        assert run([str(w) for w in words]) == 0  # type: ignore[operator]
        return capsys.readouterr().out

    feet, run = tmp_path / "feet", tmp_path / "run"
    said(training, "simulate", "--out", feet, "--count", COUNT, "--seed", 31, "--part", "foot",
         "--size", 384)  # fmt: skip
    rows = pd.read_csv(feet / "manifest.csv")
    assert set(rows.part) == {"foot"} and 0.3 < rows.positive.mean() < 0.7
    for file, positive in zip(rows.file, rows.positive):  # as somebody's own radiographs lie
        place = tmp_path / "mine" / "foot" / ("fractured" if positive else "normal")
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(feet / file, place)
    source = f"folder:{tmp_path / 'mine'}"
    mine = read(source)
    held_out = mine.path[mine.split == "test"]

    def assessed() -> list[dict[str, object]]:
        lines = said(core, "predict", "--json", *held_out).splitlines()
        return [json.loads(line) for line in lines]

    before = assessed()
    assert not any((r["body_part"] or {}).get("label") == "foot" for r in before)
    named = [r["file"] for r in before if "looks like the foot, which has no" in str(r["reason"])]
    assert named  # stage 1 has seen real feet

    size = Registry.open(shelf).find("champion").preprocessing.size
    data = ("--data", source)
    assert "foot" in said(training, "data", *data)
    how = ("--size", size, "--branch-passes", 6000, "--branch-rate", 3e-4, "--device", "cpu")
    said(training, "fit", *data, "--init", "champion", "--only", "foot", *how, "--out", run)
    said(training, "calibrate", run, "--id", "with-foot")
    said(training, "evaluate", *data, "--split", "test", "--weights", run / "candidate", "--draws",
         200, "--out", run / "test")  # fmt: skip
    [figure] = [
        r
        for r in json.loads((run / "test" / "metrics.json").read_text())["figures"]
        if (r["stage"], r["part"], r["source"], r["metric"]) == ("fracture", "foot", "all", "auroc")
    ]
    log.info(f"AUROC of the foot {figure}")
    released = Registry.open(shelf).find("champion")
    said(training, "release", run, "--weights", shelf)

    added = Registry.open(shelf).find("champion")
    assert added.id == "with-foot" and added.parts == tuple(sorted([*released.parts, "foot"]))
    for part in released.parts:
        old, new = (r.files[r.stages[part].branch] for r in (released, added))
        assert old.sha256 == new.sha256
    after = {r["file"]: r for r in assessed()}
    for name in named:
        assert after[name]["body_part"]["label"] == "foot"
        assert after[name]["fracture"]["finding"]
    st.cache_resource.clear()
    page = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=180).run()
    page.switch_page("pages/metrics.py").run()
    assert not page.exception
    assert "foot" in " ".join(str(block.proto.body) for block in page.get("html"))
