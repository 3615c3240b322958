"""int8 is used only where it was measured, on this processor, to lose nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.cascade import Cascade
from core.engines import choice, int8, vino
from core.errors import EngineUnavailable
from core.transforms import to_canvas
from core.types import BodyPart
from tests.simulated import phantom
from training import quantise

pytest.importorskip("openvino")

GOOD = int8.Check("a processor", "made up", 300, 200, 0.995, {"hand": (0.9, 0.898)}, 0.99, 1.6)


@pytest.fixture(scope="module")
def home(cascade: Cascade, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Converted, with what stands for networks in int8: the same ones again, not checked yet."""
    home = tmp_path_factory.mktemp("home")
    source = choice.converted(cascade, home, convert=True)
    shutil.copytree(source, vino.folder_of(home, cascade.release.sha256, "int8"))
    return home


@pytest.fixture
def folder(cascade: Cascade, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(int8, "processor", lambda: "a processor")
    folder = vino.folder_of(home, cascade.release.sha256, "int8")
    (folder / int8.CHECK).unlink(missing_ok=True)
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"auroc": {"hand": (0.9, 0.894)}}, "AUROC of the hand"),
        ({"auroc": {"hand": (0.9, 0.906)}}, "AUROC of the hand"),
        ({"auroc": {"hand": (0.9, float("nan"))}}, "AUROC of the hand"),
        ({"auroc": {}}, "nothing labelled"),
        ({"assessed": 0}, "nothing labelled"),
        ({"findings": 0.989}, "98.9% of 200 findings"),
        ({"heatmaps": 0.8}, "heatmaps correlate by 0.80"),
        ({"faster": 0.9}, "no faster"),
    ],
)
def test_it_is_accepted_only_where_it_loses_nothing(cascade, home, folder, change, said):
    int8.record(folder, replace(GOOD, **change))
    if not said:
        assert int8.accepted(home, cascade.release.sha256) == (folder, GOOD)
        return
    with pytest.raises(EngineUnavailable, match=f"refused: .*{said}"):
        int8.accepted(home, cascade.release.sha256)


def test_it_says_why_it_is_not_used(cascade, home, folder, monkeypatch):
    monkeypatch.setattr(choice, "_samples", lambda _: [])
    with pytest.raises(EngineUnavailable, match="not checked here"):
        choice.choose(cascade, "openvino-int8", home)
    int8.record(folder, replace(GOOD, processor="another one"))
    with pytest.raises(EngineUnavailable, match="another processor"):
        choice.choose(cascade, "openvino-int8", home)
    (folder / int8.CHECK).write_text('{"processor": 1')
    with pytest.raises(EngineUnavailable, match="not checked here"):
        choice.choose(cascade, "openvino-int8", home)


def test_auto_takes_it_where_it_may_and_says_why_not(cascade, home, folder, monkeypatch):
    canvas = to_canvas(phantom(90, 70), cascade.release.preprocessing)
    monkeypatch.setattr(choice, "_samples", lambda _: [canvas])
    _, reason = choice.choose(cascade, "auto", home)
    assert "agrees with torch" in reason and "was not checked here" in reason
    int8.record(folder, GOOD)
    chosen, reason = choice.choose(cascade, "auto", home)
    assert "loses nothing: 1.6 times as fast" in reason
    assert chosen.assess([canvas])[0].heatmap is not None
    assert "agrees with torch" in choice.choose(cascade, "openvino", home)[1]  # bf16 stays bf16


def test_what_is_measured_of_equal_networks(cascade, monkeypatch):
    monkeypatch.setattr(int8, "processor", lambda: "a processor")
    spec = cascade.release.preprocessing
    canvases = np.stack([to_canvas(phantom(90, 70, seed=n), spec) for n in range(6)])
    rows = pd.DataFrame({"part": "hand", "positive": [0, 1, 0, 1, None, 1]})
    found = quantise.measure(cascade, cascade, rows, canvases, "simulated")
    assert found.pictures == 6
    [(before, after)] = found.auroc.values()
    assert list(found.auroc) == [BodyPart.HAND] and before == after
    assert found.findings == (1.0 if found.assessed else 0.0)
    assert found.heatmaps in (0.0, pytest.approx(1.0))
    reversed_ = cascade.with_engine(cascade.engine)
    monkeypatch.setattr(
        quantise,
        "_probabilities",
        lambda c, x, _: np.arange(len(x)) * (-1.0 if c is reversed_ else 1.0),
    )
    other = quantise.measure(cascade, reversed_, rows, canvases, "simulated")
    [(before, after)] = other.auroc.values()
    assert before == pytest.approx(5 / 6) and after == pytest.approx(1 / 6)
    assert "AUROC" in other.objections[0]


@pytest.mark.stress
def test_networks_made_by_nncf_run_and_are_near(cascade, tmp_path):
    pytest.importorskip("nncf")
    source = choice.converted(cascade, tmp_path, convert=True)
    folder = vino.folder_of(tmp_path, cascade.release.sha256, "int8")
    spec = cascade.release.preprocessing
    canvases = np.stack([to_canvas(phantom(90, 70, seed=n), spec) for n in range(4)])
    int8.quantise(source, folder, canvases, cascade.release)
    assert vino.is_whole(folder)
    engine = vino.OpenVinoEngine(folder, spec)
    assert engine.description.endswith("int8")
    [path] = {s.trunk for s in cascade.release.stages.values()}
    exact, rounded = cascade.engine.trunk(path, canvases), engine.trunk(path, canvases)
    difference = (exact.float() - rounded.float()).norm() / exact.float().norm()
    assert 0 < difference < 0.2
