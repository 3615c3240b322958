"""Starting from a release: what learns on starts as released, what does not stays byte for byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from core.errors import SettingsInvalid, WeightsInvalid
from core.manifest import FOCUSED, Ensemble, Member, Release
from core.registry import Registry
from core.transforms import Preprocessing
from tests import small, tiny
from tests.conftest import random_release
from training import (
    candidate,
    candidate_folder,
    catalogue,
    finetuned,
    fit,
    initial,
    measured,
    metrics,
    release,
    validate,
)
from training.catalogue import ReleaseRefused
from training.data import SIMULATED, DataInvalid
from training.jobs import Job, Record, datasets, work

BRANCHES = ("body_part", "elbow", "hand", "shoulder")


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with small.runs():
        yield


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with one release of small networks, every branch another one."""
    folder = tmp_path_factory.mktemp("weights")
    random_release(folder, size=32)
    manifest = json.loads((folder / "manifest.json").read_text())
    [entry] = manifest["releases"]
    registry = Registry.open(folder)
    tensors = registry.load(registry.find("random"))
    made = {"own/trunk.safetensors": tensors["random/trunk.safetensors"]}
    for number, name in enumerate(BRANCHES):
        stage, path = entry["stages"][name], f"own/{name}.safetensors"
        made[path] = {
            k: v + 0.01 * number if k.startswith("fc") else v
            for k, v in tensors[stage["branch"]].items()
        }
        stage |= {"trunk": "own/trunk.safetensors", "branch": path, "temperature": 1.5}
    known = {"split_sha256": "ab", "commands": ["the first"], "sources": ["drawn"]}
    entry |= {"id": "own", "training_data": known}
    release.write(folder, entry, {p: release.half(t) for p, t in made.items()})
    return folder


@pytest.fixture(autouse=True)
def _weights(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BONE_WEIGHTS", str(shelf))


@pytest.fixture
def own(shelf: Path) -> Release:
    return Registry.open(shelf).find("own")


@pytest.fixture(scope="module")
def corrections(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Elbows only, as the corrections of a reader may be."""
    path = tiny.write(tmp_path_factory.mktemp("corrected"), each=4)
    rows = pd.read_csv(path)
    rows[rows.part == "elbow"].to_csv(path, index=False)
    return f"manifest:{path}"


@pytest.fixture
def settings(corrections: str, tmp_path: Path) -> fit.Settings:
    return fit.Settings(
        data=(corrections,),
        out=str(tmp_path / "run"),
        init="champion",
        only="elbow",
        size=32,
        branch_passes=32,
        branch_rate=1e-3,
        batch=16,
        validations=2,
        device="cpu",
    )


def files_of(folder: Path, release: Release) -> dict[str, bytes]:
    """The bytes of a release by the name of the file."""
    return {Path(p).name: (folder / p).read_bytes() for p in release.files}


def test_a_branch_starts_as_released_and_only_it_changes(
    settings: fit.Settings, shelf: Path, own: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first score is the released branch's; in the candidate every other file has the same
    bytes, every other stage the same calibration."""
    started = []
    make = fit.Run._branch_phase

    def watched(self: fit.Run, *arguments: object) -> fit.Phase:
        phase = make(self, *arguments)
        started.append((phase.name, {k: v.clone() for k, v in phase.module.state_dict().items()}))
        return phase

    monkeypatch.setattr(fit.Run, "_branch_phase", watched)
    better = iter((0.5, 0.6, 0.7))  # so that what was trained is kept, however good it is
    monkeypatch.setattr(validate, "figures_of", lambda logits, pictures: {"elbow": next(better)})
    fit.Run(settings).fit()
    [(name, state)] = started
    released = Registry.open(shelf).load(own)["own/elbow.safetensors"]
    assert name == "elbow"
    for key, value in released.items():
        assert torch.equal(state[key], value), key
    run = Path(settings.out)
    assert [(e["phase"], e["seen"]) for e in tiny.events(run)] == [
        ("elbow", 0),
        ("elbow", 16),
        ("elbow", 32),
    ]
    monkeypatch.setattr(metrics, "bootstrap", lambda *a, **k: metrics.Estimate(0.9, 0.8, 1.0, 8))
    candidate.build(run, "tuned")
    registry = Registry.open(run / "candidate")
    tuned = registry.find("tuned")
    assert registry.verify(tuned) == []
    before, after = files_of(shelf, own), files_of(run / "candidate", tuned)
    assert before.keys() == after.keys()
    assert {n for n in before if before[n] != after[n]} == {"elbow.safetensors"}
    for part in ("hand", "shoulder", "body_part"):
        old, new = own.raw["stages"][part], tuned.raw["stages"][part]
        assert {k: v for k, v in new.items() if k not in ("trunk", "branch")} == {
            k: v for k, v in old.items() if k not in ("trunk", "branch")
        }
    points = {p["name"] for p in tuned.raw["stages"]["elbow"]["operating_points"]}
    assert points == {"sensitive", "balanced", "specific"}
    assert tuned.preprocessing == own.preprocessing
    assert tuned.training_data["base"]["id"] == "own"
    assert tuned.training_data["base"]["sha256"] == own.sha256
    first, second = tuned.training_data["commands"]
    assert first == "the first" and "--only elbow" in second
    # The release brings no list, so it may have learned from what chose these thresholds.
    assert "learned from pictures of drawn, and nothing tells" in tuned.training_data["notes"]


def test_all_branches_start_as_released_where_the_trunk_stays(
    settings: fit.Settings,
    tmp_path: Path,
    shelf: Path,
    own: Release,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stage 1 is trained, and kept where it got better; the rest comes through unchanged."""
    data = f"manifest:{tiny.write(tmp_path / 'data', each=3)}"
    whole = replace(settings, data=(data,), only="", joint_passes=0, body_part_passes=0)
    scores = iter((0.0, 0.5, 0.6, *[0.0] * 3))
    monkeypatch.setattr(
        validate, "figures_of", lambda logits, pictures: {"body_part": next(scores)}
    )
    fit.Run(replace(whole, branch_passes=0, body_part_passes=16, validations=1)).fit()
    tensors = Registry.open(shelf).load(own)
    networks = torch.load(Path(settings.out) / "networks.pt", weights_only=True)
    assert networks["kinds"] == list(own.stages["body_part"].classes)
    for name, state in networks["networks"].items():
        released = tensors[f"own/{name}.safetensors"]
        same = all(torch.equal(state[k], v) for k, v in released.items())
        assert same == (name != "body_part"), name


def test_a_joint_phase_starts_with_the_heads_of_the_release(
    settings: fit.Settings, shelf: Path, own: Release
) -> None:
    from training.model import JointNetwork

    kinds = ("elbow", "hand", "shoulder", "chest", "other")
    joint = JointNetwork(("elbow", "leg"), kinds=kinds)
    before = joint.heads["leg"].weight.clone()
    initial.load(joint, "own")
    tensors = Registry.open(shelf).load(own)
    released = tensors["own/body_part.safetensors"]
    assert torch.equal(joint.heads["elbow"].weight, tensors["own/elbow.safetensors"]["fc.weight"])
    assert torch.equal(joint.heads["leg"].weight, before)  # no release has one
    assert torch.equal(joint.heads["body_part"].bias, released["fc.bias"][[0, 1, 2, 3, 3]])


def test_a_trunk_that_is_shown_other_pictures_is_told_of(
    shelf: Path, own: Release, caplog: pytest.LogCaptureFixture
) -> None:
    path = shelf / "manifest.json"
    manifest = json.loads(path.read_text())
    [entry] = [e for e in manifest["releases"] if e["id"] == "own"]
    for cut in (False, True):
        entry["preprocessing"]["focus"] = cut
        if cut:
            entry["architecture"] = FOCUSED
        path.write_text(json.dumps(manifest))
        caplog.clear()
        initial.warn_of_focus("own", Preprocessing(focus=cut))
        initial.warn_of_focus("scratch", Preprocessing(focus=cut))
        assert not caplog.records
        initial.warn_of_focus("own", Preprocessing(focus=not cut))
        assert ("on pictures cut to the limb" in caplog.text) == cut
        assert ("not cut to the limb" in caplog.text) != cut


def test_an_alias_that_moves_does_not_move_the_run(
    settings: fit.Settings, shelf: Path, tmp_path: Path
) -> None:
    fit.Run(settings)
    path = shelf / "manifest.json"
    whole = path.read_text()
    manifest = json.loads(whole)
    try:
        manifest["aliases"]["champion"] = "random"
        path.write_text(json.dumps(manifest))
        assert fit.Run(settings).init == "own"
        other = fit.Run(replace(settings, out=str(tmp_path / "other")))
        assert other.init == "random"
        manifest["releases"] = [r for r in manifest["releases"] if r["id"] != "own"]
        path.write_text(json.dumps(manifest))
        with pytest.raises(DataInvalid, match="no release 'own'"):
            fit.Run(settings)
        with pytest.raises((DataInvalid, WeightsInvalid), match="is gone"):
            from training import finetuned

            finetuned.build(Path(settings.out), "tuned", {"only": "elbow", "data": settings.data})
    finally:
        path.write_text(whole)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"only": "knee"}, "does not know the knee by name"),
        ({"init": "scratch"}, "fine-tuned from a release"),
        ({"branch_passes": 0}, "At least one phase"),
        ({"size": 64}, "reads pictures of 32 pixels, not 64"),
        ({"init": "nothing"}, "no such file, and no release"),
        ({"only": "hand"}, "train lacks positives or negatives of: hand"),
    ],
)
def test_what_cannot_be_fine_tuned_is_one_sentence(
    settings: fit.Settings, changed: dict[str, object], words: str
) -> None:
    with pytest.raises((DataInvalid, SettingsInvalid), match=words):
        fit.Run(replace(settings, **changed))


def test_progress_counts_the_one_phase(settings: fit.Settings, tmp_path: Path) -> None:
    status = {"state": "running", "phase": "elbow", "seen": 16, "speed": 8.0}
    record = Record(tmp_path, Job("x", asdict(settings)), status, None, True)
    assert (record.passes, record.seen) == (32, 16)


def test_a_branch_that_calibration_refuses_is_no_candidate(
    settings: fit.Settings, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor what an interrupted calibration leaves; nothing of either can be added or promoted."""
    run, task = Path(settings.out), Job("x", asdict(settings), task="evaluate:test")
    fit.Run(replace(settings, branch_passes=16, validations=1)).fit()
    worthless = metrics.Estimate(0.5, 0.3, 0.7, 8)
    monkeypatch.setattr(metrics, "bootstrap", lambda *a, **k: worthless)
    for _ in range(2):  # the second evaluation found the first one's files
        with pytest.raises(DataInvalid, match="no better than chance"):
            work._evaluate(run, task)
        assert not [*run.glob("candidate*")] and not candidate.is_whole(run)
    at_once = nullcontext(run / "candidate")  # as an earlier version built it
    monkeypatch.setattr(candidate_folder, "building", lambda _: at_once)
    with pytest.raises(DataInvalid, match="no better than chance"):
        work._evaluate(run, task)
    assert (run / "candidate").exists() and not candidate.is_whole(run)
    with pytest.raises(ReleaseRefused, match="no operating points of: elbow"):
        catalogue.add_run(run, shelf)
    with pytest.raises(ReleaseRefused, match="no operating points of: elbow"):
        release.publish(run, shelf, "champion")


def test_there_is_a_candidate_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole: the old one until the new one is, whatever ends the process in between."""

    def build(mark: str) -> None:
        with candidate_folder.building(tmp_path) as folder:
            folder.mkdir()
            (folder / "mark").write_text(mark)
            if mark == "refused":
                raise KeyboardInterrupt

    def mark() -> str:
        return (tmp_path / "candidate" / "mark").read_text()

    build("first")
    with pytest.raises(KeyboardInterrupt):
        build("refused")
    assert mark() == "first" and [p.name for p in tmp_path.iterdir()] == ["candidate"]

    def ended(folder: Path, **_: object) -> None:
        if folder.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as removing:
        removing.setattr(candidate_folder.shutil, "rmtree", ended)
        with pytest.raises(KeyboardInterrupt):
            build("second")
    assert mark() == "second"
    shutil.rmtree(tmp_path / "candidate.before")
    (tmp_path / "candidate").rename(tmp_path / "candidate.before")  # ended between two renames
    with pytest.raises(KeyboardInterrupt):
        build("refused")
    assert mark() == "second"
    build("third")
    assert mark() == "third" and [p.name for p in tmp_path.iterdir()] == ["candidate"]


@pytest.mark.parametrize(
    "asked",
    [
        candidate.is_whole,
        lambda run: catalogue.add_run(run, run / "weights"),
        lambda run: release.publish(run, run / "weights", "champion"),
    ],
)
def test_a_candidate_that_was_put_aside_is_found(
    asked: Callable[[Path], object], shelf: Path, tmp_path: Path
) -> None:
    """Where a process ended between the two renames, whoever reads next puts it back."""
    shutil.copytree(shelf, tmp_path / "candidate.before")
    (tmp_path / "candidate.part").mkdir()
    with suppress(measured.FiguresInvalid):  # it was never measured
        assert asked(tmp_path)
    assert candidate.is_whole(tmp_path) and not (tmp_path / "candidate.before").exists()


def test_a_candidate_that_is_put_back_meanwhile_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page looks just between the two renames."""
    rename = Path.rename

    def watched(path: Path, target: Path) -> Path:
        found = rename(path, target)
        if target.name == "candidate.before":
            monkeypatch.setattr(Path, "rename", rename)
            candidate_folder.of(tmp_path)
        return found

    for mark in ("first", "second"):
        with candidate_folder.building(tmp_path) as folder:
            folder.mkdir()
            (folder / mark).touch()
            monkeypatch.setattr(Path, "rename", watched)
    assert [p.name for p in (tmp_path / "candidate").iterdir()] == ["second"]
    assert [p.name for p in tmp_path.iterdir()] == ["candidate"]


@pytest.mark.parametrize(("ended", "kept"), [("_swap", "first"), ("_settle", "second")])
def test_a_list_comes_with_its_candidate(
    ended: str, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a new one never lies beside the one before, whenever the process ends."""

    def build(mark: str) -> None:
        with candidate_folder.building(tmp_path) as folder:
            (folder / "beside").mkdir(parents=True)
            for path in (folder / "mark", folder / "beside" / "rows.csv"):
                path.write_text(mark)

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    build("first")
    with monkeypatch.context() as killed:
        killed.setattr(candidate_folder, ended, end)
        with pytest.raises(KeyboardInterrupt):
            build("second")
    assert [p.name for p in candidate_folder.of(tmp_path).iterdir()] == ["mark"]
    for path in (tmp_path / "candidate" / "mark", tmp_path / "rows.csv"):
        assert path.read_text() == kept


def test_a_release_without_operating_points_is_not_promoted(shelf: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(shelf, weights)
    manifest = json.loads((weights / "manifest.json").read_text())
    manifest["aliases"] = {"champion": "random"}
    del manifest["releases"][1]["stages"]["hand"]["operating_points"]
    (weights / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ReleaseRefused, match="own has no operating points of: hand"):
        catalogue.promote(weights, "own")


def test_what_belongs_to_a_whole_cascade_is_refused_of_one_branch(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('only = "elbow"\n')
    for asked in ({"size": 64}, {"flip_average": True}):
        with pytest.raises(DataInvalid, match="are for a whole cascade"):
            candidate.build(tmp_path, "tuned", **asked)


def test_stage_1_needs_supported_parts_to_choose_on(settings: fit.Settings, tmp_path: Path) -> None:
    """Without any its score was no number, and what it began with was kept."""
    path = tiny.write(tmp_path / "data", each=2)
    rows = pd.read_csv(path)
    rows[(rows.split != "val") | (rows.part == "leg")].to_csv(path, index=False)
    changed = replace(settings, data=(f"manifest:{path}",), only="body_part")
    words = "The split val has no radiograph of: elbow, hand, shoulder."
    with pytest.raises(DataInvalid, match=words):
        fit.Run(changed)
    found = datasets.overview([datasets.DataSet("x", f"manifest:{path}")])
    assert found.problems("body_part") == [words]


def test_the_thresholds_of_one_branch_lean_on_the_other_parts() -> None:
    """Those that tell something; its reading is that of its own pictures, and theirs stays."""
    rng = np.random.default_rng(7)
    truth = np.tile([0.0, 1.0], 30)
    scores = {
        "forearm": np.where(truth == 1, 1.0, -1.0) + rng.normal(0, 1.2, 60),
        "elbow": np.where(truth == 1, 1.0, -1.0) + rng.normal(0, 2.0, 60),
        "hand": rng.normal(0, 1, 60),  # no better than chance
        "shoulder": np.zeros(60),  # all of them positive
    }
    tables = []
    for part in scores:
        patients = [f"{part} {n}" for n in range(60)]
        labels = np.ones(60) if part == "shoulder" else truth
        rows = {"part": part, "patient": patients, "positive": labels, "positive_means": "fracture"}
        tables.append(pd.DataFrame(rows))
    val, logits = pd.concat(tables, ignore_index=True), np.concatenate([*scores.values()])
    asked: Any = SimpleNamespace(logits_and_features=lambda _, c: (c[:, None], None))

    def calibrated(there: pd.DataFrame) -> dict[str, Any]:
        stages = {p: {"temperature": 1.5, "bias": -1.0} for p in ("elbow", "hand", "shoulder")}
        entry: dict[str, Any] = {"stages": {"body_part": {}, "forearm": {}, **stages}}
        share = {"forearm": 0.5}
        found = logits[there.index.to_numpy()]
        candidate.calibrate_parts(entry, asked, there, found, share, ("forearm",))
        assert {p: entry["stages"][p] for p in stages} == stages
        return dict(entry["stages"]["forearm"])

    alone = calibrated(val[val.part == "forearm"])
    assert calibrated(val[val.part != "elbow"]) == alone
    leaning = calibrated(val)
    own, lent = alone.pop("operating_points"), leaning.pop("operating_points")
    assert leaning == alone
    own, lent = ({p["name"]: p["threshold"] for p in points} for points in (own, lent))
    assert lent["sensitive"] < own["sensitive"]


def test_what_validation_has_of_the_other_parts_is_lent(own: Release) -> None:
    rows = pd.DataFrame(
        [
            ("hand", 1.0, "val", "drawn"),
            ("hand", 1.0, "train", "drawn"),
            ("hand", 1.0, "test", "drawn"),
            ("hand", None, "val", "drawn"),
            ("hand", 1.0, "val", SIMULATED),
            ("elbow", 1.0, "val", "drawn"),
            ("leg", 1.0, "val", "drawn"),  # the release has no model of it
        ],
        columns=["part", "positive", "split", "source"],
    )
    assert [*finetuned._lenders(rows, own, "elbow").index] == [0]


def test_a_branch_is_calibrated_beside_the_other_parts(
    shelf: Path, own: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = f"manifest:{tiny.write(tmp_path / 'data', each=2)}"
    branch = Registry.open(shelf).load(own)["own/elbow.safetensors"]
    torch.save({"networks": {"elbow": branch}}, tmp_path / "networks.pt")
    (tmp_path / initial.BASE).write_text(json.dumps({"id": own.id, "sha256": own.sha256}))
    config = {"only": "elbow", "data": [data]}
    lines = [f"{name} = {json.dumps(value)}" for name, value in config.items()]
    (tmp_path / "config.toml").write_text("\n".join(lines))
    seen: list[set[str]] = []

    def caught(entry: object, cascade: object, val: pd.DataFrame, *_: object) -> None:
        seen.append({*val.part})
        raise KeyboardInterrupt

    monkeypatch.setattr(candidate, "calibrate_parts", caught)
    with pytest.raises(KeyboardInterrupt):
        finetuned.build(tmp_path, "tuned", config)
    assert seen == [{"elbow", "hand", "shoulder"}]


def test_a_second_network_that_is_left_out_is_told(
    settings: fit.Settings, own: Release, tmp_path: Path
) -> None:
    one = Ensemble((Member("Second", "t", "b"),))
    stages = {**own.stages, "elbow": replace(own.stages["elbow"], ensemble=one)}
    base = replace(own, stages=stages)
    assert "Second, which stood beside it there, is left out." in finetuned._notes(
        base, "elbow", tmp_path
    )
    assert "left out" not in finetuned._notes(base, "hand", tmp_path)
