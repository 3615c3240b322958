"""What the page Training says of a run whose process, server, data, numbers or disk fail.

The page is the real one (AppTest), the run a real process: where training matters it trains the
small networks of ``tests.small``, else it is the stand-in of ``tests.test_jobs``. Those that train
are for ``make stress``, as each process imports torch for ten seconds, and so are those that only
join what ``tests.test_jobs`` and ``tests.test_training_page`` show of a killed process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd
import pytest
import streamlit as st
import torch
from streamlit.testing.v1 import AppTest

from core.settings import ROOT
from tests import tiny
from tests.permissions import not_permitted, read_only
from tests.test_jobs import SMALL, STAND_IN
from tests.test_training_page import page, press, text
from tests.waiting import eventually
from training import status
from training.jobs import Queue, Record, State, presets, queue
from training.jobs.datasets import DataSets

# A server of its own: its page starts a run, and then it waits to be killed.
SERVER = """
import sys, time
from streamlit.runtime.context import ContextProxy
from streamlit.testing.v1 import AppTest
from training.jobs import queue

ContextProxy.cookies = {}  # as in conftest: where Streamlit has a mock
queue.MODULE = "stand_in"
app = AppTest.from_file(sys.argv[1], default_timeout=180)
app.session_state["view"] = "New run"
app.run()
next(b for b in app.button if b.label == "Start").click().run()
print(app.session_state["run"], flush=True)
time.sleep(600)
"""
FEW = {
    "size": 32,
    "joint_passes": 32,
    "branch_passes": 16,
    "body_part_passes": 16,
    "validations": 1,
    "minutes_between_checkpoints": 0.0,
}


@pytest.fixture(autouse=True)
def runs(
    weights: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Queue]:
    """A queue whose processes are all ended when the test is; a data set is registered."""
    for name, code in (("small_in", SMALL), ("stand_in", STAND_IN)):
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    monkeypatch.setenv("BONE_WEIGHTS", str(weights))
    monkeypatch.setenv("BONE_DEVICE", "cpu")
    monkeypatch.setenv("BONE_ROOTS", str(tmp_path))
    tiny.write(tmp_path / "data", each=3)
    st.cache_data.clear()
    found = Queue(home / "runs")
    yield found
    for record in found.records():
        if record.state.active:
            found.cancel(record.id)


@pytest.fixture
def manifest(home: Path, tmp_path: Path) -> Path:
    """The list of the data set that is registered in this BONE_HOME."""
    path = tmp_path / "data" / "manifest.csv"
    DataSets(home, [tmp_path]).add("drawn", "manifest", str(path))
    return path


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MODULE", "stand_in")


@pytest.fixture
def small_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MODULE", "small_in")


def form() -> AppTest:
    """A new run of few pictures, filled in and not started."""
    app = page("training", "New run")
    for name, value in FEW.items():
        app.number_input(key=f"{presets.PRESETS[0].name}-{name}").set_value(value)
    return app.run()


def says(app: AppTest, words: str) -> bool:
    """Look again, as the page does by itself every two seconds."""
    app.run()
    assert not app.exception and "An unexpected error" not in text(app)
    return words in text(app)


def ended(runs: Queue, state: State, app: AppTest, words: str) -> bool:
    """Once the only run has come to that state the page says so; drawing it again and again until
    then would cost more than the run."""
    eventually(lambda: [r.state for r in runs.records()] == [state])
    return says(app, words)


def labels(app: AppTest) -> set[str]:
    return {b.label for b in app.button} - {"Save"}


def killed(record: Record) -> None:
    """kill -9 of a run's process, and the wait until it has gone."""
    process = record.process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: not process.alive)


@pytest.mark.stress
@pytest.mark.usefixtures("stand_in", "manifest")
def test_a_killed_run_is_shown_as_interrupted_with_its_place_and_resumes(runs: Queue) -> None:
    app = press(page("training", "New run"), "Start")
    [record] = runs.records()
    eventually(lambda: runs.record(record.id).seen > 2)
    assert says(app, "Running") and labels(app) == {"Pause", "Cancel"}
    killed(runs.record(record.id))
    seen = runs.record(record.id).seen
    assert says(app, f"interrupted after {seen:,} of {record.passes:,} pictures")
    assert labels(app) == {"Resume"}
    press(app, "Resume")
    eventually(lambda: says(app, "▶ Running"))
    assert labels(app) == {"Pause", "Cancel"} and len(runs.records()) == 1


@pytest.mark.stress
@pytest.mark.usefixtures("stand_in", "manifest")
def test_a_killed_server_leaves_its_run_and_a_new_one_says_what_became_of_it(runs: Queue) -> None:
    """The run goes on; a new server shows it, with its buttons. Then both are killed."""
    where = str(ROOT / "pages" / "training.py")
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, where], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    run = server.stdout.readline().strip()
    eventually(lambda: runs.record(run).seen > 0)
    server.kill()
    server.communicate()
    app = page("training")
    assert says(app, "▶ Running") and labels(app) == {"Pause", "Cancel"}
    before = runs.record(run).seen
    eventually(lambda: runs.record(run).seen > before)  # it has outlived its server
    killed(runs.record(run))
    new = page("training")  # of a server that was started after both had gone
    assert says(new, "interrupted after") and labels(new) == {"Resume"}
    press(new, "Resume")
    eventually(lambda: says(new, "▶ Running"))
    assert says(app, "▶ Running")  # a session that was open all the time agrees


@pytest.mark.stress
@pytest.mark.usefixtures("small_in")
def test_a_folder_that_goes_away_is_one_sentence(
    runs: Queue, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the click nothing starts, not with the other data sets either; after it the run fails,
    and can be resumed."""
    app = form()
    manifest.rename(manifest.with_name("elsewhere.csv"))
    press(app, "Start")
    assert "drawn: missing, or not in a folder that may be read here." in text(app)
    assert not runs.records()
    manifest.with_name("elsewhere.csv").rename(manifest)
    app = form()
    with monkeypatch.context() as patch:
        patch.setattr(Queue, "advance", lambda self: None)
        press(app, "Start")
    manifest.rename(manifest.with_name("elsewhere.csv"))
    runs.advance()
    assert ended(runs, State.FAILED, app, f"{manifest}: This path is not inside a folder")
    assert "Traceback" not in text(app) and labels(app) == {"Resume"}
    manifest.with_name("elsewhere.csv").rename(manifest)
    press(app, "Resume")
    assert ended(runs, State.FINISHED, app, "■ Finished")


@pytest.mark.stress
@pytest.mark.usefixtures("small_in")
def test_a_class_that_is_emptied_after_the_check_is_one_sentence(
    runs: Queue, manifest: Path
) -> None:
    app = form()
    rows = pd.read_csv(manifest)
    rows[~((rows.part == "hand") & (rows.positive == 1))].to_csv(manifest, index=False)
    press(app, "Start")
    words = "The split train lacks positives or negatives of: hand."
    assert ended(runs, State.FAILED, app, words)
    assert labels(app) == {"Resume"}


@pytest.mark.usefixtures("stand_in", "manifest")
@pytest.mark.parametrize("fault", [not_permitted, read_only])
def test_a_run_that_cannot_be_kept_is_refused_in_one_sentence(
    runs: Queue, fault: Callable[[Path], AbstractContextManager[None]]
) -> None:
    app = form()
    runs.runs.mkdir(exist_ok=True)
    with fault(runs.runs):
        press(app, "Start")
        assert "could not be read or written" in text(app) and "expected" not in text(app)
        assert not app.exception and not runs.records()
    press(page("training", "New run"), "Start")
    [record] = runs.records()
    eventually(lambda: runs.record(record.id).seen > 0)


@pytest.mark.usefixtures("stand_in", "manifest")
def test_a_run_whose_folder_becomes_read_only_is_interrupted_and_resumes(runs: Queue) -> None:
    """Not even why it failed can be written there; its log, which was open, has it."""
    app = press(page("training", "New run"), "Start")
    [record] = runs.records()
    eventually(lambda: runs.record(record.id).seen > 2)
    with read_only(record.folder):
        eventually(lambda: not runs.record(record.id).alive)
        assert says(app, "interrupted after") and labels(app) == {"Resume"}
        press(app, "Resume")
        assert "could not be read or written" in text(app) and not app.exception
    kept = runs.record(record.id).seen
    assert kept > 2 and "cannot say why" in (record.folder / "log.txt").read_text()
    app = press(page("training"), "Resume")
    eventually(lambda: says(app, "▶ Running"))


@pytest.mark.stress
@pytest.mark.usefixtures("small_in", "manifest")
def test_a_loss_that_is_no_number_is_one_sentence_and_the_checkpoint_is_kept(
    runs: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAN", "1")
    app = press(form(), "Start")
    assert ended(runs, State.FAILED, app, "The loss is nan after 16 pictures of joint.")
    [record] = runs.records()
    assert record.state is State.FAILED and record.seen == 16 and labels(app) == {"Resume"}
    assert torch.load(record.folder / "checkpoint.pt", weights_only=True)["seen"] == 16
    monkeypatch.delenv("NAN")
    press(app, "Resume")
    assert ended(runs, State.FINISHED, app, "■ Finished")
    places = [(e["phase"], e["seen"]) for e in tiny.events(record.folder)]
    assert places.count(("joint", 0)) == 1 and places[-1] == ("shoulder", 16)


@pytest.mark.stress
@pytest.mark.usefixtures("small_in")
def test_a_full_disk_is_one_sentence_and_with_space_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BONE_HOME on a real file system of 4 MB, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("This process may not mount a file system.")
    try:
        monkeypatch.setenv("BONE_HOME", str(disk))
        path = str(tmp_path / "data" / "manifest.csv")
        DataSets(disk, [tmp_path]).add("drawn", "manifest", path)
        app, runs = press(form(), "Start"), Queue(disk / "runs")
        assert ended(runs, State.FAILED, app, status.NO_SPACE)
        [record] = runs.records()
        eventually(lambda: not runs.record(record.id).alive)
        assert record.state is State.FAILED and labels(app) == {"Resume"}
        assert tiny.events(record.folder)[0]["seen"] == 0
        subprocess.run(["mount", "-o", "remount,size=256m", str(disk)], check=True)
        press(app, "Resume")
        assert ended(runs, State.FINISHED, app, "■ Finished")
        eventually(lambda: not runs.record(record.id).alive)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
