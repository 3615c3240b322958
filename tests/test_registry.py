"""Damage to a weights file is found before anything is predicted with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from core.__main__ import main
from core.cascade import Cascade
from core.errors import ReleaseNotFound, WeightsInvalid
from core.registry import Registry, release_of, used


@pytest.fixture
def copy(weights: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(weights, tmp_path / "weights"))


def flip_bit(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("offset", [3, 100_000, -1])
def test_flipped_bit_is_named_and_nothing_is_loaded(copy, offset):
    flip_bit(copy / "random" / "fracture.safetensors", offset)
    with pytest.raises(WeightsInvalid, match=r"random/fracture\.safetensors is damaged"):
        Cascade.load(copy)


def test_truncated_and_missing_files(copy):
    path = copy / "random" / "trunk.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    (copy / "random" / "part.safetensors").unlink()
    registry = Registry.open(copy)
    problems = registry.verify(registry.find("champion"))
    assert len(problems) == 2
    assert any("trunk.safetensors is damaged" in p for p in problems)
    assert any("part.safetensors cannot be read" in p for p in problems)


def test_verify_command(weights, copy, capsys):
    assert main(["--weights", str(weights), "verify"]) == 0
    assert "3 files, all as listed" in capsys.readouterr().out
    flip_bit(copy / "random" / "trunk.safetensors", 5000)
    assert main(["--weights", str(copy), "verify"]) == 1
    assert "random/trunk.safetensors is damaged" in capsys.readouterr().out


def test_unknown_release(weights):
    with pytest.raises(ReleaseNotFound, match="champion"):
        Registry.open(weights).find("2030.1-1")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 99}', '{"format": 1, "releases": [{}], "aliases": {}}']
)
def test_damaged_manifest(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(WeightsInvalid):
        Registry.open(tmp_path)


def test_a_release_that_cannot_be_read_leaves_the_others_usable(copy, capsys):
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    [good] = manifest["releases"]
    of_tomorrow = good | {"id": "tomorrow", "architecture": "something new"}
    manifest["releases"] = [of_tomorrow, {"id": "torn"}, {"id": "odd", "files": 3}, good]
    manifest["aliases"]["next"] = "tomorrow"
    path.write_text(json.dumps(manifest))
    registry = Registry.open(copy)
    assert registry.find("champion").id == "random" and list(registry.releases) == ["random"]
    assert set(registry.unreadable) == {"tomorrow", "torn", "odd"}
    for name in ("next", "tomorrow"):
        with pytest.raises(WeightsInvalid, match="something new, which this version cannot load"):
            registry.find(name)
    assert main(["--weights", str(copy), "verify"]) == 1
    assert "tomorrow: Release tomorrow has the architecture" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["<b>leg</b>", "../leg", "Leg"])
def test_a_part_or_kind_that_is_no_word_is_refused(copy, name):
    path = copy / "manifest.json"
    whole = json.loads(path.read_text())
    [entry] = whole["releases"]
    kinds = entry["stages"]["body_part"]["classes"]
    for changed in ({name: entry["stages"]["hand"]}, {"body_part": {"classes": [*kinds, name]}}):
        stages = entry["stages"] | changed
        path.write_text(json.dumps(whole | {"releases": [entry | {"stages": stages}]}))
        with pytest.raises(WeightsInvalid, match="no name of a body part"):
            Registry.open(copy).find("champion")


def test_who_can_wait_is_told_that_the_manifest_cannot_be_read(copy):
    found = Registry.open(copy).find("champion")
    for ask in (used, release_of):
        assert ask(copy, found.id, found.sha256).sha256 == found.sha256
        assert ask(copy, found.id, "0" * 64) is ask(copy, "none", found.sha256) is None
    (copy / "manifest.json").write_text("half of i")
    assert used(copy, found.id, found.sha256) is None
    with pytest.raises(WeightsInvalid):
        release_of(copy, found.id, found.sha256)


def test_no_manifest(tmp_path):
    with pytest.raises(WeightsInvalid, match=r"no manifest\.json"):
        Registry.open(tmp_path)


def test_figures_do_not_change_the_digest_but_thresholds_do(copy):
    first = Registry.open(copy).find("champion").sha256
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["releases"][0]["metrics"] = {"figures": []}
    path.write_text(json.dumps(manifest))
    assert Registry.open(copy).find("champion").sha256 == first
    manifest["releases"][0]["stages"]["hand"]["operating_points"][0]["threshold"] = 0.31
    path.write_text(json.dumps(manifest))
    assert Registry.open(copy).find("champion").sha256 != first


def test_weights_of_another_network_are_refused(copy):
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["releases"][0]["stages"]["body_part"]["branch"] = "random/fracture.safetensors"
    path.write_text(json.dumps(manifest))
    with pytest.raises(WeightsInvalid, match="do not fit"):
        Cascade.load(copy)
