"""int8 is used only where it was measured, on this processor, to lose nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.cascade import Cascade
from core.engines import choice, int8, vino
from core.errors import EngineUnavailable
from core.transforms import to_canvas
from core.types import BodyPart, Mode
from tests.ensembles import NAMES, with_members
from tests.simulated import phantom
from training import quantise

pytest.importorskip("openvino")

GOOD = int8.Check(
    Mode.FAST, "a processor", "made up", 300, 200, 0.995, {"hand": (0.9, 0.898)}, 0.99, 1.6
)


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
    int8.record(folder, [replace(GOOD, **change)])
    if not said:
        assert int8.accepted(home, cascade.release) == (folder, (GOOD,))
        return
    with pytest.raises(EngineUnavailable, match=f"refused: in the mode fast .*{said}"):
        int8.accepted(home, cascade.release)


@pytest.fixture(scope="module")
def ensemble(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Cascade:
    """A release whose default is its ensemble, as it is loaded."""
    folder = tmp_path_factory.mktemp("ensemble")
    with_members(weights, folder, next(iter(NAMES)), default="ensemble")
    return Cascade.load(folder, device="cpu")


def test_it_is_accepted_only_where_it_was_measured_in_every_mode(cascade, folder):
    """Who has it loaded may change the mode: a session of the page, ``load`` itself."""
    joined, both = replace(GOOD, mode=Mode.ENSEMBLE), replace(cascade.release, modes=(*Mode,))
    home = folder.parent.parent
    int8.record(folder, [joined])
    with pytest.raises(EngineUnavailable, match="not checked here"):
        int8.accepted(home, both)
    (folder / int8.CHECK).write_text(json.dumps(asdict(joined)))  # as before modes were told apart
    with pytest.raises(EngineUnavailable, match="not checked here"):
        int8.accepted(home, both)
    int8.record(folder, [joined, replace(GOOD, findings=0.9)])
    with pytest.raises(EngineUnavailable, match="refused: in the mode fast only 9"):
        int8.accepted(home, both)
    int8.record(folder, [joined, GOOD])
    assert int8.accepted(home, both) == (folder, (joined, GOOD))


def test_every_mode_is_measured_and_has_to_pass(ensemble, tmp_path, monkeypatch):
    rows = pd.DataFrame({"split": ["train", "val"], "source": "made up"})
    folder = vino.folder_of(tmp_path, ensemble.release.sha256, "int8")
    bad: list[Mode] = []

    def measure(before: Cascade, after: Cascade, *_: object) -> int8.Check:
        mode = before.release.mode
        assert after.release.mode == mode
        return replace(GOOD, mode=mode, findings=0.9 if mode in bad else 1.0)

    monkeypatch.setattr(quantise, "settle", lambda found: found)
    monkeypatch.setattr(quantise, "split_hash", lambda _: "0" * 64)
    monkeypatch.setattr(quantise, "load_canvases", lambda found, _: (found, None))
    monkeypatch.setattr(quantise, "measure", measure)
    monkeypatch.setattr(choice, "converted", lambda *_, **__: tmp_path)
    monkeypatch.setattr(int8, "quantise", lambda *_: folder.mkdir(exist_ok=True))
    monkeypatch.setattr(vino, "OpenVinoEngine", lambda *_, **__: ensemble.engine)
    said = quantise.run(ensemble, rows, tmp_path, 1, 0)
    assert said.startswith("accepted. Mode ensemble: 1.6 times") and "Mode fast: 1.6 times" in said
    assert [c["mode"] for c in json.loads((folder / int8.CHECK).read_text())] == [
        "ensemble",
        "fast",
    ]
    bad.append(Mode.FAST)
    said = quantise.run(ensemble, rows, tmp_path, 1, 0)
    assert said.startswith("refused, because in the mode fast only 90.0% of 200 findings are equal")


def test_it_says_why_it_is_not_used(cascade, home, folder, monkeypatch):
    monkeypatch.setattr(choice, "_samples", lambda _: [])
    with pytest.raises(EngineUnavailable, match="not checked here"):
        choice.choose(cascade, "openvino-int8", home)
    int8.record(folder, [replace(GOOD, processor="another one")])
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
    int8.record(folder, [GOOD])
    chosen, reason = choice.choose(cascade, "auto", home)
    assert "loses nothing. Mode fast: 1.6 times as fast" in reason
    assert chosen.assess([canvas])[0].heatmap is not None
    assert "agrees with torch" in choice.choose(cascade, "openvino", home)[1]  # bf16 stays bf16


def test_what_is_measured_of_equal_networks(wide, monkeypatch):
    monkeypatch.setattr(int8, "processor", lambda: "a processor")
    spec = wide.release.preprocessing
    canvases = np.stack([to_canvas(phantom(90, 70, seed=n), spec) for n in range(6)])
    rows = pd.DataFrame({"part": "hand", "positive": [0, 1, 0, 1, None, 1]})
    found = quantise.measure(wide, wide, rows, canvases, "simulated")
    assert found.pictures == 6 and found.mode == wide.release.mode
    [(before, after)] = found.auroc.values()
    assert list(found.auroc) == [BodyPart.HAND] and before == after
    assert found.assessed == 6 and found.findings == 1.0
    assert found.heatmaps == pytest.approx(1.0)
    reversed_ = wide.with_engine(wide.engine)
    monkeypatch.setattr(
        quantise,
        "_probabilities",
        lambda c, x, _: np.arange(len(x)) * (-1.0 if c is reversed_ else 1.0),
    )
    other = quantise.measure(wide, reversed_, rows, canvases, "simulated")
    [(before, after)] = other.auroc.values()
    assert before == pytest.approx(5 / 6) and after == pytest.approx(1 / 6)
    assert "AUROC" in other.objections[0]


@pytest.mark.stress
def test_networks_made_by_nncf_run_and_are_near(wide, tmp_path):
    pytest.importorskip("nncf")
    source = choice.converted(wide, tmp_path, convert=True)
    folder = vino.folder_of(tmp_path, wide.release.sha256, "int8")
    spec = wide.release.preprocessing
    canvases = np.stack([to_canvas(phantom(90, 70, seed=n), spec) for n in range(4)])
    int8.quantise(source, folder, canvases, wide.release)
    assert vino.is_whole(folder)
    engine = vino.OpenVinoEngine(folder, spec)
    assert engine.description.endswith("int8") and engine.setting == "openvino-int8"
    [path] = {s.trunk for s in wide.release.stages.values()}
    exact, rounded = wide.engine.trunk(path, canvases), engine.trunk(path, canvases)
    difference = (exact.float() - rounded.float()).norm() / exact.float().norm()
    assert 0 < difference < 0.2
