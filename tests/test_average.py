"""The mean of several runs of one network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from core import files
from core.architectures import LITE2
from tests.ensembles import with_members
from training import initial, networks, provenance
from training.__main__ import main
from training.phases import BODY_PART

LITE2_NAME = "EfficientNet-Lite2"


def run(folder: Path, value: float, **changed: object) -> Path:
    """A run of ``fit --arch`` as it ends, with ``value`` for every weight."""
    folder.mkdir()
    made: dict[str, object] = {
        "arch": LITE2,
        "size": 96,
        "focus": True,
        "kinds": ["hand", "other"],
        "features": {
            "conv.weight": torch.full((2, 3), value),
            "bn.num_batches_tracked": torch.tensor(int(value)),
        },
        "heads": {"hand.weight": torch.full((1, 2), value)},
    }
    init = changed.pop("init", "imagenet")
    (folder / "config.toml").write_text(f'arch = "{LITE2}"\ninit = "{init}"\nseed = {value}\n')
    torch.save(made | changed, folder / "networks.pt")
    return folder


def average(tmp_path: Path, *runs: Path | str) -> int:
    return main(["average", *map(str, runs), "--out", str(tmp_path / "mean")])


def test_every_weight_is_the_mean(tmp_path: Path) -> None:
    runs = run(tmp_path / "a", 1.0), run(tmp_path / "b", 4.0)
    for one in runs:
        (one / "rows.csv").write_text(f"source,id,split,kept\n{one.name},1,train,yes\n")
    assert average(tmp_path, *runs) == 0
    found = networks.trained(tmp_path / "mean", LITE2)
    assert torch.equal(found["features"]["conv.weight"], torch.full((2, 3), 2.5))
    assert torch.equal(found["heads"]["hand.weight"], torch.full((1, 2), 2.5))
    assert found["features"]["bn.num_batches_tracked"] == 1
    assert (found["size"], found["focus"], found["kinds"]) == (96, True, ["hand", "other"])
    assert not (tmp_path / "mean" / "rows.csv").exists()
    assert provenance.sources(tmp_path / "mean") == {"a", "b"}
    told = provenance.commands(tmp_path / "mean")
    assert [c.split()[3] for c in told] == ["fit", "fit", "average"]
    assert "--seed 1.0" in told[0] and "--seed 4.0" in told[1]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"init": "scratch"}, "has init scratch"),
        ({"kinds": ["hand"]}, "has kinds"),
        ({"focus": False}, "has focus False"),
        ({"heads": {"elbow.weight": torch.ones(1, 2)}}, "has parts"),
        ({"arch": "vit-tiny-patch16"}, "trained vit-tiny-patch16"),
    ],
)
def test_what_has_no_mean_is_refused(
    changed: dict[str, object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = run(tmp_path / "b", 2.0, **changed)
    assert average(tmp_path, run(tmp_path / "a", 1.0), other) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "mean").exists()


def test_the_release_that_runs_began_with_may_be_one_of_them(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    """Its outputs in the order of the run's, whatever the order in the release is."""
    with_members(weights, tmp_path / "w", LITE2_NAME, stage1=True)
    manifest = json.loads((tmp_path / "w" / "manifest.json").read_text())
    for entry in manifest["releases"]:
        entry["training_data"] = {"sources": ["drawn"]}
    files.write_json(tmp_path / "w" / "manifest.json", manifest)
    monkeypatch.setenv("BONE_WEIGHTS", str(tmp_path / "w"))
    began = initial.find("champion")
    features, layers = initial.member("champion", LITE2)
    layer, classes = layers[BODY_PART]
    kinds = list(reversed(classes))
    heads = {f"{BODY_PART}.{k}": v.flip(0) + 1 for k, v in layer.items()}
    heads |= {f"{p}.{k}": v + 1 for p in began.parts for k, v in layers[p][0].items()}
    heads |= {"leg.weight": layer["weight"][:1]}  # of a part that is new to the release
    changed = {k: v + 1 for k, v in features.items()}
    made = {"features": changed, "heads": heads, "kinds": kinds, "focus": False}
    one = run(tmp_path / "a", 1.0, init="champion", **made)
    files.write_json(one / initial.BASE, {"id": began.id, "sha256": began.sha256})
    assert average(tmp_path, "champion", one) == 0, capsys.readouterr().err
    found = networks.trained(tmp_path / "mean", LITE2)
    assert found["kinds"] == kinds
    for name, value in features.items():
        torch.testing.assert_close(found["features"][name], value + 0.5)
    torch.testing.assert_close(found["heads"][f"{BODY_PART}.weight"], layer["weight"].flip(0) + 0.5)
    torch.testing.assert_close(found["heads"]["hand.bias"], layers["hand"][0]["bias"] + 0.5)
    assert "leg.weight" not in found["heads"]
    assert f"training average {began.id} {one} --out" in provenance.commands(tmp_path / "mean")[-1]
    kept = provenance.record(tmp_path / "mean")
    assert kept is not None and kept[1]["runs"] == [str(one)]
    assert kept[1]["releases"] == [began.id]
    with monkeypatch.context() as gone:  # the alias names another one, or the release is away
        gone.setenv("BONE_WEIGHTS", str(tmp_path / "none"))
        assert provenance.released(tmp_path / "mean", kept[1]) == {"drawn"}
    assert kept[1]["began"] == ["drawn"]
    files.write_json(one / initial.BASE, {"id": "2020.1-1", "sha256": began.sha256})
    assert average(tmp_path, one, "champion") == 1
    assert f"champion has init {began.id}" in capsys.readouterr().err
    assert average(tmp_path, "champion", "champion") == 1
    assert "at least two" in capsys.readouterr().err
    assert average(tmp_path, one, "nobody") == 1
    assert "no release" in capsys.readouterr().err


def test_which_pictures_were_seen_stays_known_where_it_is_the_same(tmp_path: Path) -> None:
    one, other = run(tmp_path / "a", 1.0), run(tmp_path / "b", 2.0)
    for folder in (one, other):
        (folder / "rows.csv").write_text("source,id,split,kept\n")
    assert average(tmp_path, one, other) == 0
    assert (tmp_path / "mean" / "rows.csv").read_text() == "source,id,split,kept\n"
    (tmp_path / "mean" / "rows.csv").unlink()
    (other / "rows.csv").write_text("source,id,split,kept\na,b,train,yes\n")
    assert average(tmp_path, one, other) == 0 and not (tmp_path / "mean" / "rows.csv").exists()


def test_a_run_is_neither_alone_nor_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = run(tmp_path / "a", 1.0), run(tmp_path / "b", 2.0)
    assert average(tmp_path, one) == 1 and "at least two" in capsys.readouterr().err
    before = (one / "networks.pt").read_bytes()
    assert main(["average", str(one), str(other), "--out", str(one)]) == 1
    assert "holds a run" in capsys.readouterr().err
    assert (one / "networks.pt").read_bytes() == before
    assert average(tmp_path, one, other) == 0
    command = ["average", str(one), str(tmp_path / "mean"), "--out", str(tmp_path / "mean")]
    assert main(command) == 1 and "holds a run" in capsys.readouterr().err
