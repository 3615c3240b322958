"""A part is added to a release and taken away again; everything reads it from the manifest."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from core.__main__ import main as core
from core.cascade import Cascade
from core.dicom_out.codes import SITES
from core.errors import WeightsInvalid
from core.network import Branch
from core.registry import Registry
from core.types import BodyPart, Radiograph
from tests import scored, small, tiny
from tests.conftest import random_release
from tests.simulated import phantom
from training import candidate, catalogue, figures, fit, metrics, parcel, release, scoring, taken
from training.__main__ import main as training
from training.data import DataInvalid, read_all

LEG = BodyPart("leg")
KINDS = ("elbow", "hand", "shoulder", "leg", "other")
PICTURE = Radiograph(phantom(90, 70), "a.png", "0" * 64, "PNG")


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with small.runs():
        yield


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder with a release that knows a leg by name and takes everything for one."""
    folder = tmp_path / "weights"
    random_release(folder, size=32)
    [entry] = json.loads((folder / "manifest.json").read_text())["releases"]
    registry = Registry.open(folder)
    tensors = {p: release.half(t) for p, t in registry.load(registry.find("random")).items()}
    first = dict(Branch(len(KINDS)).state_dict())
    first["fc.bias"] = 50.0 * torch.tensor([k == "leg" for k in KINDS])
    tensors["random/first.safetensors"] = release.half(first)
    entry["stages"]["body_part"] |= {"branch": "random/first.safetensors", "classes": KINDS}
    release.write(folder, entry, tensors)
    monkeypatch.setenv("BONE_WEIGHTS", str(folder))
    return folder


@pytest.fixture
def run(shelf: Path, tmp_path: Path) -> Path:
    """A finished run that trained a fracture model of the leg."""
    path = tiny.write(tmp_path / "data", each=4)
    settings = fit.Settings(
        data=(f"manifest:{path}",),
        out=str(tmp_path / "run"),
        init="champion",
        only="leg",
        size=32,
        branch_passes=32,
        batch=16,
        validations=1,
        device="cpu",
    )
    fit.Run(settings).fit()
    return Path(settings.out)


def test_a_part_is_added_without_touching_code(
    shelf: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Cascade.load(shelf, device="cpu")
    [refused] = before.predict([PICTURE])
    assert refused.reason is not None and "looks like the leg, which has no" in refused.reason
    monkeypatch.setattr(metrics, "bootstrap", lambda *a, **k: metrics.Estimate(0.9, 0.8, 1.0, 8))
    candidate.build(run, "more")
    registry = Registry.open(run / "candidate")
    more = registry.find("more")
    assert more.parts == ("elbow", "hand", "leg", "shoulder")
    assert registry.verify(more) == []
    assert "a fracture model of the leg" in more.training_data["notes"]
    assert [s for s in more.stages if more.stages[s].optional] == ["leg"]  # its bytes do not count

    after = Cascade.load(run / "candidate", device="cpu")
    [found] = after.predict([PICTURE])
    assert found.reason is None and found.part == LEG and found.heatmap is not None
    assert found.body_part is not None
    assert list(found.body_part.probabilities) == [*more.parts, "other"]
    assert found.to_json()["body_part"]["label"] == "leg"
    assert LEG in SITES  # so that the structured report can say where
    for part in ("elbow", "hand", "shoulder"):
        old, new = (c.predict([PICTURE], BodyPart(part))[0] for c in (before, after))
        assert old.fracture == new.fracture

    rows = read_all([str(json.loads(_setting(run, "data"))[0])])
    scored = scoring.predict(after, rows[rows.split == "val"])
    assert set(scored.truth) == {*more.parts, "other"}
    assert scored.probability[scored.part == "leg"].notna().all()
    found = figures.figures(scored, after, draws=10)
    assert {r["part"] for r in found if r["stage"] == "fracture"} >= {"leg"}
    assert figures.confusion(scored)["said"] == ["elbow", "hand", "leg", "shoulder", "rejected"]


def _setting(run: Path, name: str) -> str:
    lines = (run / "config.toml").read_text().splitlines()
    return next(line.partition(" = ")[2] for line in lines if line.startswith(f"{name} = "))


def test_a_part_that_is_taken_away_is_refused_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "bootstrap", lambda *a, **k: metrics.Estimate(0.9, 0.8, 1.0, 8))
    folder = candidate.build(run, "more")
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["releases"][0]["stages"]["leg"]
    path.write_text(json.dumps(manifest))
    [refused] = Cascade.load(folder, device="cpu").predict([PICTURE])
    assert refused.reason is not None and "looks like the leg" in refused.reason


def test_an_optional_part_is_there_when_its_file_is(
    shelf: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Released, taken out, refused by name, put back; exported and imported without it."""
    monkeypatch.setattr(metrics, "bootstrap", lambda *a, **k: metrics.Estimate(0.9, 0.8, 1.0, 8))
    folder = candidate.build(run, "more")
    whole = Registry.open(folder).find("more")
    measured = {"release_sha256": whole.sha256, "split": "test", "figures": [scored.FIGURE]}
    (run / "test").mkdir()
    (run / "test" / "metrics.json").write_text(json.dumps(measured))
    with pytest.raises(catalogue.ReleaseRefused, match="no part 'foot'"):
        release.publish(run, shelf, "champion", ("foot",))
    assert training(["release", str(run), "--weights", str(shelf), "--optional", "leg"]) == 0
    released = Registry.open(shelf).find("more")
    assert released.sha256 == whole.sha256 and released.absent == {}  # no answer is another

    path = shelf / released.stages["leg"].branch
    elsewhere = path.rename(shelf.parent / path.name)
    without = Registry.open(shelf).find("more")
    assert without.parts == ("elbow", "hand", "shoulder")
    assert without.absent == {"leg": (released.stages["leg"].branch,)}
    assert without.sha256 != released.sha256 and str(path) not in without.files
    # What was assessed before a part came or went is still known.
    assert without.with_digest(released.sha256) == released
    before = released.with_digest(without.sha256)
    assert before is not None and before.parts == without.parts
    [refused] = Cascade.load(shelf, device="cpu").predict([PICTURE])
    assert refused.reason is not None and "whose fracture model is not installed" in refused.reason
    assert released.stages["leg"].branch in refused.reason
    assert catalogue.check(shelf, "more") == []
    capsys.readouterr()
    assert core(["--weights", str(shelf), "verify"]) == 0
    assert "fracture model of the leg is not installed" in capsys.readouterr().out

    small = parcel.pack(shelf, "more")
    other = shelf.parent / "other"
    assert parcel.unpack(io.BytesIO(small), other) == "more"
    assert Registry.open(other).find("more").absent == without.absent
    assert "leg" not in taken.entry(without, "new", taken.paths(without, "new"))["stages"]

    elsewhere.rename(path)
    [found] = Cascade.load(shelf, device="cpu").predict([PICTURE])
    assert found.part == LEG and Registry.open(shelf).find("more").sha256 == released.sha256
    path.write_bytes(b"no weights")  # there, and not what it should be
    with pytest.raises(WeightsInvalid, match="is damaged"):
        Cascade.load(shelf, device="cpu")


def test_what_an_optional_part_needs_is_not_counted() -> None:
    stages = {"body_part": {"trunk": "t", "branch": "b"}}
    stages["hand"] = {"trunk": "t", "branch": "h"}
    stages["leg"] = {"trunk": "t", "branch": "l", "optional": True}
    assert release.needed_bytes({"stages": stages}, {"t": 1, "b": 10, "h": 100, "l": 1000}) == 111


def test_a_part_that_stage_1_cannot_name_is_refused_with_the_way(
    shelf: Path, tmp_path: Path
) -> None:
    path = tiny.write(tmp_path / "data", each=2)
    rows = pd.read_csv(path)
    rows.loc[rows.part == "leg", "part"] = "foot"
    rows.to_csv(path, index=False)
    settings = fit.Settings(
        (f"manifest:{path}",), str(tmp_path / "run"), init="champion", only="foot"
    )
    with pytest.raises(DataInvalid, match="does not know the foot by name"):
        fit.Run(settings)


@pytest.mark.parametrize("name", ["", "Leg", "../leg", "leg;", "l" * 41, "9leg"])
def test_what_is_no_name_of_a_part(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a body part"):
        BodyPart(name)
