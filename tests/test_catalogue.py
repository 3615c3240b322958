"""Releases: promoted, rolled back, exported, imported; what is damaged or hostile is refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.errors import WeightsInvalid
from core.registry import Registry
from tests import scored
from training import catalogue, compare, measured, parcel, release
from training.__main__ import main
from training.catalogue import ReleaseRefused
from training.threshold import outcome


def linked(weights: Path, folder: Path) -> Path:
    """A weights folder whose large files are links to the shared ones, with its own manifest."""
    shutil.copytree(weights, folder, copy_function=lambda a, b: Path(b).hardlink_to(a))
    copied = (folder / "manifest.json").read_text()
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").write_text(copied)
    return folder


@pytest.fixture
def shelf(weights: Path, tmp_path: Path) -> Path:
    return linked(weights, tmp_path / "weights")


def second(shelf: Path, **changed: Any) -> None:
    """Another release of the same files, with another id."""
    manifest = json.loads((shelf / "manifest.json").read_text())
    entry = {**manifest["releases"][0], "id": "second", "created": "2026-11-30", **changed}
    manifest["releases"].append(entry)
    (shelf / "manifest.json").write_text(json.dumps(manifest))


def aliases(shelf: Path) -> dict[str, str]:
    return json.loads((shelf / "manifest.json").read_text())["aliases"]


def test_promote_keeps_the_one_before_and_roll_back_returns_to_it(shelf: Path) -> None:
    second(shelf)
    assert catalogue.previous(shelf) == ""
    assert catalogue.promote(shelf, "second") == "random"
    assert aliases(shelf) == {"champion": "second", "previous": "random"}
    with pytest.raises(ReleaseRefused, match="in use already"):
        catalogue.promote(shelf, "second")
    back = catalogue.previous(shelf)
    catalogue.promote(shelf, back)
    assert Registry.open(shelf).find("champion").id == back == "random"
    assert catalogue.previous(shelf) == "second"


def test_a_damaged_or_incompatible_release_is_shown_and_not_promoted(shelf: Path) -> None:
    path = shelf / "second" / "trunk.safetensors"
    path.parent.mkdir()
    data = bytearray((shelf / "random" / "trunk.safetensors").read_bytes())
    digest = hashlib.sha256(data).hexdigest()
    data[1000] ^= 1
    path.write_bytes(data)
    file = {"path": "second/trunk.safetensors", "sha256": digest, "bytes": len(data)}
    second(shelf, files=[file])
    with pytest.raises(ReleaseRefused, match="damaged"):
        catalogue.promote(shelf, "second")
    second(shelf, id="third", architecture="vit-b16")
    found = {r.id: r for r in catalogue.listing(shelf)}
    assert found["third"].release is None and "vit-b16" in found["third"].problem
    with pytest.raises(ReleaseRefused, match="vit-b16"):
        catalogue.promote(shelf, "third")
    assert aliases(shelf) == {"champion": "random"}


def test_a_release_travels_as_one_file(shelf: Path, tmp_path: Path) -> None:
    data = parcel.pack(shelf, "random")
    other = tmp_path / "other"
    killed, at_work = other / ".parcel-killed", other / ".parcel-at-work"
    for left in (killed, at_work):
        (left / "random").mkdir(parents=True)
    os.utime(killed, (0, 0))
    assert parcel.unpack(io.BytesIO(data), other) == "random"
    assert not killed.exists() and at_work.exists()
    shutil.rmtree(at_work)
    here, there = (Registry.open(f).releases["random"] for f in (shelf, other))
    assert here.sha256 == there.sha256 and Registry.open(other).verify(there) == []
    assert aliases(other) == {} and (other / "random" / "MODEL_CARD.md").exists()
    with pytest.raises(ReleaseRefused, match="already"):
        parcel.unpack(io.BytesIO(data), other)
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    with pytest.raises(ReleaseRefused, match=r"damaged|no zip"):
        parcel.unpack(io.BytesIO(flipped), tmp_path / "third")
    assert not list((tmp_path / "third").glob("*"))
    assert not list(other.glob(".parcel-*"))


# --- zips from somebody who means harm -----------------------------------------------------------

Change = Callable[[dict[str, Any], dict[str, bytes]], None]


def _outside(entry: dict[str, Any], files: dict[str, bytes]) -> None:
    files["../../evil.safetensors"] = files.pop("bad/trunk.safetensors")
    entry["files"][0]["path"] = "../../evil.safetensors"


def _absolute(entry: dict[str, Any], files: dict[str, bytes]) -> None:
    files["/tmp/evil.safetensors"] = files.pop("bad/trunk.safetensors")
    entry["files"][0]["path"] = "/tmp/evil.safetensors"


def _not_weights(entry: dict[str, Any], files: dict[str, bytes]) -> None:
    files["bad/run.py"] = files.pop("bad/trunk.safetensors")
    entry["files"][0]["path"] = "bad/run.py"


def _bomb(entry: dict[str, Any], files: dict[str, bytes]) -> None:
    files["bad/trunk.safetensors"] = bytes(60 * 2**20)


def _claims_more(entry: dict[str, Any], files: dict[str, bytes]) -> None:
    entry["files"][0]["bytes"] = 10**12


def _negative(entry: dict[str, Any], files: dict[str, bytes]) -> None:
    entry["files"][0]["bytes"] = -1


HOSTILE: dict[str, Change] = {
    "path outside": _outside,
    "absolute path": _absolute,
    "no weights": _not_weights,
    "bomb": _bomb,
    "claims more": _claims_more,
    "negative size": _negative,
    "one file too many": lambda e, f: f.update({"bad/more.safetensors": b""}),
    "one file missing": lambda e, f: f.pop("bad/trunk.safetensors") and None,
    "id of a path": lambda e, f: e.update(id="../bad"),
    "no id": lambda e, f: e.pop("id") and None,
    "stages a list": lambda e, f: e.update(stages=[]),
    "figures no list": lambda e, f: e.update(metrics={"figures": 3}),
    "no safetensors inside": lambda e, f: None,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_zip_is_refused_and_leaves_nothing(
    weights: Path, tmp_path: Path, case: str
) -> None:
    entry = json.loads((weights / "manifest.json").read_text())["releases"][0] | {"id": "bad"}
    content = b"no tensors"
    digest = hashlib.sha256(content).hexdigest()
    entry["files"] = [{"path": "bad/trunk.safetensors", "sha256": digest, "bytes": len(content)}]
    files = {"bad/trunk.safetensors": content}
    HOSTILE[case](entry, files)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(parcel.ENTRY, json.dumps(entry))
        for name, data in files.items():
            archive.writestr(name, data)
    folder = tmp_path / "weights"
    with pytest.raises(WeightsInvalid) as caught:
        parcel.unpack(out, folder)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_damaged_member_is_refused_whatever_packed_it(tmp_path: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_LZMA) as out:
        out.writestr(parcel.ENTRY, "{}" * 100)
    data = bytearray(made.getvalue())
    start = 30 + len(parcel.ENTRY)
    data[start : start + 20] = b"\xff" * 20
    with pytest.raises(ReleaseRefused, match="no zip that can be read"):
        parcel.unpack(io.BytesIO(data), tmp_path)


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"x" * 1000])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ReleaseRefused):
        parcel.unpack(io.BytesIO(data), tmp_path)


# --- two compared, and thresholds ----------------------------------------------------------------


def test_a_paired_difference_is_that_of_the_figures_and_never_certain() -> None:
    rng = np.random.default_rng(0)
    n = 120
    truth = np.tile([0.0, 1.0], n // 2)
    first = pd.DataFrame(
        {
            "id": [str(i) for i in range(n)],
            "source": "drawn",
            "part": "hand",
            "patient": [f"p{i // 2}" for i in range(n)],
            "positive": truth,
            "probability": rng.random(n),
            "said": ["hand", "elbow"] * (n // 2),
            "finding": "doubtful",
        }
    )
    better = first.assign(probability=truth * 0.5 + 0.25, said="hand")
    shuffled = better.sample(frac=1, random_state=1)  # rows are matched by name, not by place
    found = {(d.part, d.metric): d for d in compare.differences(first, shuffled, draws=50)}
    area = found["hand", "auroc"]
    assert area.second == 1.0 and area.difference == pytest.approx(1 - area.first)
    assert area.low > 0 and area.n == n
    right = found["all", "body part right"]
    assert (right.first, right.second, right.difference) == (0.5, 1.0, 0.5)
    same = compare.differences(first, first, draws=20)
    # every draw is 0, and that is no interval from 0 to 0
    assert all(d.difference == 0 and np.isnan([d.low, d.high]).all() for d in same)
    label = [1.0] * 10 + [0.0] * 14  # positives of five patients, whose AUROC has no interval
    few = [rows.iloc[:24].assign(positive=label) for rows in (first, better)]
    none = {d.metric: d for d in compare.differences(*few, draws=20)}
    assert np.isnan(none["auroc"].low) and not np.isnan(none["brier"].low)
    assert compare.differences(first, better.assign(source="elsewhere"), draws=5) == []


def test_a_threshold_at_a_prevalence_by_hand() -> None:
    rows = scored.rows()
    o = outcome(rows.positive, rows.probability, 0.5, 0.1)
    # positives .9 .3 .2 .8: two of four; negatives .6 .2 .7: one of three below
    assert [(c.k, c.n) for c in (o.sensitivity, o.specificity)] == [(2, 4), (1, 3)]
    assert str(o.sensitivity.share) == "50 % [15, 85]"  # Wilson (1927)
    assert o.ppv and o.ppv.value == pytest.approx(0.05 / (0.05 + 0.6))
    assert o.npv and o.npv.value == pytest.approx(0.3 / (0.3 + 0.05))
    assert 1000 * o.flagged == pytest.approx(650)
    assert outcome(rows.positive, rows.probability, 1.1, 0.1).ppv is None
    assert outcome([1.0, 1.0], [0.2, 0.8], 0.5, 0.1).npv is None  # no negative was measured


def candidate_of(weights: Path, run: Path, name: str) -> Path:
    """A run that ended with a candidate of the same networks as "random", scored on test."""
    registry = Registry.open(weights)
    first = registry.find("random")
    entry = {k: v for k, v in first.raw.items() if k not in ("files", "architecture")} | {
        "id": name
    }
    renamed = json.loads(json.dumps(entry).replace("random/", f"{name}/"))
    tensors = {p.replace("random/", f"{name}/"): t for p, t in registry.load(first).items()}
    release.write(run / "candidate", renamed, {p: release.half(t) for p, t in tensors.items()})
    sha256 = Registry.open(run / "candidate").find(name).sha256
    (run / "test").mkdir()
    about = {"release_sha256": sha256, "split": "test", "figures": [scored.FIGURE]}
    (run / "test" / "metrics.json").write_text(json.dumps(about))
    return run


def test_a_candidate_whose_list_is_damaged_gets_no_figures(
    weights: Path, shelf: Path, tmp_path: Path
) -> None:
    """Nothing tells whether they are test figures; that was a traceback on the page."""
    run = candidate_of(weights, tmp_path / "run", "one")
    scored.rows().to_csv(run / "test" / measured.SCORES, index=False)
    (run / "rows.csv").write_text("no,list\n1,2,3,4\n")
    said: list[str] = []
    assert catalogue.add_run(run, shelf, said.append) == "one"
    assert "Release one gets no figures" in said[0] and "rows.csv is damaged." in said[0]
    assert Registry.open(shelf).find("one").metrics.get("figures", []) == []


def test_the_command_release_keeps_the_old_champion_and_removes_the_one_before(
    weights: Path, shelf: Path, tmp_path: Path
) -> None:
    """Three releases by command: at each the champion becomes previous, and what was previous goes,
    unless another alias or nobody's promotion keeps it."""

    def released(name: str, alias: str = "champion") -> None:
        run = candidate_of(weights, tmp_path / name, name)
        words = ["release", str(run), "--weights", str(shelf), "--alias", alias]
        assert main(words) == 0

    def there() -> set[str]:
        listed = {r.id for r in catalogue.listing(shelf)}
        assert all(not catalogue.check(shelf, r) for r in listed)
        assert listed == {p.name for p in shelf.iterdir() if p.is_dir()}
        return listed

    released("one")
    assert aliases(shelf) == {"champion": "one", "previous": "random"}
    assert there() == {"random", "one"}
    for back in ("random", "one"):
        assert catalogue.previous(shelf) == back
        catalogue.promote(shelf, back)
    released("two")
    assert aliases(shelf) == {"champion": "two", "previous": "one"}
    assert there() == {"one", "two"}  # random had no name any more
    released("trial", alias="trial")
    assert aliases(shelf) == {"champion": "two", "previous": "one", "trial": "trial"}
    manifest = json.loads((shelf / "manifest.json").read_text())
    manifest["aliases"]["paper"] = "one"
    (shelf / "manifest.json").write_text(json.dumps(manifest))
    released("three")
    assert aliases(shelf)["previous"] == "two" and aliases(shelf)["paper"] == "one"
    assert there() == {"one", "two", "trial", "three"}  # one has another name
    released("tried", alias="trial")
    assert there() == {"one", "two", "three", "tried"}


def test_a_release_that_is_replaced_takes_nothing_of_others_along(shelf: Path) -> None:
    path = shelf / "manifest.json"
    manifest = json.loads(path.read_text())
    [good] = [r for r in manifest["releases"] if r["id"] == manifest["aliases"]["champion"]]
    own, outside = shelf / "old" / "own.safetensors", shelf.parent / "outside.safetensors"
    own.parent.mkdir()
    for file in (own, outside, own.with_name("notes.txt")):
        file.write_bytes(b"x")
    listed = [{"path": f"old/{own.name}"}, {"path": f"../{outside.name}"}, good["files"][0]]
    manifest["releases"] += [{"id": "old", "files": listed}, {"id": "..", "files": listed[1:]}]
    path.write_text(json.dumps(manifest))
    for gone in ("old", "..", "", good["id"], "no such release"):
        release._remove(shelf, gone)
    left = [r["id"] for r in json.loads(path.read_text())["releases"]]
    assert good["id"] in left and not {"old", ".."} & set(left)
    assert not own.exists() and own.with_name("notes.txt").exists() and outside.exists()
    assert not catalogue.check(shelf, good["id"])
