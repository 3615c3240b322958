"""A member is fitted and joined by weights; in the mode fast the release stays what it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from scipy.special import softmax

from core import members, quality
from core.architectures import LITE2, LITE2_LOCAL
from core.cascade import Cascade
from core.errors import SettingsInvalid
from core.manifest import Ensemble, Member, Release, Stage
from core.registry import Registry
from core.transforms import Preprocessing, to_tensor
from core.types import BodyPart, Mode, Radiograph
from tests import ensembles, tiny
from training import (
    calibrate,
    candidate,
    data,
    fit,
    fit_member,
    initial,
    learned,
    member,
    networks,
    provenance,
    regression,
)
from training.__main__ import main
from training.data import DataInvalid

NAME = "EfficientNet-Lite2"


@pytest.fixture(scope="module", autouse=True)
def _one_strength() -> Iterator[None]:
    """A single strength to choose from; the last test has several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(member, "_STRENGTHS", (1e-3,))
        yield


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def run(weights: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    command = ["member", "--base", str(weights), "--data", f"manifest:{manifest}"]
    command += ["--out", str(folder), "--id", "joined", "--views", "2", "--duplicates", "keep"]
    assert main([*command, "--default", "ensemble"]) == 0
    return folder


def test_a_member_is_fitted_and_joined(run):
    release = Registry.open(run / "candidate").find("champion")
    assert release.id == "joined" and release.mode is Mode.ENSEMBLE
    assert set(release.architectures.values()) == {"efficientnet-lite2"}
    assert all(path.startswith("joined/") for path in release.files)
    for part in release.parts:
        ensemble = release.stages[part].ensemble
        assert ensemble is not None
        [one] = ensemble.members
        assert one.name == NAME and one.temperature > 0
        assert sum(ensemble.weights) == pytest.approx(1)
        assert {p.name for p in release.stages[part].operating_points} == {
            "sensitive",
            "specific",
            "balanced",
        }
    shared = {s.ensemble.weights for s in release.stages.values() if s.ensemble}
    assert len(shared) == 1  # all parts share the weights
    [command] = release.training_data["commands"]
    assert command.startswith("python -m training member") and "--views 2" in command
    assert release.training_data["sources"] == ["drawn"]
    assert release.licence == "Weights: what the owners of drawn allow."


def test_fast_is_the_network_of_the_base_read_by_the_rules_of_today(run, weights, manifest):
    """The base may be older than they are; the calibration of these tests' base is made up."""
    base, joined = Cascade.load(weights, device="cpu"), Cascade.load(run / "candidate")
    rng = np.random.default_rng(0)
    canvases = [np.pad(tiny.picture("hand", True, rng), ((3, 3), (13, 13))) for _ in range(2)]
    part, stage = base.release.parts[1], joined.in_mode(Mode.FAST).release.stages["hand"]
    logits, _ = base.logits_and_features(part, np.stack(canvases))
    fast = joined.in_mode(Mode.FAST).assess(canvases, part)
    for logit, assessed in zip(logits[:, 0], fast, strict=True):
        wanted = quality.sigmoid(float(logit), stage.temperature, stage.bias)
        assert assessed.fracture.probability == pytest.approx(wanted, abs=1e-6)
    rows = data.read(f"manifest:{manifest}")
    val, seen = data.load_canvases(
        rows[(rows.split == "val") & (rows.part == "hand")], base.release.preprocessing
    )
    logits, _ = base.logits_and_features(part, seen)
    said = quality.sigmoid(logits[:, 0].astype(float), stage.temperature, stage.bias)
    points = {p.name: p for p in stage.operating_points}
    at = points["sensitive"].threshold
    assert points["sensitive"].n == len(val)
    assert points["sensitive"].sensitivity == np.mean(said[val.positive == 1] >= at)
    assert stage.operating_points != base.release.stages["hand"].operating_points


def test_the_features_of_a_network_that_sees_the_bar_tell_it(run, manifest):
    """ImageNet's Lite2 tells a drawing with a bar from one without; a random ResNet50 hardly."""
    from training import metrics

    cascade = Cascade.load(run / "candidate")
    rows = data.read(f"manifest:{manifest}")
    for part in cascade.release.parts:
        val = rows[(rows.split == "val") & (rows.part == part)]
        val, canvases = data.load_canvases(val, cascade.release.preprocessing)
        logits, _ = cascade.logits_and_features(part, canvases, NAME)
        assert metrics.auroc(val.positive, logits[:, 0]) > 0.9


def test_the_same_member_again_takes_the_place_of_the_first(run, manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(learned, "thresholds_note", lambda *_: "Too much?")
    command = ["member", "--base", str(run), "--data", f"manifest:{manifest}", "--views", "1"]
    assert main([*command, "--out", str(tmp_path), "--duplicates", "keep"]) == 0
    release = Registry.open(tmp_path / "candidate").find("champion", Mode.ENSEMBLE)
    assert release.modes == (Mode.FAST, Mode.ENSEMBLE) and release.id == "joined"
    assert release.training_data["notes"] == "Too much?"  # what the card has to say of the base
    assert [m.name for m in release.stages["hand"].ensemble.members] == [NAME]
    before = json.loads((run / "candidate" / "manifest.json").read_text())["releases"][0]
    assert {f["path"] for f in before["files"]} == set(release.files)


def test_notes_stay_as_they_are_and_what_is_new_is_said_once():
    table = "a\n\n---\n\nb\n\n---"
    said = member._told(["", table, "Too much?"], ["Too much?", "", "New.", "New."])
    assert said == f"{table}\n\nToo much?\n\nNew."


def test_a_run_of_one_part_does_not_say_which_pictures_of_all_are_copies(manifest, tmp_path):
    """Where ``fit --only`` ends, ``member`` goes on: its list has one part's pictures alone."""
    base, trained = tmp_path / "only", tmp_path / "all"
    whole = data.read_all([f"manifest:{manifest}"])
    for run, rows in ((base, whole[whole.part == "hand"]), (trained, whole.drop(index=0))):
        run.mkdir()
        rows[["source", "id", "split"]].to_csv(run / "rows.csv", index=False)
    (base / "config.toml").write_text('only = "hand"\n')
    asked = (f"manifest:{manifest}",)
    settings = member.Settings(str(base), asked, str(tmp_path), duplicates="keep")
    assert [len(rows) for rows in member._settled(settings)] == [len(whole)] * 2
    found = member._settled(replace(settings, init=str(trained)))
    assert [len(rows) for rows in found] == [len(whole), len(whole) - 1]


@pytest.mark.parametrize("record", ["config.toml", "average.json", "member.json"])
def test_a_run_keeps_its_own_beginnings(record, tmp_path, capsys):
    """A member in its folder would say what that was made from in the place of the run's own."""
    (tmp_path / record).write_text("{}")
    where = ["--base", str(tmp_path), "--data", "manifest:gone.csv", "--out", str(tmp_path)]
    assert main(["member", *where]) == 1
    assert "holds a run; give another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [record]


@pytest.mark.parametrize("begun", ["base", "init"])
def test_what_a_run_began_with_is_not_forgotten_by_what_lies_in_it(begun, tmp_path, capsys):
    """Its candidate or its networks begin what would be written over its record."""
    run = tmp_path / "run"
    (run / "candidate").mkdir(parents=True)
    (run / "networks.pt").touch()
    (run / provenance.MEMBER).write_text('{"base": "first"}')
    given = {"base": str(tmp_path), "init": ""}
    given[begun] = str(run / {"base": "candidate", "init": "networks.pt"}[begun])
    where = ["--data", "manifest:gone.csv", "--out", str(run)]
    assert main(["member", *[f"--{k}={v}" for k, v in given.items()], *where]) == 1
    assert "holds a run; give another --out" in capsys.readouterr().err
    provenance.refuse_run(tmp_path, provenance.MEMBER, [str(run)])  # no run: nothing to forget


def test_a_base_by_the_folder_of_its_candidate_is_the_run(run, tmp_path):
    """Its list says what the candidate has learned from; a folder of no run stays what it is."""
    settings = member.Settings(str(run / "candidate"), ("manifest:a.csv",), str(tmp_path / "out"))
    found = member._with_run(settings)
    assert found == replace(settings, base=str(run))
    _, base = member._base(found)
    member._record(found, base, {"sources": [], "commands": []}, tmp_path / "out")
    lists, _ = learned.behind(tmp_path / "out")
    assert lists == {run / "rows.csv"}
    alone = replace(settings, base=str(tmp_path / "candidate"))
    assert member._with_run(alone) == alone


def test_a_member_that_is_refused_changes_no_list(run, weights, manifest, tmp_path, monkeypatch):
    """Those of the candidate that stays; of one that is made they say what it learned from."""
    listed = pd.read_csv(run / "rows.csv")
    assert len(listed) == len(data.read_all([f"manifest:{manifest}"]))
    assert set(listed.kept) == {"yes"} and (run / provenance.MEMBER).exists()

    def refused(*_: object) -> None:
        raise DataInvalid("The release is too large.")

    monkeypatch.setattr(member.release, "write", refused)
    assert not (run / "candidate" / "beside").exists()
    for name in ("rows.csv", provenance.MEMBER):
        (tmp_path / name).write_text("of the candidate that stays")
    where = ["--base", str(weights), "--data", f"manifest:{manifest}", "--out", str(tmp_path)]
    assert main(["member", *where, "--duplicates", "keep"]) == 1
    for name in ("rows.csv", provenance.MEMBER):
        assert (tmp_path / name).read_text() == "of the candidate that stays"


def test_what_cannot_be_fitted_is_said(weights, manifest, tmp_path):
    rows = pd.read_csv(manifest)
    rows = rows[~((rows.part == "hand") & (rows.split == "val") & (rows.positive == 1))]
    rows.to_csv(manifest.with_name("fewer.csv"), index=False)
    settings = member.Settings(
        str(weights), (f"manifest:{manifest.with_name('fewer.csv')}",), str(tmp_path)
    )
    from core.settings import Settings

    with pytest.raises(DataInvalid, match="val lacks positives or negatives of: hand"):
        member.build(settings, Settings.from_environment())
    with pytest.raises(DataInvalid, match="no weights of vit-tiny-patch16"):
        initial.features("vit-tiny-patch16", Preprocessing())
    with pytest.raises(SettingsInvalid, match="no architecture 'swin'"):
        member.Settings("a", (), "b", arch="swin")


def test_a_transformer_begins_with_the_weights_of_a_file(tmp_path):
    """Of another size and with its classifier, as timm has them."""
    from core.architectures import VIT_TINY, make

    tensors = dict(make(VIT_TINY, Preprocessing(size=224)).state_dict())
    save_file(tensors | {"head.weight": torch.zeros(9, 192)}, tmp_path / "vit.safetensors")
    state = initial.features(VIT_TINY, Preprocessing(size=96), str(tmp_path / "vit.safetensors"))
    assert state["pos_embed"].shape == (1, 37, 192) and "head.weight" not in state
    assert member._width(VIT_TINY, state, Preprocessing(size=96)) == 192
    with pytest.raises(DataInvalid, match="not those of efficientnet-lite2"):
        member._width("efficientnet-lite2", state, Preprocessing(size=96))


def test_a_network_that_was_trained_with_the_cascade_joins_it(weights, manifest, tmp_path, capsys):
    """``fit --arch`` trains features and heads; ``member`` takes both and fits nothing of them."""
    run = tmp_path / "run"
    fit = ["fit", "--arch", LITE2, "--init", "imagenet", "--out", str(run), "--size", "96"]
    fit += ["--data", f"manifest:{manifest}", "--duplicates", "keep", "--batch", "8"]
    assert main([*fit, "--joint-passes", "32", "--validations", "2", "--freeze", "2"]) == 0
    found = torch.load(run / "networks.pt", weights_only=True)
    before = initial.features(LITE2, Preprocessing(size=96))
    changed = {k for k, v in before.items() if not torch.equal(v, found["features"][k])}
    # the early layers stay, and so do all depthwise filters, but not what lies between
    assert "conv1.weight" not in changed and "blocks.6.bn3.running_mean" not in changed
    assert "blocks.9.conv2.weight" not in changed and "blocks.9.conv1.weight" in changed
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    with (run / "rows.csv").open("a") as listed:  # which are not among those it is joined on
        listed.write("mura,1,train,yes\n")

    where = ["--data", f"manifest:{manifest}"]
    for other in (["calibrate", str(run), "--id", "none"], ["joint", str(run), *where]):
        assert main(other) == 1 and "no cascade" in capsys.readouterr().err

    base = tmp_path / "base"
    ensembles.with_space(weights, base, limit=0.01)  # of an older rule: all would be refused
    command = ["member", "--base", str(base), "--init", str(run), *where]
    command += ["--duplicates", "keep", "--id", "joined", "--out"]
    assert main([*command, str(tmp_path / "joined")]) == 0
    registry = Registry.open(tmp_path / "joined" / "candidate")
    release = registry.find("champion", Mode.ENSEMBLE)
    for part in release.parts:
        [one] = release.stages[part].ensemble.members
        head = registry.load(release)[one.branch]["fc.weight"]
        assert torch.allclose(head.float(), found["heads"][f"{part}.weight"], atol=1e-3)
    [one] = release.stages["body_part"].ensemble.members
    assert set(one.classes) <= set(release.stages["body_part"].classes)
    fast = registry.find("champion", Mode.FAST)
    _is_read_anew(Registry.open(weights).find("champion"), fast, registry.folder, manifest)
    said = " ".join(release.training_data["commands"])
    assert "training fit" in said and "training member" in said
    assert release.training_data["sources"] == ["drawn", "mura"] and "MURA" in release.licence

    # Without the run's heads its layer in stage 1 would read an extractor it never learned from.
    again = ["member", "--base", str(tmp_path / "joined"), *where, "--duplicates", "keep"]
    again += ["--views", "1", "--out"]
    assert main([*again, str(tmp_path / "again")]) == 0
    release = Registry.open(tmp_path / "again" / "candidate").find("champion", Mode.ENSEMBLE)
    assert release.stages["body_part"].ensemble is None
    assert not any("body_part-" in path for path in release.files)
    assert release.stages["body_part"].other_shift == fast.stages["body_part"].other_shift
    # And two members of one architecture have files of their own.
    assert main([*again, str(tmp_path / "two"), "--name", "Second one"]) == 0
    release = Registry.open(tmp_path / "two" / "candidate").find("champion", Mode.ENSEMBLE)
    both = release.stages["hand"].ensemble.members
    assert [m.name for m in both] == [NAME, "Second one"]
    assert len({m.trunk for m in both}) == len({m.branch for m in both}) == 2
    [first] = release.stages["body_part"].ensemble.members
    assert first.trunk == both[0].trunk and "joined/second-one.safetensors" in release.files


def test_a_local_network_joins_beside_another_and_is_not_asked_for_the_part(
    run, manifest, tmp_path
):
    local = tmp_path / "local"
    local.mkdir()
    spec = Preprocessing(size=96)
    torch.manual_seed(3)
    state = initial.features(LITE2_LOCAL, spec)
    heads = {}
    for channel, part in enumerate(("elbow", "hand", "shoulder")):
        heads[f"{part}.weight"], heads[f"{part}.bias"] = torch.zeros(1, 16), torch.zeros(1)
        heads[f"{part}.weight"][0, channel] = 1.0
    found = {"arch": LITE2_LOCAL, "features": state, "heads": heads, "size": 96, "focus": False}
    torch.save(found | {"kinds": []}, local / "networks.pt")
    command = ["member", "--base", str(run), "--arch", LITE2_LOCAL, "--init", str(local)]
    command += ["--data", f"manifest:{manifest}", "--duplicates", "keep", "--default", "ensemble"]
    assert main([*command, "--out", str(tmp_path / "three")]) == 0
    release = Registry.open(tmp_path / "three" / "candidate").find("champion")
    assert release.networks == "ResNet50, EfficientNet-Lite2 and Local network"
    before = Registry.open(run / "candidate").find("champion").stages["body_part"]
    now = release.stages["body_part"]
    assert (now.ensemble is None) == (before.ensemble is None)
    hand = release.stages["hand"].ensemble
    assert [m.name for m in hand.members] == [NAME, "Local network"]
    assert len(hand.weights) == 3 and sum(hand.weights) == pytest.approx(1)
    cascade = Cascade.load(tmp_path / "three" / "candidate", device="cpu")
    picture = tiny.picture("hand", True, np.random.default_rng(0))
    radiograph = Radiograph(picture, "1.png", "0" * 64, "PNG")
    [result] = cascade.predict([radiograph], part=BodyPart.HAND)
    said = result.fracture.members
    assert [m.name for m in said] == ["ResNet50", NAME, "Local network"]
    assert said[2].heatmap.values.shape == (6, 6) == result.heatmap.values.shape


def _is_read_anew(before: Release, fast: Release, folder: Path, manifest: Path) -> None:
    """Stage 1 of the ResNet50 alone is as the base has it, but for what validation says today."""
    was, now = (replace(r.stages["body_part"], trunk="", branch="") for r in (before, fast))
    rows = data.read_all([f"manifest:{manifest}"])
    val, canvases = data.load_canvases(rows[rows.split == "val"], fast.preprocessing)
    cascade = Cascade.load(folder, device="cpu")
    logits, seen = cascade.logits_and_features("body_part", canvases)
    read = candidate.read_body_part(was, fast.parts, logits, val.part)
    for name, value in read.items():
        assert getattr(now, name) == pytest.approx(value, rel=1e-4, abs=1e-4)
    assert read["temperature"] != was.temperature
    assert now == replace(was, **{name: getattr(now, name) for name in read})
    known = seen[val.part.isin(fast.parts).to_numpy()]
    farthest = max(cascade.feature_space.distance(f) for f in known)
    assert fast.rejection["limit"] == pytest.approx(candidate.MARGIN * farthest, rel=1e-3)


def test_stage_1_asks_its_member_for_what_it_knows():
    """Of classes that both know, the logarithms of the probabilities by weight; of the one that the
    member has not learned, what the own network says of it beside the others."""
    own = np.array([[2.0, 1.0, 0.0, 3.0], [0.0, 0.0, 0.0, -5.0]])
    other = np.array([[0.0, 5.0, 1.0], [4.0, 0.0, 0.0]])  # hand, elbow, other
    kinds = ("elbow", "hand", "other", "stranger")

    def joined(weight: float) -> np.ndarray:
        one = Member("Other", "t", "b", weight=weight, classes=("hand", "elbow", "other"))
        return members.first(Stage("t", "b", kinds, ensemble=Ensemble((one,))), [own, other])

    np.testing.assert_allclose(softmax(joined(0.0), 1), softmax(own, 1))
    alone = softmax(joined(1.0)[:, :3], 1)
    np.testing.assert_allclose(alone, softmax(other, 1)[:, [1, 0, 2]])
    middle = 0.7 * np.log(softmax(own[:, :3], 1)) + 0.3 * np.log(softmax(other, 1)[:, [1, 0, 2]])
    np.testing.assert_allclose(softmax(joined(0.3)[:, :3], 1), softmax(middle, 1))
    for weight in (0.0, 0.3, 0.9):  # a stranger is as probable as the own network says
        np.testing.assert_allclose(softmax(joined(weight), 1)[:, 3], softmax(own, 1)[:, 3])


def test_an_ensemble_says_of_the_part_what_its_networks_say(weights, tmp_path):
    """Through the whole cascade; in the mode fast stage 1 is what it was."""
    ensembles.with_members(weights, tmp_path, NAME, stage1=True)
    cascade = Cascade.load(tmp_path, device="cpu").in_mode(Mode.ENSEMBLE)
    stage = cascade.release.stages["body_part"]
    [one] = stage.ensemble.members
    canvases = np.random.default_rng(3).integers(0, 256, (3, 96, 96), dtype=np.uint8)
    logits = [cascade.logits_and_features("body_part", canvases, m)[0] for m in ("", one.name)]
    both = quality.collapse(
        members.first(stage, logits) + stage.shifts(cascade.release.parts),
        stage.classes,
        cascade.release.parts,
    )
    for found, expected in zip(cascade.assess(list(canvases)), both, strict=True):
        values = list(found.body_part.probabilities.values())
        np.testing.assert_allclose(values, quality.softmax(expected, stage.temperature), atol=1e-5)
    alone = Cascade.load(weights, device="cpu").assess(list(canvases))
    fast = cascade.in_mode(Mode.FAST).assess(list(canvases))
    assert [a.body_part for a in fast] == [a.body_part for a in alone]


def test_what_another_run_made_is_no_member(weights, manifest, tmp_path, capsys):
    command = ["member", "--base", str(weights), "--data", f"manifest:{manifest}", "--init"]
    command += [str(tmp_path), "--out", str(tmp_path / "joined"), "--duplicates", "keep"]
    assert main(command) == 1 and "has not come to its end" in capsys.readouterr().err
    made = {"arch": LITE2, "size": 160, "focus": False, "heads": {}, "features": {}}
    torch.save(made, tmp_path / "networks.pt")
    assert main(command) == 1 and "saw pictures of 160 pixels" in capsys.readouterr().err
    torch.save(made | {"arch": "vit-tiny-patch16"}, tmp_path / "networks.pt")
    assert main(command) == 1 and "not efficientnet-lite2" in capsys.readouterr().err


def test_a_release_without_such_a_network_is_no_start(
    weights, manifest, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("BONE_WEIGHTS", str(weights))
    fit = ["fit", "--arch", LITE2, "--init", "champion", "--out", str(tmp_path), "--size", "96"]
    assert main([*fit, "--data", f"manifest:{manifest}", "--duplicates", "keep"]) == 1
    assert "has no efficientnet-lite2" in capsys.readouterr().err


def test_a_run_goes_on_from_the_network_of_a_release(weights, manifest, tmp_path, monkeypatch):
    """Features and heads: what stage 1 and each part say is what they said in the release."""
    ensembles.with_members(weights, tmp_path / "w", NAME, stage1=True)
    monkeypatch.setenv("BONE_WEIGHTS", str(tmp_path / "w"))
    settings = fit.Settings(
        (f"manifest:{manifest}",), str(tmp_path / "run"), LITE2, "champion", size=96,
        duplicates="keep",
    )  # fmt: skip
    run = fit_member.MemberRun(settings)
    network = fit_member.MemberNetwork(LITE2, run.spec, run.parts, run.kinds, 0)
    run._take_over(network, *initial.member("champion", LITE2))
    cascade = Cascade.load(tmp_path / "w", device="cpu").in_mode(Mode.ENSEMBLE)
    canvas = np.random.default_rng(1).integers(0, 256, (1, 96, 96), dtype=np.uint8)
    with torch.inference_mode():
        said, _, _ = network.eval().answer(to_tensor(canvas, run.spec))
    for name, stage in cascade.release.stages.items():
        [one] = stage.ensemble.members
        logits = cascade.logits_and_features(name, canvas, one.name)[0][0]
        classes = one.classes or ("positive",)
        own = run.kinds if name == "body_part" else classes
        shared = [c for c in classes if c in own]
        assert shared
        mine = [float(said[name][0, own.index(c)]) for c in shared]
        np.testing.assert_allclose(mine, [logits[classes.index(c)] for c in shared], atol=2e-2)


def test_a_run_goes_on_from_another_run(manifest, tmp_path):
    """Of the same network, or from the mean of several: features and heads, and the commands."""
    base = fit.Settings((f"manifest:{manifest}",), str(tmp_path / "one"), LITE2, "scratch", size=96,
                        duplicates="keep")  # fmt: skip
    first = fit_member.MemberRun(base)
    network = fit_member.MemberNetwork(LITE2, first.spec, first.parts, first.kinds, 0)
    ensembles.lively(network)
    torch.nn.init.normal_(network.heads["hand"].weight)
    torch.nn.init.normal_(network.heads["body_part"].weight)
    made = {"arch": LITE2, "size": 96, "focus": False, "kinds": list(first.kinds)}
    made |= {"features": network.features.state_dict(), "heads": network.heads.state_dict()}
    torch.save(made, tmp_path / "one" / networks.NETWORKS)
    again = replace(base, out=str(tmp_path / "two"), init=str(tmp_path / "one"))
    run = fit_member.MemberRun(again)
    other = fit_member.MemberNetwork(LITE2, run.spec, run.parts, run.kinds, 0)
    known = networks.trained(tmp_path / "one", LITE2)
    run._take_over(other, *networks.layers(known))
    for name, value in network.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert initial.run(again.init) == tmp_path / "one" and not initial.is_release(again.init)
    (tmp_path / "two").mkdir(exist_ok=True)
    told = [c.split(" --out ")[1].split()[0] for c in provenance.commands(tmp_path / "two")]
    assert told == [base.out, again.out]


def test_weights_follow_who_is_right():
    rng = np.random.default_rng(0)
    truth = [rng.integers(0, 2, 400).astype(float) for _ in range(2)]
    good = [2.0 * (2 * t - 1) + rng.normal(0, 1.5, 400) for t in truth]
    noise = [rng.normal(0, 2, 400) for _ in truth]
    weights = calibrate.member_weights(
        [np.column_stack(both) for both in zip(good, noise, strict=True)], truth
    )
    assert weights.sum() == pytest.approx(1) and weights[0] > 0.8
    same = calibrate.member_weights([np.column_stack([g, g[::-1]]) for g in good], truth)
    assert same[0] > 0.8


def test_evaluate_says_what_each_network_is_worth_and_costs(run, manifest, tmp_path, capsys):
    command = ["evaluate", "--data", f"manifest:{manifest}", "--draws", "20", "--mode", "fast"]
    assert main([*command, "--weights", str(run / "candidate"), "--out", str(tmp_path)]) == 0
    assert "auroc, ensemble - ResNet50" in capsys.readouterr().out
    measured = json.loads((tmp_path / "metrics.json").read_text())
    assert measured["mode"] == "fast"
    of = {(r["part"], r["metric"]): r for r in measured["figures"] if r["stage"] == "members"}
    for part in ("elbow", "hand", "shoulder", "mean of parts"):
        alone, one, joined, apart = (
            of[part, f"auroc, {name}"]
            for name in ("ResNet50", NAME, "ensemble", "ensemble - ResNet50")
        )
        assert one["value"] > 0.9
        assert apart["value"] == pytest.approx(joined["value"] - alone["value"])
        assert apart["low"] is apart["high"] is None  # of six patients of either class
    assert of["all", "megabytes, fast"]["value"] < of["all", "megabytes, ensemble"]["value"]
    assert of["all", "milliseconds, ensemble"]["n"] == 30
    fast = {
        r["part"]: r
        for r in measured["figures"]
        if (r["stage"], r["source"], r["metric"]) == ("fracture", "all", "auroc")
    }
    assert fast["hand"]["value"] == of["hand", "auroc, ResNet50"]["value"]
    from training.card import model_card

    card = model_card(Registry.open(run / "candidate").find("champion"))
    assert f"| hand | {NAME} |" in card and "Used as `ensemble`" in card
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert {"member ResNet50", f"member {NAME}", "ensemble"} <= set(scores)
    labelled = scores[scores.probability.notna()]
    assert (labelled.probability == labelled["member ResNet50"]).all()


def drawn(positive: int, patients: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features whose first tells the label, the labels, and each patient's two pictures."""
    patient = np.repeat(np.arange(patients), 2)
    truth = (patient < positive).astype(float)
    features = np.random.default_rng(0).normal(0, 0.3, (2 * patients, 4))
    features[:, 0] += truth
    return features, truth, patient


def test_a_fold_in_which_all_have_one_label_chooses_too(monkeypatch, caplog):
    """Its loss was no number, and the smallest strength was taken whatever the others said."""
    some = (1e-5, 1e-1)
    assert regression.fitted(*drawn(positive=2), "hand", some)[-1].C == 0.1
    monkeypatch.setattr(regression, "GroupKFold", lambda _: _Halves())
    assert regression.fitted(*drawn(positive=5), "hand", some, 2)[-1].C == 0.1
    assert "1 of 2 folds are of use" in caplog.text
    with pytest.raises(DataInvalid, match="Too few patients"):
        regression.fitted(*drawn(positive=0), "hand", some)
    with pytest.raises(DataInvalid, match="Too few patients"):
        regression.fitted(*drawn(positive=1, patients=1), "hand", some)


class _Halves:
    """All to learn from, then those without a finding alone."""

    def split(self, truth: np.ndarray, groups: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        every = np.arange(len(truth))
        return [(every, every[truth == 1]), (every[truth == 0], every)]
