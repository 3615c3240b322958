"""``python -m training``: what is said of a fault that was expected, and what leaves its trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import CascadeError
from tests import scored
from training import inspect_data, measured
from training.__main__ import main
from training.jobs import work
from training.sources import DataInvalid, read_fracatlas, read_manifest, read_mura

Said = pytest.CaptureFixture[str]


def test_a_fault_that_nobody_expected_leaves_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        np.zeros(2) + np.zeros(3)

    monkeypatch.setattr(inspect_data, "run", broken)
    with pytest.raises(ValueError, match="could not be broadcast"):
        main(["data", "--data", "folder:a"])


def test_of_a_run_of_the_page_it_is_no_sentence_either() -> None:
    said = work.sentence(ValueError("operands could not be broadcast together"))
    assert said == "It ended with an error that was not expected (ValueError); see the log."
    assert work.sentence(DataInvalid("There is no picture.")) == "There is no picture."


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data", "--data", "folder:/nowhere"], "/nowhere is not a folder."),
        (["data", "--data", "manifest:/nowhere.csv"], "/nowhere.csv cannot be read or written"),
        (["fit", "--data", "folder:a", "--out", "b", "--arch", "swin"], "no architecture 'swin'"),
        (["fit", "--data", "folder:a", "--out", "b", "--only", "No!"], "no name of a body part"),
    ],
)
def test_what_was_expected_is_one_sentence(words: list[str], said: str, capsys: Said) -> None:
    assert main(words) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and said in line


def test_a_variable_without_meaning_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setenv("BONE_DEVICE", "foo")
    assert main(["evaluate", "--data", "folder:a"]) == 1
    said = "error: BONE_DEVICE must be auto, cpu or cuda, not 'foo'.\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("option", [["--duplicates", "maybe"], ["--device", "tpu"]])
def test_an_option_without_meaning_is_wrong_usage(option: list[str], capsys: Said) -> None:
    with pytest.raises(SystemExit) as left:
        main(["fit", "--data", "folder:a", "--out", "b", *option])
    assert left.value.code == 2 and f"invalid choice: '{option[1]}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "data", [b"", b"id,source,part\n1,2,3\n1,2,3,4\n", b"id,part\n\xff,\xfe\n"]
)
def test_a_list_that_is_no_table_is_one_sentence(data: bytes, tmp_path: Path) -> None:
    names = ("dataset.csv", "train_image_paths.csv", "train_labeled_studies.csv")
    for name in names:
        (tmp_path / name).write_bytes(data)
    for read in (lambda: read_manifest(tmp_path / names[0]), lambda: read_fracatlas(tmp_path)):
        with pytest.raises(DataInvalid, match=r"dataset.csv cannot be read as a table \("):
            read()
    with pytest.raises(DataInvalid, match=r"train_image_paths\.csv"):
        read_mura(tmp_path)


@pytest.mark.parametrize("damaged", ["", "[]", "{}", '{"release_sha256": "0", "figures": 3}'])
@pytest.mark.parametrize("name", ["metrics.json", "strangers.json"])
def test_damaged_figures_are_one_sentence(name: str, damaged: str, tmp_path: Path) -> None:
    release, test = scored.release(), tmp_path / "test"
    test.mkdir()
    whole = f'{{"release_sha256": "{release.sha256}", "split": "test", "figures": []}}'
    (test / "metrics.json").write_text(whole)
    assert measured.of_candidate(tmp_path, release)["figures"] == []
    (test / name).write_text(damaged)
    with pytest.raises(CascadeError, match=f"{name} is damaged"):
        measured.of_candidate(tmp_path, release)
