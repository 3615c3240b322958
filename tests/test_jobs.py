"""The queue of runs: one starts one, whatever is killed, and what the page is told afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from core.process import Process
from core.settings import ROOT
from tests import tiny
from tests.waiting import eventually
from training import fit, status
from training.jobs import Job, JobRefused, Queue, Record, State, queue, work
from training.jobs.record import log_tail

WAIT = 120.0
LONG = 600.0  # seconds: a run of the stand-in that no test sees the end of
# Stands in for training where only the processes matter: beats, waits while there is a file "hold"
# beside the runs, and pauses when it is asked to.
STAND_IN = """
import os, signal, sys, threading, time
from pathlib import Path
from training import status
from training.jobs import queue, work

queue.MODULE = "stand_in"
work.NICE = 0  # the test waits for it, beside others that want the processor

def fit(folder, job, stop):
    with (folder.parent / "begun").open("a") as file:
        file.write(folder.name + chr(10))
    writer = status.Status(folder)
    hold = folder.parent / "hold"
    for n in range(int(job.settings["joint_passes"])):
        while hold.exists():
            time.sleep(0.01)
        writer.write("running", n / 100, "joint", seen=n)
        if stop.is_set():
            writer.write("paused", n / 100, "joint", seen=n)
            raise status.Stopped("Paused.")
        time.sleep(0.02)
    writer.write("finished", 1.0)

work._fit = fit
sys.exit(work.main())
"""

# A run of small networks; with NAN in the environment the loss is none from the second step on.
SMALL = """
import os, sys
from tests import small
from training import fit
from training.jobs import queue, work

queue.MODULE = "small_in"
work.NICE = 0  # the test waits for it, beside others that want the processor
small.shrink()
if os.environ.get("NAN"):
    loss, calls = fit.loss, []
    def broken(*arguments):
        calls.append(1)
        return loss(*arguments) * (float("nan") if len(calls) > 1 else 1.0)
    fit.loss = broken
with small.runs():
    sys.exit(work.main())
"""


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Queue]:
    """A queue whose processes are all ended when the test is."""
    queue = Queue(tmp_path / "runs")
    yield queue
    for record in queue.records():
        if record.state.active:
            queue.cancel(record.id)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    monkeypatch.setattr(queue, "MODULE", "stand_in")


@pytest.fixture
def small_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small_in.py").write_text(SMALL)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    monkeypatch.setattr(queue, "MODULE", "small_in")


def settings(seconds: float = LONG, **more: Any) -> dict[str, Any]:
    return {"joint_passes": int(50 * seconds), **more}


def trained(runs: Queue, run: str) -> Callable[[], bool]:
    return lambda: runs.record(run).seen > 0


@pytest.mark.usefixtures("stand_in")
def test_eight_processes_press_start_and_one_run_starts(runs: Queue) -> None:
    runs.runs.mkdir()
    gate, ready = runs.runs.parent / "gate", runs.runs.parent / "ready"
    ready.mkdir()
    press = (
        "import sys, time; from pathlib import Path; from training.jobs import Queue, queue;"
        "queue.MODULE = 'stand_in'\n"
        f"(Path({str(ready)!r}) / sys.argv[1]).touch()\n"
        f"while not Path({str(gate)!r}).exists(): time.sleep(0.001)\n"
        f"print(Queue(Path({str(runs.runs)!r})).submit(sys.argv[1], {settings()!r}))"
    )
    command = [sys.executable, "-c", press]
    pressing = [
        subprocess.Popen([*command, f"run {n}"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for n in range(8)
    ]
    eventually(lambda: len(list(ready.iterdir())) == 8)
    gate.touch()
    ids = {p.communicate(timeout=WAIT)[0].strip() for p in pressing}
    assert [p.returncode for p in pressing] == [0] * 8
    assert len(ids) == len(runs.records()) == 1
    eventually(trained(runs, ids.pop()))
    assert len((runs.runs / "begun").read_text().splitlines()) == 1


@pytest.mark.usefixtures("stand_in")
def test_the_queue_goes_on_by_itself_one_at_a_time(runs: Queue) -> None:
    runs.runs.mkdir()
    hold = runs.runs / "hold"
    hold.touch()
    ids = [runs.submit(f"run {n}", settings(0.5, seed=n)) for n in range(3)]
    states = [runs.record(i).state for i in ids]
    assert states == [State.RUNNING, State.QUEUED, State.QUEUED]
    hold.unlink()
    eventually(lambda: sum(r.alive for r in runs.records()) <= 1 and runs.record(ids[2]).seen)
    eventually(lambda: all(r.state is State.FINISHED for r in runs.records()))
    assert (runs.runs / "begun").read_text().split() == ids


@pytest.mark.usefixtures("stand_in")
def test_a_run_is_queued_or_running_from_the_click_on_and_never_nothing(runs: Queue) -> None:
    """What one process sees while another waits for its turn, starts, pauses and resumes."""
    watch = (
        "import sys; from pathlib import Path; from training.jobs import Queue\n"
        f"queue, last = Queue(Path({str(runs.runs)!r})), None\n"
        "while not (queue.runs / 'end').exists():\n"
        "    for state in (r.state.value for r in queue.records() if r.job.name == 'watched'):\n"
        "        if state != last: print(state, file=open(queue.runs / 'seen', 'a'))\n"
        "        last = state"
    )
    before = runs.submit("before", settings(seed=1))
    run = runs.submit("watched", settings())
    (runs.runs / "seen").touch()

    def seen() -> list[str]:
        return (runs.runs / "seen").read_text().split()

    watching = subprocess.Popen([sys.executable, "-c", watch], cwd=ROOT)
    eventually(lambda: seen() == ["queued"])
    runs.cancel(before)
    eventually(lambda: trained(runs, run)() and seen()[-1] == "running")
    runs.pause(run)
    assert runs.record(run).state in (State.PAUSING, State.PAUSED)
    eventually(lambda: runs.record(run).state is State.PAUSED and seen()[-1] == "paused")
    runs.resume(run)
    assert runs.record(run).state in (State.QUEUED, State.RUNNING)
    eventually(lambda: runs.record(run).alive and seen()[-1] == "running")
    runs.cancel(run)
    assert runs.record(run).state is State.CANCELLED
    eventually(lambda: not runs.record(run).alive and seen()[-1] == "cancelled")
    (runs.runs / "end").touch()
    assert watching.wait(WAIT) == 0
    # how long it is pausing, or waits a second time, is nobody's promise
    told = [s for n, s in enumerate(seen()) if s != "pausing" and not (n and s == "queued")]
    assert told == ["queued", "running", "paused", "running", "cancelled"]


@pytest.mark.usefixtures("stand_in")
def test_kill_9_of_the_run_is_told_as_an_interruption_and_resumed(runs: Queue) -> None:
    run, waiting = runs.submit("killed", settings()), runs.submit("next", settings(LONG + 1))
    eventually(lambda: runs.record(run).status.get("seen", 0) > 2)
    process = runs.record(run).process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: not process.alive)
    record = runs.record(run)
    assert record.state is State.INTERRUPTED
    assert f"interrupted after {record.seen:,} of 30,000 pictures" in record.sentence()
    assert record.seen > 0
    eventually(lambda: runs.record(waiting).alive)  # the queue is not blocked by the dead
    runs.cancel(waiting)
    runs.resume(run)
    eventually(lambda: runs.record(run).alive and runs.record(run).state is State.RUNNING)


@pytest.mark.usefixtures("stand_in")
def test_kill_9_of_the_server_leaves_the_run_alone_and_of_both_is_told(runs: Queue) -> None:
    serve = (
        "import time; from pathlib import Path; from training.jobs import Queue, queue;"
        "queue.MODULE = 'stand_in';"
        f"print(Queue(Path({str(runs.runs)!r})).submit('served', {settings()!r}), flush=True);"
        "time.sleep(600)"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", serve], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    run = server.stdout.readline().strip()
    eventually(trained(runs, run))
    server.kill()
    server.communicate()
    before = runs.record(run).status["seen"]
    eventually(lambda: runs.record(run).status["seen"] > before)
    assert runs.record(run).state is State.RUNNING
    assert runs.submit("again", settings()) == run  # a new server does not start it twice
    process = runs.record(run).process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: not process.alive)
    assert runs.record(run).state is State.INTERRUPTED
    runs.resume(run)
    eventually(lambda: runs.record(run).alive)
    assert runs.record(run).state is State.RUNNING


@pytest.mark.parametrize("asked", [True, False])
def test_a_run_that_a_reboot_ends_begins_no_other(
    asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which would be ended as well, and wait in the queue no more."""
    runs, begun = Queue(tmp_path / "runs"), []  # it is of this process: nothing may be cancelled
    monkeypatch.setattr(Queue, "_start", lambda _, record, lock: begun.append(record.id))
    monkeypatch.setattr(work.signal, "signal", lambda *_: None)
    monkeypatch.setattr(work.os, "setpriority", lambda *_: None)
    run, waiting = runs.submit("runs", settings()), runs.submit("waits", settings(1.0))
    begun.clear()

    def ended(folder: Path, job: Job, stop: threading.Event) -> int:
        if asked:
            replace(job, wanted="pause").write(folder)
        stop.set()
        return 0

    monkeypatch.setattr(work, "_work", ended)
    lock = runs._try_lock()
    monkeypatch.setenv(queue.LOCK_VARIABLE, str(lock))
    assert work.main([str(runs.runs / run)]) == 0
    os.close(lock)
    assert begun == ([waiting] if asked else [])
    assert runs.record(waiting).state is State.QUEUED  # as what starts it does nothing here


def test_a_number_that_another_process_got_is_not_the_run(tmp_path: Path) -> None:
    Job("old", settings()).write(tmp_path)
    other = replace(Process.of(os.getpid()), started="another boot 12")
    other.write(tmp_path)
    record = Record.read(tmp_path)
    assert record is not None and record.state is State.INTERRUPTED
    Process.of(os.getpid()).write(tmp_path)
    record = Record.read(tmp_path)
    assert record is not None and record.state is State.RUNNING


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen(["true"])
    process = Process.of(child.pid)
    eventually(lambda: not process.alive)
    child.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="threads are looked at in /proc")
def test_a_process_whose_first_thread_has_ended_lives_by_its_others() -> None:
    """So it is for a moment when it was killed, and its locks are still held then."""
    code = (
        "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(600,)).start();"
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    child = subprocess.Popen([sys.executable, "-c", code])
    process, stat = Process.of(child.pid), Path(f"/proc/{child.pid}/stat")
    eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
    assert process.alive
    child.kill()
    eventually(lambda: not process.alive)
    child.wait()


def test_refusals_are_sentences(runs: Queue) -> None:
    with pytest.raises(JobRefused, match="name"):
        runs.submit("  ", settings())
    with pytest.raises(JobRefused, match="no such run"):
        runs.pause("../elsewhere")


def test_a_torn_or_foreign_file_is_no_run(runs: Queue) -> None:
    for name, text in (("torn", '{"name": "x", "se'), ("foreign", "[1, 2]")):
        (runs.runs / name).mkdir(parents=True)
        (runs.runs / name / "job.json").write_text(text)
    Job("whole", settings(), queued=1.0).write(runs.runs / "whole")
    (runs.runs / "whole" / "status.json").write_text('{"state": "runn')
    assert [r.id for r in runs.records()] == ["whole"]
    assert runs.records()[0].state is State.QUEUED


# --- with real training --------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _roots(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests write may be read."""
    monkeypatch.setenv("BONE_ROOTS", str(tmp_path_factory.getbasetemp()))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"manifest:{tiny.write(tmp_path_factory.mktemp('data'), each=3)}"


def tiny_settings(source: str, **more: Any) -> dict[str, Any]:
    made = fit.Settings(
        data=(source,),
        out="",
        size=32,
        joint_passes=32,
        branch_passes=16,
        body_part_passes=16,
        batch=16,
        validations=1,
        device="cpu",
    )
    return json.loads(json.dumps({k: v for k, v in asdict(made).items() if k != "out"} | more))


@pytest.mark.stress
@pytest.mark.usefixtures("small_in")
def test_a_real_run_pauses_resumes_and_finishes(runs: Queue, data: str) -> None:
    run = runs.submit("real", tiny_settings(data, joint_passes=1600, validations=1))
    eventually(lambda: runs.record(run).status.get("seen", 0) >= 16)
    runs.pause(run)
    eventually(lambda: runs.record(run).state is State.PAUSED and not runs.record(run).alive)
    record = runs.record(run)
    assert 0 < record.seen < record.passes and "Paused after" in record.sentence()
    shorter = replace(record.job, settings=record.job.settings | {"joint_passes": record.seen})
    shorter.write(record.folder)
    runs.resume(run)
    eventually(lambda: not runs.record(run).state.active)
    record = runs.record(run)
    assert record.state is State.FINISHED, log_tail(record.folder)
    assert record.fitted and record.seen == record.passes
    places = [(e["phase"], e["seen"]) for e in tiny.events(record.folder)]
    assert places[0] == ("joint", 0) and places[-1] == ("shoulder", 16)
    assert len(places) == len(set(places))


FAILURES = {
    "empty class": ("lacks positives or negatives of: hand", {}),
    "unreadable folder": ("/nowhere/manifest.csv", {"data": ["manifest:/nowhere/manifest.csv"]}),
    "not a number": ("The loss is nan after 16 pictures of joint", {"joint_rate": 1e30}),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failed_run_says_why_in_one_sentence(
    tmp_path: Path, data: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, changed = FAILURES[case]
    if case == "empty class":
        path = Path(data.partition(":")[2])
        rows = path.read_text().splitlines()
        kept = [r for r in rows if "_hand_1_" not in r]
        (path.parent / "no_hand.csv").write_text("\n".join(kept) + "\n")
        changed = {"data": [f"manifest:{path.parent / 'no_hand.csv'}"]}
    folder = tmp_path / "run"
    folder.mkdir()
    job = Job("fails", tiny_settings(data, **changed))
    job.write(folder)
    if case == "not a number":
        monkeypatch.setattr(fit, "loss", _nan_after_the_first(fit.loss))
    assert work._work(folder, job, _never()) == 1
    record = Record.read(folder)
    assert record is not None and record.state is State.FAILED
    assert expected in record.sentence()
    assert "\n" not in record.sentence() and record.sentence().endswith((".", ").", "'"))


def _status_of(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "status.json").read_text())
    return {k: found[k] for k in ("state", "reason")}


def _never() -> Any:
    import threading

    return threading.Event()


def _nan_after_the_first(loss: Callable[..., Any]) -> Callable[..., Any]:
    calls: list[int] = []

    def broken(*args: Any) -> Any:
        calls.append(1)
        return loss(*args) * (float("nan") if len(calls) > 1 else 1.0)

    return broken


def test_a_full_disk_is_said_in_one_sentence_and_loses_nothing(tmp_path: Path, data: str) -> None:
    """A real full file system of 4 MB, where this process may mount one.

    torch keeps what it could not write open, so that the disk is full when the status is written.
    """
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("This process may not mount a file system.")
    try:
        folder = disk / "run"
        folder.mkdir()
        job = Job("fills", tiny_settings(data))
        job.write(folder)
        status.Status(folder).write("running", 0.0)
        assert work._work(folder, job, _never()) == 1
        assert _status_of(folder) == {"state": "failed", "reason": status.NO_SPACE}
        record = Record.read(folder)
        assert record is not None and record.state is State.FAILED
        assert record.sentence() == status.NO_SPACE
        assert tiny.events(folder)[0]["seen"] == 0
        assert not list(folder.glob(".*"))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
