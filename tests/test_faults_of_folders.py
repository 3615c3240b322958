"""Folders without permission, and on a disk that is read-only: one sentence, nothing lost, and
afterwards it works. BONE_HOME, a batch's output, a run's folder, the listener's, the weights.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core import health
from core.__main__ import main
from core.batch.journal import folder_of
from core.batch.run import Order, Outcome, run
from core.errors import BatchFailed, StoreUnavailable, WeightsInvalid
from core.pacs.folder import WatchedFolder
from core.pacs.inbox import Inbox
from core.registry import Registry
from core.settings import ROOT, ImageLimits, Settings
from core.store import Store
from pages import _cascade
from tests import tiny, worklist
from tests.batches import Stand, fill, scorer
from tests.listening import Listening, storescu, studies
from tests.permissions import held_up, not_permitted, read_only
from tests.simulated import encoded, phantom
from tests.waiting import eventually
from training import status
from training.__main__ import main as training

APP = str(ROOT / "streamlit_app.py")
Fault = Callable[[Path], AbstractContextManager[None]]
dcmtk = pytest.mark.skipif(not shutil.which("storescu"), reason="dcmtk is not installed")


@pytest.fixture(params=[not_permitted, read_only], ids=["not permitted", "read-only"])
def fault(request: pytest.FixtureRequest) -> Fault:
    return request.param


def text(app: AppTest) -> str:
    return "\n".join(str(e.proto.body) for e in app.get("html"))


# BONE_HOME


@pytest.mark.usefixtures("fresh_app")
def test_the_app_says_that_it_cannot_keep_anything(home: Path, fault: Fault) -> None:
    home.mkdir()
    with fault(home):
        app = AppTest.from_file(APP, default_timeout=180).run()
        assert "BONE_HOME) cannot be written" in text(app)
        assert not app.exception and not app.file_uploader and not list(home.iterdir())
    app.run()
    assert app.file_uploader and "cannot be written" not in text(app)


@pytest.mark.parametrize("command", ["batch", "listen"])
def test_a_command_says_which_folder(
    command: str,
    weights: Path,
    home: Path,
    fault: Fault,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home.mkdir()
    options = {"batch": [str(tmp_path), "--out", str(home / "o.csv")], "listen": ["--port", "0"]}
    kept = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with fault(home):
        assert main(["--weights", str(weights), command, *options[command]]) == 1
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), kept):
        signal.signal(number, handler)
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and said.endswith(".") and "written" in said
    assert not list(home.iterdir())


def test_a_picture_that_cannot_be_kept_adds_no_study(
    weights: Path, home: Path, fault: Fault
) -> None:
    release, store = Registry.open(weights).find("champion"), Store.open(Settings(home=home))
    worklist.put(store, release, "before", 0.5)
    with fault(home / "images"), pytest.raises(StoreUnavailable, match="picture could not"):
        worklist.put(store, release, "during", 0.5, seed=10)
    assert [e.title for e in store.worklist()] == ["before"]
    worklist.put(store, release, "during", 0.5, seed=10)
    assert len(store.worklist()) == 2 and not store.verify_audit().problems
    store.close()


# The output of a batch


def score(folder: Path, out: Path, stop_after: float = 1e9, **more: object) -> Outcome:
    """Score, and be asked to stop after so many pictures."""
    stop, stand = threading.Event(), Stand()
    if stop_after <= 8:
        stop.set()  # ends after the first batch, as Ctrl-C does
    heatmaps = more.pop("heatmaps", None)
    order = Order(folder, out, resume=True, **more)
    return run(order, scorer(stand, batch=8, heatmaps=heatmaps), stop, io.StringIO())


def test_a_batch_goes_on_where_its_output_may_be_written_again(
    tmp_path: Path, fault: Fault
) -> None:
    folder, there = fill(tmp_path / "in", 30), tmp_path / "there"
    there.mkdir()
    out = there / "out.csv"
    with fault(there), pytest.raises(BatchFailed, match="output cannot be written"):
        score(folder, out)
    assert not list(there.iterdir())
    assert score(folder, out, stop_after=8).done == 8
    journal = (folder_of(out) / "journal.jsonl").read_bytes()
    with fault(there), pytest.raises(BatchFailed, match="cannot be written"):
        score(folder, out)
    assert (folder_of(out) / "journal.jsonl").read_bytes().startswith(journal)
    assert not out.exists()
    score(folder, out)
    score(folder, tmp_path / "whole.csv")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert [p.name for p in there.iterdir()] == ["out.csv"]


@pytest.mark.parametrize("what", ["heatmaps", "summary"])
def test_what_stands_beside_the_table_stops_nothing_for_good(
    what: str, tmp_path: Path, fault: Fault
) -> None:
    folder, out, beside = fill(tmp_path / "in", 10), tmp_path / "out.csv", tmp_path / "beside"
    beside.mkdir()
    where = {what: beside if what == "heatmaps" else beside / "s.html"}
    with fault(beside), pytest.raises(BatchFailed) as caught:
        score(folder, out, **where)
    assert "Results so far are kept" in str(caught.value)
    assert not out.exists() and not list(beside.iterdir())
    assert score(folder, out, **where).done == 10
    with out.open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 10
    assert list(beside.iterdir())


# A run's folder


def test_a_run_says_why_it_failed_where_nothing_can_be_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    status.Status(tmp_path).write("running", 0.5, "joint", seen=3)
    with not_permitted(tmp_path, left=0o755):
        tmp_path.chmod(0o555)
        status.fail(tmp_path, "A sentence.")
    told = json.loads((tmp_path / "status.json").read_text())
    assert (told["state"], told["reason"], told["seen"]) == ("failed", "A sentence.", 3)
    with read_only(tmp_path):
        status.fail(tmp_path, "Another one.")  # nothing is raised, and the log has it
    assert "cannot say why it failed" in caplog.text
    assert json.loads((tmp_path / "status.json").read_text()) == told


def test_training_says_which_folder(
    tmp_path: Path, fault: Fault, capsys: pytest.CaptureFixture[str]
) -> None:
    data, there = tiny.write(tmp_path / "data", each=1), tmp_path / "there"
    there.mkdir()
    out = there / "run"
    with fault(there):
        assert training(["fit", "--data", f"manifest:{data}", "--out", str(out)]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: {out}") and not list(there.iterdir())


# The listener's folders


@dcmtk
def test_the_listener_refuses_what_it_may_not_keep_and_takes_it_later(
    weights: Path, home: Path, tmp_path: Path
) -> None:
    [study] = studies(tmp_path / "sent", 1)
    running = Listening(weights, home, "--port", "0", through=held_up)
    inbox = home / "pacs" / "inbox"
    try:
        inbox.chmod(0o555)
        assert "OutOfResources" in storescu(running.port, study).communicate(timeout=120)[0]
        assert not list(inbox.iterdir())
        inbox.chmod(0o700)
        assert "Success" in storescu(running.port, study).communicate(timeout=120)[0]
        eventually(lambda: list(inbox.glob("*/scored.json")))
    finally:
        assert running.stop() == 0
    store = Store.open(Settings(home=home))
    assert len(store.worklist()) == 1
    store.close()
    assert "could not be written" in running.log.read_text()


def test_a_watched_file_that_may_not_be_read_is_taken_when_it_may(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched, inbox = tmp_path / "watched", Inbox(home / "inbox")
    watched.mkdir()
    path = watched / "a.png"
    path.write_bytes(encoded(phantom(), "PNG"))
    folder = WatchedFolder(watched, home / "taken.jsonl", ImageLimits())
    with not_permitted(path, left=0):
        assert [folder.poll(inbox) for _ in range(4)] == [0, 0, 0, 0]
    assert caplog.text.count("permission was denied") == 1 and not list(inbox.due(0))
    assert folder.poll(inbox) == 1 and folder.poll(inbox) == 0
    assert len(list(inbox.due(0))) == 1


# The weights


@pytest.mark.usefixtures("fresh_app")
@pytest.mark.parametrize("name", [".", "manifest.json", "random/trunk.safetensors"])
def test_weights_that_may_not_be_read(
    name: str, weights: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(shutil.copytree(weights, tmp_path / "weights"))
    monkeypatch.setenv("BONE_WEIGHTS", str(own))
    settings = Settings(weights=own, home=home, device="cpu")
    with not_permitted(own / name, left=0):
        app = AppTest.from_file(APP, default_timeout=180).run()
        _cascade.change()  # here, outside of a session: an earlier test may have pinned another
        failure = _cascade.loader().start().exception()
        assert isinstance(failure, WeightsInvalid) and "cannot be read" in str(failure)
        app.run()
        assert str(failure) in text(app) and "No model" in text(app) and not app.file_uploader
        assert not health.examine(settings)[0].ok
    app.button[0].click().run()  # Try again
    assert app.file_uploader and not app.exception
    assert health.examine(settings)[0].ok


def test_weights_on_a_disk_that_is_read_only_are_read(weights: Path, home: Path) -> None:
    with read_only(weights):
        assert health.examine(Settings(weights=weights, home=home, device="cpu"))[0].ok


def test_the_helper_takes_nothing_away_for_good(tmp_path: Path) -> None:
    for fault in (not_permitted, read_only, nullcontext):
        with fault(tmp_path):
            if fault is not nullcontext:
                with pytest.raises(OSError):
                    (tmp_path / "x").write_bytes(b"")
        (tmp_path / "x").write_bytes(b"")
        (tmp_path / "x").unlink()
