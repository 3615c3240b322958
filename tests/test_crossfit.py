"""Folds are dealt by person, and a picture is read by the network that never saw it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from core.architectures import LITE2
from core.registry import Registry
from core.transforms import Preprocessing
from core.types import Mode
from tests import ensembles, tiny
from training import (
    answering,
    calibrate,
    data,
    fit,
    fit_member,
    folds,
    learned,
    networks,
    provenance,
)
from training.__main__ import main
from training.crossfit import CrossFitted
from training.data import DataInvalid
from training.networks import NETWORKS

SPEC = Preprocessing(size=96)
KINDS = ("elbow", "hand", "shoulder", "other")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def dealt(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folds")
    command = ["folds", "--data", f"manifest:{manifest}", "--count", "2", "--out", str(folder)]
    assert main(command) == 0
    return folder


def _run(folder: Path, listed: pd.DataFrame, seed: int) -> Path:
    """A run of ``fit --arch`` on these rows as it ends, with weights of its own."""
    folder.mkdir(parents=True)
    network = fit_member.MemberNetwork(LITE2, SPEC, ("elbow", "hand", "shoulder"), KINDS, 0)
    ensembles.lively(network, seed)
    for head in network.heads.values():
        torch.nn.init.normal_(head.weight, std=0.05)
    made = {"arch": LITE2, "size": 96, "focus": False, "kinds": list(KINDS)}
    made |= {"features": network.features.state_dict(), "heads": network.heads.state_dict()}
    torch.save(made, folder / NETWORKS)
    (folder / "config.toml").write_text(f'arch = "{LITE2}"\ninit = "imagenet"\nseed = {seed}\n')
    columns = ["source", "id", "split"]
    listed[columns].assign(kept="yes").to_csv(folder / "rows.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def mean(dealt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mean of a run for each of two folds."""
    home = tmp_path_factory.mktemp("runs")
    runs = [_run(home / str(k), data.read(f"manifest:{dealt / f'{k}.csv'}"), k) for k in (1, 2)]
    assert main(["average", *map(str, runs), "--out", str(home / "mean")]) == 0
    return home / "mean"


def _rows(*pictures: tuple[str, str, float | None, str, str]) -> pd.DataFrame:
    columns = ["id", "part", "positive", "source", "split"]
    return pd.DataFrame(pictures, columns=columns).assign(
        positive=lambda t: t.positive.astype(float)
    )


def test_each_labelled_picture_is_held_back_once_and_test_stays(manifest, dealt):
    before = data.read(f"manifest:{manifest}").set_index("id")
    splits = [data.read(f"manifest:{dealt / f'{k}.csv'}").set_index("id") for k in (1, 2)]
    held = sum((one.split == "val").astype(int) for one in splits)
    taught = sum((one.split == "train").astype(int) for one in splits)
    wanted = before.split.ne("test") & before.part.isin(data.FOCUS) | before.split.eq("val")
    assert (held[wanted] == 1).all() and (taught[wanted] == 1).all()
    stays = before.split.eq("train") & ~before.part.isin(data.FOCUS)
    assert stays.any() and (taught[stays] == 2).all()
    for one in splits:
        assert (one.split.eq("test") == before.split.eq("test")).all()
        assert (
            one.path.map(Path).map(Path.resolve) == before.path.map(Path).map(Path.resolve)
        ).all()
        pd.testing.assert_series_equal(one.positive, before.positive)
        counts = one[one.split == "val"].groupby(["part", "positive"]).size()
        assert set(counts[list(data.FOCUS)]) == {6}  # of each part and label half of the twelve


def test_a_person_is_in_one_fold_wherever_the_rows_stand():
    rng = np.random.default_rng(3)
    pictures = [
        (str(n), rng.choice(["hand", "elbow", "leg"]), rng.choice([0.0, 1.0]), "a", "train")
        for n in range(300)
    ]
    rows = _rows(*pictures)
    person = rng.integers(0, 90, 300)
    rows.loc[person == 7, "split"] = "val"
    found = folds.deal(rows, person, 3)
    assert (pd.Series(found).groupby(person).nunique() == 1).all()
    alone = pd.Series(rows.part == "leg").groupby(person).transform("all").to_numpy()
    assert (found[alone & (person != 7)] == folds.STAYS).all()
    assert set(found[~alone]) == {0, 1, 2}
    again = rng.permutation(300)
    moved = folds.deal(rows.iloc[again].reset_index(drop=True), person[again], 3)
    np.testing.assert_array_equal(moved, found[again])


def test_who_is_in_test_by_a_copy_is_dealt_into_no_fold():
    rows = _rows(
        ("1", "hand", 1.0, "a", "train"), ("2", "hand", 1.0, "a", "test"),
        ("3", "hand", 0.0, "a", "val"), ("4", "hand", 1.0, "simulated", "train"),
    )  # fmt: skip
    found = folds.deal(rows, np.array([0, 0, 1, 2]), 2)
    assert found[0] == found[1] == found[3] == folds.STAYS and found[2] != folds.STAYS


def test_one_fold_is_none(manifest, tmp_path, capsys):
    command = ["folds", "--data", f"manifest:{manifest}", "--count", "1", "--out", str(tmp_path)]
    assert main(command) == 1 and "at least two folds" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_on_a_fold_tells_how_it_was_dealt(dealt, tmp_path):
    settings = fit.Settings((f"manifest:{dealt / '1.csv'}",), str(tmp_path / "run"), LITE2, size=96,
                            duplicates="keep")  # fmt: skip
    fit_member.MemberRun(settings)
    dealing, fitted = provenance.commands(tmp_path / "run")
    assert dealing.startswith("python -m training folds --data manifest:manifest.csv --count 2")
    assert "training fit --data manifest:1.csv" in fitted


def test_of_each_picture_the_run_speaks_that_never_saw_it(mean, manifest):
    found = CrossFitted.of(mean)
    rows, canvases = data.load_canvases(data.read(f"manifest:{manifest}"), SPEC)
    assert (found.knows(rows) == ~(rows.split.eq("test") | _stays(rows))).all()
    said = found.logits(LITE2, rows, canvases, SPEC)
    each = [networks.trained(run, LITE2) for run in found.runs]
    for run, held in enumerate(found.held):
        here = [name in held for name in zip(rows.source, rows.id)]
        alone = answering.logits(each[run], canvases[here], SPEC)
        other = answering.logits(each[1 - run], canvases[here], SPEC)
        for head, values in said.items():
            np.testing.assert_allclose(values[here], alone[head], atol=1e-4)
            assert np.abs(values[here] - other[head]).max() > 1e-3
    assert np.isnan(said["hand"][rows.split == "test"]).all()


def _stays(rows: pd.DataFrame) -> pd.Series:
    return rows.split.eq("train") & ~rows.part.isin(data.FOCUS)


def test_a_mean_of_runs_that_held_back_the_same_is_no_cross_fit(manifest, tmp_path, capsys):
    rows = data.read(f"manifest:{manifest}")
    runs = [_run(tmp_path / n, rows, k) for k, n in enumerate("ab")]
    assert main(["average", *map(str, runs), "--out", str(tmp_path / "mean")]) == 0
    assert CrossFitted.of(tmp_path / "mean") is None and CrossFitted.of(runs[0]) is None
    fewer = _run(tmp_path / "c", rows.drop(rows.index[rows.split == "val"][0]), 3)
    assert main(["average", str(runs[0]), str(fewer), "--out", str(tmp_path / "odd")]) == 0
    with pytest.raises(DataInvalid, match="neither the same pictures nor others each"):
        CrossFitted.of(tmp_path / "odd")
    (tmp_path / "c" / "rows.csv").unlink()
    with pytest.raises(DataInvalid, match="is gone"):
        CrossFitted.of(tmp_path / "odd")


@pytest.mark.parametrize("alone", [0, 1])
def test_a_member_of_folds_is_read_by_all_that_was_held_back(
    alone, mean, weights, manifest, tmp_path
):
    command = ["member", "--base", str(weights), "--init", str(mean), "--alone", str(alone)]
    command += ["--data", f"manifest:{manifest}", "--duplicates", "keep", "--out", str(tmp_path)]
    assert main(command) == 0
    release = Registry.open(tmp_path / "candidate").find("champion", Mode.ENSEMBLE)
    rows = data.read(f"manifest:{manifest}")
    rows, canvases = data.load_canvases(
        rows[rows.part.isin(data.FOCUS) & rows.split.ne("test")], SPEC
    )
    said = CrossFitted.of(mean).logits(LITE2, rows, canvases, SPEC)
    logits = {p: said[p][(rows.part == p).to_numpy(), 0] for p in data.FOCUS}
    truth = {p: rows.positive[rows.part == p].to_numpy() for p in data.FOCUS}
    read = calibrate.platt(logits, truth, dict.fromkeys(data.FOCUS, 0.5))
    for part in release.parts:
        stage = release.stages[part]
        [one] = stage.ensemble.members
        assert (one.temperature, one.bias) == pytest.approx(read[part], rel=1e-3, abs=1e-3)
        assert {p.n for p in stage.operating_points} == {24 if alone else 12}
        weight = stage.ensemble.weights[1]
        assert weight == 1 if alone else 0 < weight < 1
    assert "python -m training average" in " ".join(release.training_data["commands"])
    [kinds] = release.stages["body_part"].ensemble.members
    assert kinds.classes == KINDS
    val = rows[rows.split == "val"]
    said = learned.tell(tmp_path / "candidate", val, "val", release.training_data)
    assert said["learned"] == len(val) == 36


def test_folds_of_other_pictures_are_refused(mean, weights, tmp_path, capsys):
    """What no run held back, all of them may have learned from."""
    other = pd.read_csv(tiny.write(tmp_path / "tiny"))
    other["id"] = other.id + "x"
    for path in (tmp_path / "tiny" / "images" / "drawn").iterdir():
        path.rename(path.with_stem(path.stem + "x"))
    other.to_csv(tmp_path / "tiny" / "manifest.csv", index=False)
    command = ["member", "--base", str(weights), "--init", str(mean), "--duplicates", "keep"]
    command += ["--data", f"manifest:{tmp_path / 'tiny' / 'manifest.csv'}"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 1
    assert "held back by no run" in capsys.readouterr().err


def test_a_start_without_labels_of_the_three_parts_goes_on_at_another_size(manifest, tmp_path):
    """It learns from the other parts; what goes on from it begins with its features."""
    table = pd.read_csv(manifest)
    table.loc[table.part.isin(data.FOCUS), "positive"] = np.nan
    path = manifest.with_name("others.csv")
    table.to_csv(path, index=False)
    command = ["fit", "--arch", LITE2, "--init", "imagenet", "--out", str(tmp_path / "start")]
    command += ["--data", f"manifest:{path}", "--duplicates", "keep", "--batch", "8"]
    command += ["--joint-passes", "16", "--validations", "1", "--freeze", "2"]
    assert main([*command, "--size", "64"]) == 0
    found = networks.trained(tmp_path / "start", LITE2)
    assert {n.split(".")[0] for n in found["heads"]} == {"leg", "body_part"}
    settings = fit.Settings((f"manifest:{manifest}",), str(tmp_path / "run"), LITE2,
                            str(tmp_path / "start"), size=96, duplicates="keep", joint_passes=8,
                            batch=8, validations=1)  # fmt: skip
    fit_member.MemberRun(settings).fit()
    found = networks.trained(tmp_path / "run", LITE2)
    assert found["size"] == 96 and "hand.weight" in found["heads"]
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "finished"
