"""Folds are dealt by person, and a picture is read by the network that never saw it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from core.architectures import LITE2, VIT_TINY
from core.operating import performance
from core.registry import Registry
from core.transforms import Preprocessing
from core.types import BodyPart, Mode
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
    screen,
)
from training.__main__ import main
from training.card import model_card
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


@pytest.fixture
def flagged(mean: Path, weights: Path, manifest: Path, tmp_path: Path) -> Path:
    """A candidate with a member that validation taught too."""
    assert main(_member(weights, mean, manifest, tmp_path / "flagged")) == 0
    return tmp_path / "flagged" / "candidate"


def _member(base: Path, init: Path, manifest: Path, out: Path, *more: str) -> list[str]:
    command = ["member", "--base", str(base), "--init", str(init), "--duplicates", "keep"]
    return [*command, "--data", f"manifest:{manifest}", "--out", str(out), *more]


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
    wanted = before.split.ne("test") & before.part.isin(data.PARTS) | before.split.eq("val")
    assert (held[wanted] == 1).all() and (taught[wanted] == 1).all()
    stays = before.split.eq("train") & ~before.part.isin(data.PARTS)
    assert stays.any() and (taught[stays] == 2).all()
    for one in splits:
        assert (one.split.eq("test") == before.split.eq("test")).all()
        assert (
            one.path.map(Path).map(Path.resolve) == before.path.map(Path).map(Path.resolve)
        ).all()
        pd.testing.assert_series_equal(one.positive, before.positive)
        counts = one[one.split == "val"].groupby(["part", "positive"]).size()
        assert set(counts[list(data.PARTS)]) == {6}  # of each part and label half of the twelve


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
    found, whole = CrossFitted.of(mean), networks.trained(mean, LITE2)
    rows, canvases = data.load_canvases(data.read(f"manifest:{manifest}"), SPEC)
    assert (found.knows(rows) == ~(rows.split.eq("test") | _stays(rows))).all()
    said = found.logits(whole, rows, canvases, SPEC)
    each = [networks.trained(run, LITE2) for run in found.runs]
    flipped = found.logits(whole, rows, canvases, SPEC, flip=True)
    mirrored = found.logits(whole, rows, np.ascontiguousarray(canvases[:, :, ::-1]), SPEC)
    known = found.knows(rows)
    for head, values in flipped.items():
        both = (said[head] + mirrored[head]) / 2
        np.testing.assert_allclose(values[known], both[known], atol=1e-5)
    for run, held in enumerate(found.held):
        here = [name in held for name in zip(rows.source, rows.id)]
        alone = answering.logits(each[run], canvases[here], SPEC)
        other = answering.logits(each[1 - run], canvases[here], SPEC)
        for head, values in said.items():
            np.testing.assert_allclose(values[here], alone[head], atol=1e-4)
            assert np.abs(values[here] - other[head]).max() > 1e-3
    assert np.isnan(said["hand"][rows.split == "test"]).all()


def _stays(rows: pd.DataFrame) -> pd.Series:
    return rows.split.eq("train") & ~rows.part.isin(data.PARTS)


def test_a_mean_of_runs_that_held_back_the_same_is_no_cross_fit(manifest, tmp_path, capsys):
    rows = data.read(f"manifest:{manifest}")
    runs = [_run(tmp_path / n, rows, k) for k, n in enumerate("ab")]
    assert main(["average", *map(str, runs), "--out", str(tmp_path / "mean")]) == 0
    assert CrossFitted.of(tmp_path / "mean") is None and CrossFitted.of(runs[0]) is None
    fewer = _run(tmp_path / "c", rows.drop(rows.index[rows.split == "val"][0]), 3)
    assert main(["average", str(runs[0]), str(fewer), "--out", str(tmp_path / "odd")]) == 0
    with pytest.raises(DataInvalid, match="neither the same pictures nor others each"):
        CrossFitted.of(tmp_path / "odd")
    (fewer / "rows.csv").unlink()
    with pytest.raises(DataInvalid, match="average the runs of all folds at once"):
        CrossFitted.of(tmp_path / "odd")
    fewer.rename(tmp_path / "elsewhere")
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
        rows[rows.part.isin(data.PARTS) & rows.split.ne("test")], SPEC
    )
    said = CrossFitted.of(mean).logits(networks.trained(mean, LITE2), rows, canvases, SPEC)
    logits = {p: said[p][(rows.part == p).to_numpy(), 0] for p in data.PARTS}
    truth = {p: rows.positive[rows.part == p].to_numpy() for p in data.PARTS}
    read = calibrate.platt(logits, truth, dict.fromkeys(data.PARTS, 0.5))
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
    assert release.cross_fitted and not release.in_mode(Mode.FAST).cross_fitted
    told = release.training_data, release.cross_fitted
    assert learned.tell(tmp_path / "candidate", val, "val", *told)["learned"] == len(val) == 36
    elsewhere = val.assign(source="elsewhere")
    assert "learned" not in learned.tell(tmp_path, elsewhere, "val", *told)
    stage, card = release.stages["hand"], model_card(release)
    assert stage.chosen_on == ("held-back" if alone else "validation")
    assert performance(release, BodyPart("hand"), "sensitive").split == stage.chosen_on
    assert "Validation taught the networks beside the ResNet50 too" in card
    assert ("chose the thresholds of the mode ensemble" in card) == bool(alone)
    assert release.in_mode(Mode.FAST).stages["hand"].chosen_on == "validation"


def test_what_a_start_was_told_is_not_held_back(manifest, dealt, tmp_path):
    """Where the start of all folds learned findings that one of them holds back, its word on them
    is no honest one; pictures whose finding it was not told may be held back."""
    rows = data.read(f"manifest:{manifest}")
    start = _run(tmp_path / "start", rows.assign(split="train"), 9)
    runs = []
    for k in (1, 2):
        runs.append(_run(tmp_path / str(k), data.read(f"manifest:{dealt / f'{k}.csv'}"), k))
        (runs[-1] / "config.toml").write_text(f'arch = "{LITE2}"\ninit = "{start}"\n')
    assert main(["average", *map(str, runs), "--out", str(tmp_path / "mean")]) == 0
    known = rows[rows.part.isin(data.PARTS) & rows.split.ne("test")]
    with pytest.raises(DataInvalid, match="held back had taught a finding"):
        CrossFitted.of(tmp_path / "mean").refuse_taught(known)
    # What comes with a person into a fold and calibrates nothing may have taught it.
    CrossFitted.of(tmp_path / "mean").refuse_taught(rows[rows.part == "leg"].head(0))
    listed = pd.read_csv(start / "rows.csv").assign(labelled="no")
    listed.to_csv(start / "rows.csv", index=False)
    found = CrossFitted.of(tmp_path / "mean")
    found.refuse_taught(known)
    with pytest.raises(DataInvalid, match="pictures of validation taught what"):
        found.refuse_trained(rows[rows.split == "val"])


def test_a_picture_that_could_not_be_read_is_held_back_by_older_and_newer_runs_alike(
    manifest, tmp_path
):
    rows = data.read(f"manifest:{manifest}")
    older, newer = (_run(tmp_path / str(k), rows, k) for k in (1, 2))
    listed = pd.read_csv(newer / "rows.csv")
    listed.loc[listed.index[listed.split == "val"][0], "kept"] = "unread"
    listed.to_csv(newer / "rows.csv", index=False)
    (tmp_path / "mean").mkdir()
    record = {"runs": [str(older), str(newer)]}
    (tmp_path / "mean" / "average.json").write_text(json.dumps(record))
    assert CrossFitted.of(tmp_path / "mean") is None  # they held back the same


def test_a_release_as_a_start_of_folds_is_refused_where_nothing_tells_what_it_learned_from(
    manifest, dealt, weights, tmp_path, monkeypatch
):
    ensembles.with_members(weights, tmp_path / "w", "EfficientNet-Lite2", stage1=True)
    entry = json.loads((tmp_path / "w" / "manifest.json").read_text())
    entry["releases"][0]["training_data"] = {"sources": ["drawn"]}
    (tmp_path / "w" / "manifest.json").write_text(json.dumps(entry))
    monkeypatch.setenv("BONE_WEIGHTS", str(tmp_path / "w"))
    begun = Registry.open(tmp_path / "w").find("champion")
    runs = []
    for k in (1, 2):
        runs.append(_run(tmp_path / str(k), data.read(f"manifest:{dealt / f'{k}.csv'}"), k))
        (runs[-1] / "base.json").write_text(json.dumps({"id": begun.id, "sha256": begun.sha256}))
    assert main(["average", *map(str, runs), "--out", str(tmp_path / "mean")]) == 0
    with pytest.raises(DataInvalid, match="learned from pictures of drawn, and nothing tells"):
        CrossFitted.of(tmp_path / "mean").refuse_taught(data.read(f"manifest:{manifest}"))


def test_validation_chooses_nothing_for_networks_that_it_taught(
    flagged, mean, dealt, manifest, weights, tmp_path, capsys, monkeypatch
):
    plain = _run(tmp_path / "plain", data.read(f"manifest:{manifest}"), 5)
    told = _run(tmp_path / "told", data.read(f"manifest:{manifest}").assign(split="train"), 6)
    one = tmp_path / "out"
    # Beside a member that validation taught, but in its place; and after one that began with it.
    assert main(_member(flagged, plain, manifest, one, "--name", "Second")) == 1
    assert "Validation taught a network of release" in capsys.readouterr().err
    assert main(_member(weights, told, manifest, one)) == 1
    assert "60 pictures of validation taught" in capsys.readouterr().err
    assert main(_member(weights, plain, dealt / "1.csv", one)) == 1
    assert "This is one fold of" in capsys.readouterr().err
    monkeypatch.setenv("BONE_WEIGHTS", str(flagged))
    begun = Registry.open(flagged).find("champion")
    (plain / "base.json").write_text(json.dumps({"id": begun.id, "sha256": begun.sha256}))
    assert main(_member(weights, plain, manifest, one)) == 1
    assert "which validation taught too" in capsys.readouterr().err
    (plain / "base.json").unlink()
    assert main(_member(flagged, plain, manifest, one)) == 0
    release = Registry.open(one / "candidate").find("champion", Mode.ENSEMBLE)
    assert not release.cross_fitted and "Validation taught" not in model_card(release)
    with pytest.raises(DataInvalid, match="they cannot rank it"):
        screen.measure([str(plain), str(mean.parent / "1")], [f"manifest:{manifest}"], draws=5)
    with pytest.raises(DataInvalid, match="Validation taught release"):
        screen.measure([str(plain), begun.id], [f"manifest:{manifest}"], draws=5)


def test_a_mean_is_read_at_the_scale_of_its_networks(mean, manifest, tmp_path):
    """Told by radiographs without a label: twice as timid, its logits count twice."""
    rows = data.read(f"manifest:{manifest}")
    found, whole = CrossFitted.of(mean), networks.trained(mean, LITE2)
    parts = ["elbow", "hand"]
    assert found.matched(whole, rows, parts, SPEC) == dict.fromkeys(parts, (1.0, 0.0))  # labelled
    rows.loc[rows.part.isin(parts), "positive"] = np.nan
    before = found.matched(whole, rows, parts, SPEC)
    timid = whole | {"heads": dict(whole["heads"])}
    for part in parts:
        timid["heads"][f"{part}.weight"] = whole["heads"][f"{part}.weight"] / 2
        timid["heads"][f"{part}.bias"] = whole["heads"][f"{part}.bias"] / 2 + 3
    after = found.matched(timid, rows, parts, SPEC)
    for part in parts:
        (scale, shift), (twice, moved) = before[part], after[part]
        assert twice == pytest.approx(2 * scale, rel=1e-3)
        assert moved == pytest.approx(shift - 6 * scale, rel=1e-2, abs=1e-2)
    assert before["elbow"][0] == before["hand"][0] and before["elbow"][1] != before["hand"][1]


def test_a_class_that_one_fold_alone_knows_is_left_out(mean, manifest, tmp_path):
    """Of a part with some ten pictures one fold has enough for a class of its own: the mean, and
    what each run says, have the classes that all know, wherever they stand."""
    runs = [mean.parent / "1", tmp_path / "2"]
    (tmp_path / "2").mkdir()
    for name in ("rows.csv", "config.toml"):
        (tmp_path / "2" / name).write_text((mean.parent / "2" / name).read_text())
    second = networks.trained(mean.parent / "2", LITE2)
    order, heads = [3, 0, 1, 2], dict(second["heads"])
    for key in ("body_part.weight", "body_part.bias"):
        values = heads[key][order]
        heads[key] = torch.cat([values[:1], 9 + values[:1], values[1:]])
    kinds = ["other", "lower_leg", "elbow", "hand", "shoulder"]
    torch.save(second | {"heads": heads, "kinds": kinds}, tmp_path / "2" / NETWORKS)
    assert main(["average", *map(str, runs), "--out", str(tmp_path / "mean")]) == 0
    whole, before = (networks.trained(m, LITE2) for m in (tmp_path / "mean", mean))
    assert whole["kinds"] == list(KINDS)
    assert torch.equal(whole["heads"]["body_part.weight"], before["heads"]["body_part.weight"])
    rows, canvases = data.load_canvases(data.read(f"manifest:{manifest}"), SPEC)
    said = CrossFitted.of(tmp_path / "mean").logits(whole, rows, canvases, SPEC)["body_part"]
    expected = CrossFitted.of(mean).logits(before, rows, canvases, SPEC)["body_part"]
    np.testing.assert_allclose(said, expected, atol=1e-5)


def test_folds_are_not_dealt_over_others(dealt, manifest, capsys):
    before = sorted((p.name, p.read_bytes()) for p in dealt.iterdir())
    command = ["folds", "--data", f"manifest:{manifest}", "--count", "3", "--out", str(dealt)]
    assert main(command) == 1 and "holds folds already" in capsys.readouterr().err
    assert sorted((p.name, p.read_bytes()) for p in dealt.iterdir()) == before
    other = dealt / "others.csv"
    other.write_text(manifest.read_text())
    assert provenance.dealt([f"manifest:{other}"]) == []
    assert len(provenance.dealt([f"manifest:{dealt / '1.csv'}"])) == 1
    other.unlink()


def test_positives_are_dealt_first():
    """A person with both labels counts by his positives, or a fold could have most of them."""
    pictures = [
        (f"{n}-{k}", "hand", float(k == 0), "a", "train") for n in range(8) for k in range(9)
    ]
    pictures += [(f"b{n}", "hand", 0.0, "a", "train") for n in range(40)]
    person = np.array([n for n in range(8) for _ in range(9)] + list(range(8, 48)))
    rows = _rows(*pictures)
    found = pd.Series(folds.deal(rows, person, 4))
    assert rows.positive.groupby(found).sum().tolist() == [2, 2, 2, 2]


def test_data_without_any_label_teaches_no_finding(manifest, tmp_path, caplog):
    table = pd.read_csv(manifest)
    path = manifest.with_name("unlabelled.csv")
    table.assign(positive=np.nan).to_csv(path, index=False)
    settings = fit.Settings((f"manifest:{path}",), str(tmp_path / "a"), LITE2, size=96,
                            duplicates="keep")  # fmt: skip
    with pytest.raises(DataInvalid, match="lacks positives or negatives of: elbow, hand"):
        fit_member.MemberRun(settings)
    table.loc[table.part.isin(data.PARTS), "positive"] = np.nan
    table.to_csv(path, index=False)
    fit_member.MemberRun(replace(settings, out=str(tmp_path / "b")))
    assert "no finding of them and is a start for another run" in caplog.text


def test_a_transformer_goes_on_at_another_size(manifest, tmp_path):
    settings = fit.Settings((f"manifest:{manifest}",), str(tmp_path / "run"), VIT_TINY, size=96,
                            duplicates="keep")  # fmt: skip
    run = fit_member.MemberRun(settings)
    small = fit_member.MemberNetwork(VIT_TINY, Preprocessing(size=64), run.parts, run.kinds, 0)
    network = fit_member.MemberNetwork(VIT_TINY, run.spec, run.parts, run.kinds, 0)
    run._take_over(network, small.features.state_dict(), {})
    assert network.features.state_dict()["pos_embed"].shape[1] == 37


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
    assert "back by none of its runs" in capsys.readouterr().err


@pytest.mark.stress
def test_a_start_without_labels_of_the_three_parts_goes_on_at_another_size(manifest, tmp_path):
    """It learns from the other parts; what goes on from it begins with its features."""
    table = pd.read_csv(manifest)
    table.loc[table.part.isin(data.PARTS), "positive"] = np.nan
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
