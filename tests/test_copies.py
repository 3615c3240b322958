"""What is fitted or chosen on a split leaves out copies of pictures nearer to test."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.transforms import Preprocessing
from tests import scored, tiny
from training import baseline, duplicates, evaluation, joint, measured, quantise, screen
from training.__main__ import main
from training.data import DataInvalid, read_all

COPIED = {"train_hand_1_0": "test_hand_1_0", "val_hand_1_0": "test_hand_1_1"}
MADE = "val_hand_0_0"  # filed as a simulated one too


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A picture of training and one of validation are test pictures under another patient."""
    folder = tmp_path_factory.mktemp("copied")
    manifest = tiny.write(folder, each=3)
    images = folder / "images" / "drawn"
    for name, of in COPIED.items():
        shutil.copy(images / f"{of}.webp", images / f"{name}.webp")
    rows = pd.read_csv(manifest)
    simulated = rows[rows.id == MADE].assign(source="simulated", group="made")
    (folder / "images" / "simulated").mkdir()
    shutil.copy(images / "val_elbow_0_0.webp", folder / "images" / "simulated" / f"{MADE}.webp")
    pd.concat([rows, simulated]).to_csv(manifest, index=False)
    return f"manifest:{manifest}"


class Enough(Exception):
    """The rows are known."""


def stop(*_: Any) -> None:
    raise Enough


def watch(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, answer: Any) -> list[Any]:
    """The rows (by source and id) that each call of ``module.name`` got; answer: of a call."""
    seen: list[set[tuple[str, str]]] = []

    def called(*arguments: Any) -> Any:
        rows = next(a for a in arguments if isinstance(a, pd.DataFrame))
        seen.append(set(zip(rows.source, rows.id)))
        return answer(rows, len(seen))

    monkeypatch.setattr(module, name, called)
    return seen


def test_the_yardstick_is_fitted_on_what_fit_takes(data, monkeypatch):
    rng = np.random.default_rng(0)
    seen = watch(
        monkeypatch, baseline, "features", lambda rows, _: (rows, rng.random((len(rows), 4)))
    )
    lite2 = SimpleNamespace(compile=lambda: None)
    monkeypatch.setattr(baseline, "Lite2", lambda size: lite2)
    monkeypatch.setattr(baseline.regression, "fitted", stop)
    with pytest.raises(Enough):
        baseline.figures(read_all([data]), "test", draws=5)
    trained, held = seen
    assert ("drawn", "train_hand_1_1") in trained and ("drawn", "train_hand_1_0") not in trained
    assert len(held) == 3 * 2 * 3


def test_networks_are_compared_without_copies(data, monkeypatch):
    network = {"size": 32, "focus": False}
    monkeypatch.setattr(screen.average, "mean", lambda runs: network)

    seen = watch(monkeypatch, screen, "load_canvases", stop)
    with pytest.raises(Enough):
        screen.measure(["champion"], [data])
    assert len(seen[0]) == 3 * 2 * 3 - 1 and ("drawn", "val_hand_1_0") not in seen[0]


def test_networks_are_compared_on_what_their_runs_have_left_out(data, monkeypatch, tmp_path):
    rows = read_all([data])
    listed = rows[["source", "id", "split"]].assign(kept="yes")
    listed.loc[listed.id == "val_elbow_1_2", "kept"] = "no"
    listed.to_csv(tmp_path / "rows.csv", index=False)
    monkeypatch.setattr(screen.average, "mean", lambda runs: {"size": 32, "focus": False})

    seen = watch(monkeypatch, screen, "load_canvases", stop)
    with pytest.raises(Enough):
        screen.measure([str(tmp_path)], [data])
    assert ("drawn", "val_elbow_1_2") not in seen[0] and ("drawn", "val_hand_1_0") in seen[0]


def test_the_thresholds_of_the_joint_heads_come_from_real_pictures_of_no_test_patient(
    data, monkeypatch
):
    monkeypatch.setattr(joint, "load", lambda run: (None, ("hand",), Preprocessing(size=32)))

    def said(rows: pd.DataFrame, _: int) -> Any:
        return rows, np.linspace(0.1, 0.9, len(rows))

    seen = watch(monkeypatch, joint, "probabilities", said)
    joint.measure(Path("run"), [data], "test", draws=5)
    assert len(seen[0]) == 2 * 3 - 1
    assert not {("drawn", "val_hand_1_0"), ("simulated", MADE)} & seen[0]
    assert len(seen[1]) == 2 * 3


def test_figures_of_pictures_that_a_run_has_learned_from_are_no_test(data, tmp_path):
    """As of a data set whose split has changed since."""
    rows, run = read_all([data]), tmp_path / "run"
    (run / "test").mkdir(parents=True)
    release = replace(scored.release(), sha256="0" * 64)
    figures = {"release_sha256": release.sha256, "split": "test", "figures": [scored.FIGURE]}
    (run / "test" / "metrics.json").write_text(json.dumps(figures))
    held = rows[rows.split == "test"]
    held.to_csv(run / "test" / measured.SCORES, index=False)
    assert measured.of_candidate(run, release) == figures  # of a run that has no list
    duplicates.write_list(rows, duplicates.settle(rows), run / duplicates.ROWS)
    assert measured.of_candidate(run, release) == figures
    moved = rows.id.isin(["train_hand_1_0", "train_hand_1_1", "val_hand_1_1"])
    pd.concat([held, rows[moved]]).to_csv(run / "test" / measured.SCORES, index=False)
    with pytest.raises(measured.FiguresInvalid, match="2 pictures that the run has learned from"):
        measured.of_candidate(run, release)  # the third is a copy, which it has left out


def test_int8_is_judged_on_real_pictures_of_no_test_patient(data, monkeypatch, tmp_path):
    monkeypatch.setattr(quantise.choice, "converted", lambda *a, **k: None)
    monkeypatch.setattr(quantise.int8, "quantise", lambda *a: None)

    def loaded(rows: pd.DataFrame, call: int) -> Any:
        if call == 2:
            raise Enough
        return rows, None

    seen = watch(monkeypatch, quantise, "load_canvases", loaded)
    release = SimpleNamespace(preprocessing=Preprocessing(size=32), sha256="0" * 64)
    with pytest.raises(Enough):
        quantise.run(SimpleNamespace(release=release), read_all([data]), tmp_path, 999, 0)
    assert ("drawn", "train_hand_1_0") not in seen[0]
    assert not {("drawn", "val_hand_1_0"), ("simulated", MADE)} & seen[1]
    assert ("drawn", "val_hand_1_1") in seen[1]
    with pytest.raises(DataInvalid, match="no pictures of both"):
        nothing = read_all([data]).query("split == 'test'")
        quantise.run(SimpleNamespace(release=release), nothing, tmp_path, 9, 0)


def test_the_yardstick_leaves_out_what_the_data_has_too_little_of(data, monkeypatch, caplog):
    """A data set of hands and one elbow ended the whole evaluation."""
    rows = read_all([data])
    others = rows.id.isin(["test_elbow_1_1", "train_leg_0_0", "train_leg_0_1"])
    some = rows[(rows.part == "hand") | others]
    rng = np.random.default_rng(0)
    monkeypatch.setattr(baseline, "features", lambda r, _: (r, rng.random((len(r), 4))))
    monkeypatch.setattr(baseline, "Lite2", lambda size: SimpleNamespace(compile=lambda: None))
    monkeypatch.setattr(baseline, "settle", lambda r: r)
    found = baseline.figures(some, "test", draws=5)
    assert {(f["part"], f["metric"]) for f in found} == {("all", "accuracy"), ("hand", "auroc")}
    assert "the elbow is left out" in caplog.text and "the shoulder is left out" in caplog.text
    assert baseline.figures(some[some.split == "test"], "test", draws=5) == []
    one = some[some.part == "hand"]
    assert [f["part"] for f in baseline.figures(one, "test", draws=5)] == ["hand"]


def test_the_figures_are_written_before_the_yardstick_is_measured(
    data, weights, tmp_path, monkeypatch, capsys
):
    def broken(*_: Any) -> None:
        assert (tmp_path / "out" / "report.html").exists()
        raise DataInvalid("nothing to fit it on")

    scored = read_all([data]).query("split == 'test' and part == 'hand'")
    monkeypatch.setattr(evaluation, "read_all", lambda _: scored)
    monkeypatch.setattr(baseline, "figures", broken)
    words = ["evaluate", "--data", data, "--split", "test", "--weights", str(weights)]
    words += ["--device", "cpu", "--draws", "5", "--baseline", "lite2"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert "nothing to fit it on" in printed.err and "fracture" in printed.out
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["figures"]
