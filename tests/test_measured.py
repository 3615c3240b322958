"""Which figures and rows belong together, and what a release gives away of its patients."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from core.manifest import Release
from pages import _shelf
from tests import scored
from training import card, duplicates, initial, learned, measured
from training.data import DataInvalid

POINTED = {"stage": "heatmap", "part": "Grad-CAM", "metric": "pointing game", "value": 0.9}


def evaluated(folder: Path, release: Release, split_sha256: str = "shipped", **other: Any) -> None:
    """A folder as ``evaluate --out`` leaves it, with one row that is named after it."""
    folder.mkdir(parents=True)
    about = {"release_sha256": release.sha256, "split": "test", "split_sha256": split_sha256}
    (folder / "metrics.json").write_text(json.dumps({**about, "figures": [], **other}))
    scored.rows().head(1).assign(id=folder.name).to_csv(folder / measured.SCORES, index=False)


@pytest.fixture
def registry(tmp_path: Path) -> Any:
    """Of one release, which was measured on the split "shipped"."""
    figures = [{"stage": "fracture", "part": "elbow"}]
    metrics = {"split": "test", "split_sha256": "shipped", "figures": figures}
    release = replace(scored.release(), sha256="ab" * 32, metrics=metrics)
    return SimpleNamespace(releases={release.id: release}, folder=tmp_path / "weights")


def test_figures_stand_with_the_rows_of_their_own_pictures(registry, tmp_path: Path) -> None:
    """An evaluation of the same release on a hospital's test split has another checksum."""
    [release], runs = registry.releases.values(), tmp_path / "runs"
    evaluated(runs / "mine" / "hospital", release, "a hospital's")
    [first, _] = measured.evaluations(registry, runs)
    assert first.folder == registry.folder / release.id  # what came with the release, or nothing
    evaluated(runs / "mine" / "test", release)
    assert measured.evaluations(registry, runs)[0].folder == runs / "mine" / "test"


def test_two_evaluations_of_one_run_have_two_names(registry, tmp_path: Path) -> None:
    [release], runs = registry.releases.values(), tmp_path / "runs"
    for name in ("test", "hospital"):
        evaluated(runs / "mine" / name, release)
    names = [e.name for e in measured.evaluations(registry, runs)]
    assert names == ["Release made-1", "Run mine, test", "Run mine, test (hospital)"]


def test_heatmaps_of_another_release_are_left_out(registry, tmp_path: Path) -> None:
    [release], folder = registry.releases.values(), tmp_path / "runs" / "mine" / "test"
    evaluated(folder, release)
    beside = folder / "heatmaps.json"
    for sha256, found in (("0" * 64, []), (release.sha256, [POINTED])):
        beside.write_text(json.dumps({"release_sha256": sha256, "figures": [POINTED]}))
        assert measured.evaluations(registry, tmp_path / "runs")[1].records == found
    other = {"release_sha256": release.sha256, "split": "val", "figures": [POINTED]}
    beside.write_text(json.dumps(other))
    assert measured.evaluations(registry, tmp_path / "runs")[1].records == []


def test_whether_a_release_learned_from_pictures_is_not_passed_over(tmp_path: Path, caplog) -> None:
    """Without a run's list nothing tells which pictures of a source it learned from."""
    weights, rows = tmp_path / "weights", scored.rows()
    with caplog.at_level(logging.WARNING):
        assert learned.tell(weights, rows, "test", {"sources": ["another"]}) == {}
        assert caplog.text == ""
        told = learned.tell(weights, rows, "test", {"sources": ["drawn", "another"]})
    assert told == {"untold": ["drawn"]}
    assert "learned from pictures of drawn" in caplog.text and "another" not in caplog.text
    run_of(tmp_path, rows.assign(split="test"))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert learned.tell(weights, rows, "test", {"sources": ["drawn"]}) == {}
    assert caplog.text == ""


def run_of(folder: Path, rows: pd.DataFrame, init: str = "scratch", **more: str) -> Path:
    """The folder of a run with its list."""
    config = {"data": ["manifest:gone.csv"], "init": init, **more}
    folder.mkdir(exist_ok=True)
    lines = [f"{name} = {json.dumps(value)}" for name, value in config.items()]
    (folder / "config.toml").write_text("\n".join(lines))
    duplicates.write_list(rows, rows, folder / duplicates.ROWS)
    return folder


def test_what_a_run_began_with_has_learned_from_its_pictures_too(tmp_path: Path) -> None:
    """Of another manifest, with other splits; the run's own list says nothing of it."""
    rows = scored.rows()
    first = run_of(tmp_path / "first", rows.assign(split=["train", *["test"] * (len(rows) - 1)]))
    teacher = run_of(tmp_path / "lite2", rows.assign(split=[*["test"] * (len(rows) - 1), "val"]))
    second = run_of(
        tmp_path / "second",
        rows.assign(split="test"),
        init=str(first / "networks.pt"),
        teacher=str(teacher),
    )
    assert learned.taught(first, rows) == learned.taught(teacher, rows) == 1
    assert learned.taught(second, rows) == 2
    told = learned.tell(second / "candidate", rows, "test", {"sources": ["drawn"]})
    assert told == {"learned": 2}
    assert "trained on 2 of these" in measured.caution(told)
    (first / duplicates.ROWS).unlink()  # and its data is gone, so nothing tells what it was
    assert learned.untold(second, rows, {"sources": ["drawn"]}) == ["drawn"]
    assert "may have learned" in learned.thresholds_note(second, rows, {"sources": ["drawn"]})


def test_what_taught_or_chose_is_said_of_every_split(tmp_path: Path) -> None:
    """Not of test alone: figures on train and validation stood without a word."""
    rows = scored.rows().assign(split=["train"] * 3 + ["val"] * 4)
    run = run_of(tmp_path / "run", rows)
    for split, said in (("train", "trained on 3 of"), ("val", "was chosen on 4 of")):
        told = learned.tell(run / "candidate", rows[rows.split == split], split, {})
        assert said in measured.caution(told) and "not test figures" in measured.caution(told)
    other = run_of(tmp_path / "other", rows.assign(split="val"), init=str(run / "networks.pt"))
    told = learned.tell(other / "candidate", rows, "val", {})
    assert told == {"learned": 3, "chosen": 4} and "trained on 3" in measured.caution(told)


def test_a_release_that_a_run_began_with_brings_no_list(tmp_path: Path, monkeypatch) -> None:
    rows = scored.rows()
    base = SimpleNamespace(training_data={"sources": ["drawn", "mura"]})
    monkeypatch.setattr(initial, "find", lambda name: {"one": base}[name])
    run = run_of(tmp_path / "run", rows.assign(split="test"), init="champion", only="elbow")
    (run / "base.json").write_text(json.dumps({"id": "one", "sha256": "0" * 64}))
    own = {"sources": ["drawn", "mine"]}
    assert learned.untold(run, rows, own) == ["drawn"]
    assert "sources (drawn)" in measured.caution({"untold": ["drawn"]})
    assert learned.untold(run, rows.assign(source="mine"), own) == []  # its list tells of those
    member = tmp_path / "joined"
    member.mkdir()
    (member / "member.json").write_text(json.dumps({"base": str(run), "init": "", "sources": []}))
    duplicates.write_list(*(rows.assign(split="test"),) * 2, member / duplicates.ROWS)
    assert learned.untold(member, rows, {}) == ["drawn"]
    run.rename(tmp_path / "gone")
    assert learned.untold(member, rows, own) == ["drawn"]


def test_what_is_gone_hides_no_list_of_what_is_there(tmp_path: Path, monkeypatch) -> None:
    """Behind a mean a release or a run that was deleted, behind a member its base."""
    monkeypatch.setenv("BONE_WEIGHTS", str(tmp_path / "none"))
    rows = scored.rows()
    splits = ["train", *["test"] * (len(rows) - 1)]
    one = str(run_of(tmp_path / "one", rows.assign(split=splits)))
    two = str(run_of(tmp_path / "two", rows.assign(split=splits[::-1])))
    gone = str(tmp_path / "gone")
    for number, (name, record, count) in enumerate(
        (
            ("average.json", {"runs": [one, "2026.11-gone", two]}, 2),
            ("average.json", {"runs": [gone, one, two]}, 2),
            ("average.json", {"runs": [gone, one, two], "began": []}, 2),
            ("member.json", {"base": gone, "init": one}, 1),
        )
    ):
        folder = tmp_path / f"made{number}"
        folder.mkdir()
        (folder / name).write_text(json.dumps({"sources": ["drawn"], "commands": [], **record}))
        assert learned.taught(folder, rows) == count
        assert learned.untold(folder, rows, {"sources": ["drawn"]}) == ["drawn"]


@pytest.mark.parametrize("text", ["", "a,b\n1,2,3\n", "[]", "no table", "\udcff"])
@pytest.mark.parametrize("name", ["rows.csv", "config.toml", "member.json", "base.json"])
def test_a_damaged_record_of_a_run_is_one_sentence(name: str, text: str, tmp_path: Path) -> None:
    """And never passed over: what it lists may have been learned from."""
    rows = scored.rows()
    run = run_of(tmp_path / "run", rows.assign(split="train"), init="champion")
    (run / name).write_bytes(text.encode(errors="surrogateescape"))
    if (name, text) == ("config.toml", ""):
        return  # as empty as a run's may be
    with pytest.raises(DataInvalid, match=f"{name} is damaged"):
        learned.taught(run, rows)


def test_the_card_names_the_mode_of_its_figures() -> None:
    release = scored.release()
    about = {"device": "a CPU", "draws": 20, "mode": "fast", "figures": [scored.FIGURE]}
    release.metrics.update(about)
    assert "Measured in the mode `fast`." in card.model_card(release)


def test_the_card_of_what_was_not_measured_says_so() -> None:
    """It said how, "on None", and had an empty table."""
    text = card.model_card(scored.release())
    assert "It was not measured on a test split." in text
    assert "on None" not in text and "bootstrap" not in text


def test_areas_of_other_pictures_are_marked_on_the_shelf(registry) -> None:
    common = {"stage": "fracture", "part": "elbow", "source": "all", "metric": "auroc"}
    figure = common | {"value": 0.9, "low": 0.8, "high": 0.95, "n": 58}
    [release] = registry.releases.values()
    release = replace(release, metrics={**release.metrics, "figures": [figure]})
    same, other = (_shelf._figures(release, split) for split in ("shipped", "a hospital's"))
    assert _shelf._figures(release, None) == same  # no champion to compare it with
    assert same == {"AUROC elbow": "0.900 [0.800, 0.950], n = 58"}
    assert other == {"AUROC elbow": f"{same['AUROC elbow']} {_shelf.OTHER_SPLIT}"}


def test_numbers_in_the_place_of_patients_follow_no_order() -> None:
    names = pd.Series([f"p{n:03d}" for n in range(50)] * 2 + [None])
    found = measured.numbered(names)
    assert sorted(found[:50].astype(int)) == list(range(1, 51)) != found[:50].astype(int).tolist()
    assert found[:50].tolist() == found[50:100].tolist() and pd.isna(found[100])
