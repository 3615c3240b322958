"""The notebooks run top to bottom on a tiny set, draw what they promise, and keep no outputs."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests import tiny

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
# What a kernel runs before the first cell of ``train``.
SMALL = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests import small
small.shrink()
from training import metrics  # a few steps teach a branch nothing, and it is to be kept
metrics.bootstrap = lambda *a, **k: metrics.Estimate(0.9, 0.8, 1.0, 8)
"""
PLOT = "application/vnd.plotly.v1+json"


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Run a notebook with variables of the environment; returns how many plots it shows.

    before: run by the kernel before its first cell.
    """
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("PLOTLY_RENDERER", "plotly_mimetype")
    monkeypatch.setenv("BONE_DEVICE", "cpu")

    def run(name: str, before: str = "", **environment: str) -> int:
        startup = tmp_path / "ipythondir" / "profile_default" / "startup"
        startup.mkdir(parents=True)
        (startup / "before.py").write_text(before)
        for key, value in environment.items():
            monkeypatch.setenv(f"BONE_{key}", value)
        notebook = nbformat.read(FOLDER / name, as_version=4)
        where = {"metadata": {"path": str(FOLDER)}}
        NotebookClient(notebook, timeout=300, startup_timeout=180, resources=where).execute()
        outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
        return sum(PLOT in o.get("data", {}) for o in outputs)

    return run


@pytest.mark.parametrize("name", ["train.ipynb", "evaluate.ipynb"])
def test_a_notebook_keeps_no_outputs(name):
    notebook = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


def test_train(execute, tmp_path):
    manifest, folder = tiny.write(tmp_path / "data", each=4), tmp_path / "run"
    few = {
        "SIZE": "64",
        "JOINT_PASSES": "32",
        "BRANCH_PASSES": "16",
        "BODY_PART_PASSES": "16",
        "BATCH": "16",
    }
    where = {"DATA": f"manifest:{manifest}", "RUN": str(folder), "VALIDATIONS": "1"}
    shown = execute("train.ipynb", SMALL, **where, **few)
    assert shown == 1
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    manifest = json.loads((folder / "candidate" / "manifest.json").read_text())
    assert manifest["releases"][0]["id"] == "notebook-1"


def test_evaluate(execute, weights, home, tmp_path):
    """It draws and writes what it promises."""
    manifest, out = tiny.write(tmp_path / "data", each=2), home / "runs" / "notebook" / "val"
    shown = execute(
        "evaluate.ipynb",
        DATA=f"manifest:{manifest}",
        WEIGHTS=str(weights),
        DRAWS="20",
        OUT=str(out),
    )
    assert shown == 1 + 3 * 4  # body part, and four for each of three parts
    assert {p.name for p in out.iterdir()} == {"metrics.json", "scores.csv", "report.html"}
    written = json.loads((out / "metrics.json").read_text())
    stages = {f["stage"] for f in written["figures"]}
    assert stages == {"body_part", "fracture", "memoriser", "end_to_end"}
