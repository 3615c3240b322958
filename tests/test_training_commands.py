"""``python -m training``: what is said of a fault that was expected, and what leaves its trace."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.cascade import Cascade
from core.errors import CascadeError, SettingsInvalid
from core.types import Mode
from tests import scored
from tests.test_docs import shown, unexplained
from training import evaluation, fit, inspect_data, measured, quantise
from training.__main__ import COMMANDS, _parser, main
from training.jobs import Job, work
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
    assert said == "It ended with an unexpected error (ValueError); see the log."
    assert work.sentence(DataInvalid("There is no picture.")) == "There is no picture."


def test_settings_that_a_run_of_the_page_refuses_are_told(tmp_path: Path) -> None:
    """As of a job that another version has queued."""
    job = Job("x", {"data": ["folder:a"], "precision": "fp8"})
    with pytest.raises(SettingsInvalid) as refused:
        work._fit(tmp_path, job, threading.Event())
    said = "The precision must be one of auto, bf16, fp32, not 'fp8'."
    assert work.sentence(refused.value) == said


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
    whole = {"release_sha256": release.sha256, "split": "test", "figures": [scored.FIGURE]}
    (test / "metrics.json").write_text(json.dumps(whole))
    assert measured.of_candidate(tmp_path, release)["figures"] == [scored.FIGURE]
    (test / name).write_text(damaged)
    with pytest.raises(CascadeError, match=f"{name} is damaged"):
        measured.of_candidate(tmp_path, release)


def test_figures_of_nothing_are_no_figures(tmp_path: Path) -> None:
    release, test = scored.release(), tmp_path / "test"
    test.mkdir()
    nothing = {"release_sha256": release.sha256, "split": "test", "figures": []}
    (test / "metrics.json").write_text(json.dumps(nothing))
    with pytest.raises(measured.FiguresInvalid, match=r"metrics\.json holds no figures"):
        measured.of_candidate(tmp_path, release)


@pytest.mark.parametrize("rows", [[], ["gone.png"]])
def test_nothing_that_can_be_read_is_no_evaluation(
    rows: list[str], weights: Path, tmp_path: Path, capsys: Said
) -> None:
    listed = tmp_path / "list.csv"
    (tmp_path / "gone.png").write_bytes(b"no picture")
    table = {"source": "drawn", "id": rows or ["1"], "file": "gone.png", "part": "hand"}
    table |= {"group": "a", "positive": 1, "split": "test" if rows else "train"}
    pd.DataFrame(table).to_csv(listed, index=False)
    where = ["--weights", str(weights), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(["evaluate", "--data", f"manifest:{listed}", "--split", "test", *where]) == 1
    said = "error: The split test has no picture that can be read."
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert not (tmp_path / "out").exists()


class Asked(CascadeError):
    """What a command asked for; nothing is done."""


@pytest.mark.parametrize(
    "command", ["evaluate", "heatmaps", "robustness", "strangers", "photographs", "quantise"]
)
def test_the_variables_of_the_program_are_those_of_training_too(
    command: str, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(folder: Path, release: str, device: str) -> Any:
        asked.append((folder, release, device))
        return stand_in

    def in_mode(mode: Mode | None) -> None:
        asked.append(mode)
        raise Asked

    asked: list[Any] = []
    stand_in = SimpleNamespace(in_mode=in_mode)
    monkeypatch.setattr(Cascade, "load", load)
    monkeypatch.setattr("training.data.read_all", lambda _: None)
    monkeypatch.setattr(evaluation, "read_all", lambda _: None)
    monkeypatch.setattr(quantise, "run", lambda *_: asked.append(None))
    variables = {"WEIGHTS": str(weights), "RELEASE": "of", "DEVICE": "cpu", "MODE": "ensemble"}
    for name, value in variables.items():
        monkeypatch.setenv(f"BONE_{name}", value)
    words = [command] if command == "strangers" else [command, "--data", "folder:a"]
    main(words)
    of_modes = command == "quantise"  # which has them all, on the CPU
    assert asked == [(weights, "of", "cpu"), None if of_modes else Mode.ENSEMBLE]
    asked.clear()
    main([*words, "--weights", "w"])  # a candidate, of which BONE_RELEASE and BONE_MODE say nothing
    assert asked == [(Path("w"), "champion", "cpu"), None]
    asked.clear()
    said = ["--weights", "w", "--release", "r"]
    main([*words, *said, *([] if of_modes else ["--device", "cuda", "--mode", "fast"])])
    device = "cpu" if of_modes else "cuda"
    assert asked == [(Path("w"), "r", device), None if of_modes else Mode.FAST]


def test_a_run_trains_on_the_device_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(settings: fit.Settings, *_: Any) -> None:
        asked.append(settings)
        raise Asked

    asked: list[fit.Settings] = []
    monkeypatch.setattr(fit, "Run", run)
    monkeypatch.setenv("BONE_DEVICE", "cpu")
    words = ["fit", "--data", "folder:a", "--out", "b", "--size", "64"]
    assert main(words) == 1 and main([*words, "--device", "auto"]) == 1
    assert [a.device for a in asked] == ["cpu", "auto"]
    assert asked[1] == fit.Settings(("folder:a",), "b", size=64)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_told_and_reads_its_options(name: str, capsys: Said) -> None:
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0 and "usage: python -m training" in capsys.readouterr().out
    assert unexplained(_parser(name), name) == []


def test_a_command_takes_what_it_is_shown_with() -> None:
    commands = list(shown("training"))
    assert len(commands) > 9
    for words in commands:
        assert _parser(words[0]).parse_args(words), words
