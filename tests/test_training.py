"""fit, calibrate, evaluate and release on a tiny data set, end to end and after an interruption."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from core import architectures, files, network
from core.registry import Registry
from tests import tiny
from training import (
    catalogue,
    config,
    data,
    distill,
    fit,
    fit_member,
    learned,
    measured,
    member,
    metrics,
    sampling,
    strangers,
)
from training.__main__ import main
from training.catalogue import ReleaseRefused
from training.data import DataInvalid
from training.phase import Phase, rate


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("tiny"))


def settings(manifest: Path, out: Path) -> fit.Settings:
    return fit.Settings(
        data=(f"manifest:{manifest}",),
        out=str(out),
        size=64,
        joint_passes=96,
        branch_passes=16,
        body_part_passes=16,
        batch=16,
        validations=2,
        joint_rate=1e-3,
        device="cpu",
        minutes_between_checkpoints=0.0,
    )


def events(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    fit.Run(settings(manifest, folder)).fit()
    return folder


def test_a_run_leaves_what_others_read(run):
    phases = list(dict.fromkeys(e["phase"] for e in events(run)))
    assert phases == ["joint", "body_part", "elbow", "hand", "shoulder"]
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    assert "split_sha256" in (run / "config.toml").read_text()
    networks = torch.load(run / "networks.pt", weights_only=True)["networks"]
    assert networks.keys() == {"trunk", "body_part", "elbow", "hand", "shoulder"}
    assert networks["body_part"]["fc.weight"].shape == (6, 32 * network.WIDTH)
    assert networks["hand"]["fc.weight"].shape == (1, 32 * network.WIDTH)


@pytest.mark.parametrize("kind", [distill, fit, member])
def test_help_says_what_each_setting_means(kind, capsys, monkeypatch):
    """Thirty options said "default: 0.0" and no more."""
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit) as ended:
        main([kind.__name__.removeprefix("training."), "--help"])
    assert ended.value.code == 0
    told = [" ".join(one.split()) for one in capsys.readouterr().out.split("\n  --")]
    for field in dataclasses.fields(kind.Settings):
        [said] = [one for one in told if one.startswith(f"{field.name.replace('_', '-')} ")]
        assert len(field.metadata[config.HELP]) > 8 and field.metadata[config.HELP] in said
        given = field.default not in (dataclasses.MISSING, "")
        assert f"(default: {field.default})" in said if given else "default" not in said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"arch": architectures.LITE2}, "holds a run with arch resnet50"),
        ({"size": 96}, "holds a run with size 64"),
        ({"focus": 1}, "holds a run with focus 0"),
        ({"init": "imagenet"}, "holds a run with init scratch"),
        ({"seed": 7}, "holds a run with seed 0, not 7"),
        ({"joint_passes": 40_000}, "holds a run with joint_passes 96"),
        ({"branch_rate": 1e-5}, "holds a run with branch_rate 0.0001"),
    ],
)
def test_another_run_is_not_written_into_the_folder_of_this_one(manifest, run, changed, said):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    other = replace(settings(manifest, run), **changed)
    kind = fit.Run if other.arch == architectures.RESNET50 else fit_member.MemberRun
    with pytest.raises(data.DataInvalid, match=said):
        kind(other).fit()
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_a_run_on_another_split_is_refused_before_anything_is_written(manifest, run, tmp_path):
    rows = pd.read_csv(manifest)
    less = manifest.with_name("less.csv")
    rows[:-1].to_csv(less, index=False)
    before = (run / "config.toml").read_bytes()
    with pytest.raises(data.DataInvalid, match="holds a run with split_sha256"):
        fit.Run(replace(settings(manifest, run), data=(f"manifest:{less}",)))
    less.unlink()
    assert (run / "config.toml").read_bytes() == before


@pytest.mark.parametrize("steps", [2, 7])
def test_an_interrupted_run_goes_on_with_the_same_numbers(
    manifest, run, tmp_path, monkeypatch, steps
):
    count, step = 0, fit.Run._step

    def interrupted(self, phase, state):
        nonlocal count
        count += 1
        if count > steps:
            raise KeyboardInterrupt
        return step(self, phase, state)

    monkeypatch.setattr(fit.Run, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit.Run(settings(manifest, tmp_path)).fit()
    monkeypatch.setattr(fit.Run, "_step", step)
    fit.Run(settings(manifest, tmp_path)).fit()
    whole, resumed = events(run), events(tmp_path)
    # an interrupted phase repeats the validation it starts with, if no checkpoint came before it
    assert len(resumed) >= len(whole)
    by_place = {(e["phase"], e["seen"]): e for e in resumed}
    for event in whole:
        other = by_place[event["phase"], event["seen"]]
        for key in ("score", "best", "loss"):
            assert other[key] == pytest.approx(event[key], abs=1e-5)


def test_a_run_shows_its_curves(run):
    from training import curves

    table = curves.history(run)
    assert table.total.is_monotonic_increasing
    assert table.total.iloc[-1] == 96 + 4 * 16
    assert {"body_part", "other", "elbow", "hand", "shoulder", "leg"} == set(curves.figures(table))
    assert len(pd.read_csv(run / "history.csv")) == len(table)
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    page = (run / "curves.html").read_text()
    assert "cdn" not in page.partition("<body>")[0]
    assert "body part, accuracy" in page
    assert list((run / "tensorboard").glob("events.*"))


def test_a_cut_last_line_of_events_is_left_out(run, tmp_path):
    from training import curves

    text = (run / "events.jsonl").read_text()
    (tmp_path / "events.jsonl").write_text(text + text.splitlines()[0][:20])
    assert len(curves.history(tmp_path)) == len(curves.history(run))


POINTED = {
    "stage": "heatmap",
    "part": "Grad-CAM",
    "source": "drawn",
    "level": "image",
    "metric": "pointing game",
    "value": 0.5,
    "low": 0.4,
    "high": 0.6,
    "n": 8,
}


def test_from_a_run_to_a_release(manifest, run, tmp_path, capsys, monkeypatch):
    where = f"manifest:{manifest}"
    with monkeypatch.context() as patch:  # ten steps teach a branch nothing, and it is to be kept
        patch.setattr(metrics, "bootstrap", lambda *a, **k: metrics.Estimate(0.9, 0.8, 1.0, 8))
        assert main(["calibrate", str(run), "--id", "tiny-1"]) == 0
    candidate = str(run / "candidate")
    weights = tmp_path / "weights"
    assert main(["release", str(run), "--weights", str(weights)]) == 1  # no figures yet
    assert "evaluate the candidate" in capsys.readouterr().err
    assert not weights.exists()
    arguments = ["evaluate", "--data", where, "--weights", candidate, "--draws", "50"]
    assert main([*arguments, "--split", "test", "--out", str(run / "test")]) == 0
    assert "body_part" in capsys.readouterr().out
    assert {"metrics.json", "scores.csv", "report.html"} == {
        p.name for p in (run / "test").iterdir()
    }
    figures = json.loads((run / "test" / "metrics.json").read_text())
    supported = [*Registry.open(run / "candidate").find("tiny-1").parts]
    others = sorted({"elbow", "hand", "shoulder", "chest", "leg"} - {*supported})
    assert figures["confusion"]["part"] == [*supported, *others]
    assert {f["level"] for f in figures["figures"]} == {"image"}  # the tiny set tells no studies
    pointed = {"release_sha256": figures["release_sha256"], "figures": [POINTED]}
    (run / "test" / "heatmaps.json").write_text(json.dumps(pointed | {"release_sha256": "0" * 64}))
    assert main(["release", str(run), "--weights", str(weights)]) == 1  # of another release
    (run / "test" / "heatmaps.json").write_text(json.dumps(pointed | {"split": "val"}))
    assert main(["release", str(run), "--weights", str(weights)]) == 1  # of another split
    (run / "test" / "heatmaps.json").write_text(json.dumps(pointed | {"split": "test"}))
    assert main(["release", str(run), "--weights", str(weights)]) == 0
    before = {p: p.read_bytes() for p in weights.rglob("*") if p.is_file()}
    assert main(["release", str(run), "--weights", str(weights)]) == 1  # an id is given once
    assert "There is a release tiny-1 already" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in weights.rglob("*") if p.is_file()} == before
    registry = Registry.open(weights)
    release = registry.find("champion")
    assert release.id == "tiny-1"
    assert registry.verify(release) == []
    assert release.metrics["split"] == "test"
    card = (weights / "tiny-1" / "MODEL_CARD.md").read_text()
    assert "| body_part | all | all | accuracy |" in card
    assert "| heatmap | Grad-CAM | drawn | pointing game |" in card
    assert POINTED in release.metrics["figures"]
    mine = pd.read_csv(run / "test" / "scores.csv", dtype={"id": str, "patient": str})
    shipped = pd.read_csv(weights / "tiny-1" / "scores.csv", dtype={"id": str, "patient": str})
    assert shipped.probability.equals(mine.probability) and "path" not in shipped
    names = set(mine.id) | set(mine.patient)
    assert not names & (set(shipped.id) | set(shipped.patient))  # pictures are named by a code
    assert shipped.patient.nunique() == mine.patient.nunique()
    (known,) = measured.evaluations(registry, tmp_path / "no runs")
    assert known.scores().probability.equals(mine.probability)
    for part in release.parts:
        assert {p.name for p in release.stages[part].operating_points} == {
            "sensitive",
            "specific",
            "balanced",
        }


def test_what_a_phase_was_trained_with_stays_and_the_rest_may_change(manifest, tmp_path):
    """Of a run that was paused in the branch of the hand, after that of the elbow."""
    known = settings(manifest, tmp_path)
    config.write(tmp_path, dataclasses.asdict(known), "ab")
    files.save_checkpoint(tmp_path / "checkpoint.pt", {"done": {}, "phase": "joint"})
    config.refuse_another(tmp_path, dataclasses.replace(known, seed=1, joint_rate=1.0))
    for name in ("freeze", "strangers"):  # what the network of the checkpoint is made of
        with pytest.raises(DataInvalid, match=f"holds a run with {name} 0"):
            config.refuse_another(tmp_path, dataclasses.replace(known, **{name: 1}))
    done: dict[str, dict[str, object]] = {"joint": {}, "elbow": {}}
    files.save_checkpoint(tmp_path / "checkpoint.pt", {"done": done, "phase": "hand"})
    free = dataclasses.replace(known, data=("manifest:moved.csv",), device="cuda")
    config.refuse_another(
        tmp_path, dataclasses.replace(free, body_part_passes=9, body_part_rate=1.0)
    )
    for name in ("seed", "batch", "joint_rate", "branch_passes", "branch_rate"):
        with pytest.raises(DataInvalid, match=f"holds a run with {name}"):
            config.refuse_another(tmp_path, dataclasses.replace(known, **{name: 5}))


def test_a_setting_that_is_newer_than_the_run_has_its_default(manifest, tmp_path):
    """Its record has no line for it; what is asked for was taken for what the run had."""
    known = settings(manifest, tmp_path)
    older = dataclasses.asdict(known)
    del older["steady"], older["focus"]
    config.write(tmp_path, older, "ab")
    files.save_checkpoint(tmp_path / "checkpoint.pt", {"done": {"joint": {}}, "phase": "elbow"})
    config.refuse_another(tmp_path, known)
    for name in ("steady", "focus"):
        with pytest.raises(DataInvalid, match=f"holds a run with {name} 0.*, not 1"):
            config.refuse_another(tmp_path, dataclasses.replace(known, **{name: 1}))


def test_stage_1_is_calibrated_for_the_parts_that_are_left(run, tmp_path, monkeypatch):
    from training import candidate

    copy, calibrated = tmp_path / "run", []
    shutil.copytree(run, copy)
    good, bad = metrics.Estimate(0.9, 0.8, 1.0, 8), metrics.Estimate(0.5, 0.3, 0.7, 8)
    told = iter((good, good, bad))  # elbow, hand, shoulder
    monkeypatch.setattr(metrics, "bootstrap", lambda *a, **k: next(told))
    read = candidate.read_body_part

    def caught(stage, parts, fine, truth):
        calibrated.append(tuple(parts))
        return read(stage, parts, fine, truth)

    monkeypatch.setattr(candidate, "read_body_part", caught)
    found = Registry.open(candidate.build(copy, "tiny-4")).find("tiny-4")
    assert calibrated == [("elbow", "hand")] == [found.parts]


def test_a_release_without_any_fracture_model_is_none(run, tmp_path, capsys, monkeypatch):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "candidate", ignore_errors=True)
    worthless = metrics.Estimate(0.5, 0.3, 0.7, 8)
    monkeypatch.setattr(metrics, "bootstrap", lambda *a, **k: worthless)
    assert main(["calibrate", str(copy), "--id", "tiny-0"]) == 1
    assert "tiny-0 has no fracture model" in capsys.readouterr().err
    assert not (copy / "candidate").exists()
    nothing = SimpleNamespace(id="tiny-0", parts=())
    with pytest.raises(ReleaseRefused, match="has no fracture model"):
        catalogue.refuse_unfit(nothing)


def test_copies_that_taught_nothing_choose_nothing(run, tmp_path, monkeypatch):
    """Pictures of validation that `fit` left out, as they are in test too, set no threshold."""
    from training import candidate

    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    listed = pd.read_csv(copy / "rows.csv", dtype=str, keep_default_na=False)
    left = listed.id[listed.split == "val"].iloc[0]
    listed.loc[listed.id == left, "kept"] = "no"
    listed.to_csv(copy / "rows.csv", index=False)
    chosen = []

    def caught(entry, cascade, val, canvases, share):
        chosen.extend(val.id)
        raise DataInvalid("far enough")

    monkeypatch.setattr(candidate, "calibrate_parts", caught)
    with pytest.raises(DataInvalid, match="far enough"):
        candidate.build(copy, "tiny-3")
    assert chosen and left not in chosen


def test_what_taught_the_start_of_a_run_chooses_nothing_for_it(run, tmp_path):
    """Thresholds were chosen on answers to pictures that the run had begun with knowing."""
    from training import candidate

    copy, first = tmp_path / "run", tmp_path / "first"
    shutil.copytree(run, copy)
    first.mkdir()
    known = (copy / "rows.csv").read_text()
    (first / "config.toml").write_text('init = "scratch"\n')
    path = copy / "config.toml"
    path.write_text(path.read_text().replace('"scratch"', f'"{first}/networks.pt"'))
    (first / "rows.csv").write_text(known.replace(",val,", ",train,"))
    with pytest.raises(DataInvalid, match="60 pictures of validation taught"):
        candidate.build(copy, "tiny-5")
    (first / "rows.csv").write_text(known)  # of the same split they may
    rows = data.read_all(config.read_record(path)["data"])
    learned.refuse_taught(copy, rows[rows.split == "val"])


def test_figures_of_another_release_are_refused(manifest, run, tmp_path, monkeypatch):
    # ten steps teach a branch nothing, and it is to be kept
    monkeypatch.setattr(metrics, "bootstrap", lambda *a, **k: metrics.Estimate(0.9, 0.8, 1.0, 8))
    assert main(["calibrate", str(run), "--id", "tiny-2"]) == 0
    (run / "test").mkdir(exist_ok=True)
    (run / "test" / "metrics.json").write_text(
        json.dumps({"release_sha256": "0" * 64, "split": "test", "figures": []})
    )
    assert main(["release", str(run), "--weights", str(tmp_path / "w")]) == 1
    assert not (tmp_path / "w").exists()


def test_a_patient_in_two_splits_is_refused(manifest, tmp_path, capsys):
    rows = pd.read_csv(manifest)
    rows.loc[rows.split == "val", "group"] = rows.group[rows.split == "train"].to_numpy()
    leaky = manifest.parent / "leaky.csv"
    rows.to_csv(leaky, index=False)
    assert main(["fit", "--data", f"manifest:{leaky}", "--out", str(tmp_path)]) == 1
    assert "60 patients" in capsys.readouterr().err


def test_a_damaged_picture_is_left_out(manifest, tmp_path):
    rows = data.read(f"manifest:{manifest}").head(3).copy()
    (tmp_path / "bad.webp").write_bytes(b"RIFF")
    rows.loc[1, "path"] = str(tmp_path / "bad.webp")
    kept, canvases = data.load_canvases(rows, fit.Preprocessing(size=32))
    assert len(kept) == len(canvases) == 2
    assert kept.id.tolist() == [rows.id[0], rows.id[2]]


def test_nan_stops_the_run_and_keeps_the_last_good(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "loss", lambda *a: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(FloatingPointError):
        fit.Run(settings(manifest, tmp_path)).fit()
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "failed"


def test_samplers_balance_label_and_source(manifest):
    rows = data.read(f"manifest:{manifest}")
    many = pd.concat([rows, *[rows[rows.positive == 0]] * 9], ignore_index=True)
    drawn = sampling.FractureSampler(many, "hand").draw(2000, np.random.default_rng(0))
    chosen = many.loc[drawn]
    assert set(chosen.part) == {"hand"}
    assert 0.15 < chosen.positive.mean() < 0.35  # 1 in 11 as found, damped by the square root
    parts = many.loc[sampling.BodyPartSampler(many).draw(2000, np.random.default_rng(0))].part
    assert (parts.isin(["leg", "chest"])).mean() == pytest.approx(0.5, abs=0.05)
    many = pd.concat([many, strangers.rows(5)], ignore_index=True)
    parts = many.loc[sampling.BodyPartSampler(many).draw(2000, np.random.default_rng(0))].part
    assert (parts.isin(["leg", "chest"])).mean() == pytest.approx(1 / 3, abs=0.05)
    assert (parts == strangers.KIND).mean() == pytest.approx(1 / 6, abs=0.04)


def test_split_hash_depends_on_the_split_alone(manifest):
    rows = data.read(f"manifest:{manifest}")
    assert data.split_hash(rows) == data.split_hash(rows.sample(frac=1, random_state=1))
    moved = rows.copy()
    moved.loc[0, "split"] = "val"
    assert data.split_hash(rows) != data.split_hash(moved)


def test_rate_warms_up_and_ends_at_zero(manifest, tmp_path):
    s = replace(settings(manifest, tmp_path), warmup=0.1)
    one = Phase("joint", torch.nn.Identity(), lambda m, x: {}, None, 1000, 1e-3, ())
    values = [rate(n, one, s) for n in (0, 50, 100, 550, 1000)]
    assert values[0] < values[1] < values[2] == pytest.approx(1e-3)
    assert values[3] == pytest.approx(5e-4)
    assert values[4] == pytest.approx(0.0)
