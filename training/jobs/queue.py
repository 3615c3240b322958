"""The queue: one run at a time, each a detached process, whoever presses Start and how often.

Two locks of the kernel (flock), which vanish with the process that holds them. ``.claims`` is held
for the moment in which somebody reads and changes what is wanted. ``.running`` is held by the run
that is working: the one who starts it takes the lock and hands it down to the new process, so that
there is no moment in which two could be started, and none in which a killed one blocks the queue.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from core import files, locks
from core.errors import CascadeError
from core.process import Process
from core.settings import ROOT
from training.jobs.record import Job, Record, State

LOCK_VARIABLE = "BONE_RUN_LOCK"
MODULE = "training.jobs.work"
GONE_SECONDS = 3.0


class JobRefused(CascadeError):
    """What was asked of a run cannot be done; the message says why."""


class Queue:
    """The runs of one folder (``BONE_HOME/runs``)."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs

    def records(self) -> list[Record]:
        """All runs, the newest first."""
        if not self.runs.is_dir():
            return []
        found = [Record.read(p) for p in self.runs.iterdir() if p.is_dir()]
        known = [r for r in found if r is not None]
        return sorted(known, key=lambda r: r.job.created, reverse=True)

    def record(self, run: str) -> Record:
        """Raises JobRefused where there is no such run."""
        folder = self.runs / run
        found = Record.read(folder) if folder.parent == self.runs else None
        if found is None:
            raise JobRefused("There is no such run.")
        return found

    def submit(self, name: str, settings: dict[str, Any], note: str = "", by: str = "") -> str:
        """Put a run into the queue and start it if none is running; returns its id.

        The same settings as those of a run that waits or runs are that run: a second click, or a
        second session, gets its id and starts nothing.
        """
        if not name.strip():
            raise JobRefused("Please give the run a name.")
        job = Job(name.strip(), settings, note.strip(), by, queued=time.time())
        with self._claims():
            for other in self.records():
                if other.state.active and other.job.digest == job.digest:
                    return other.id
            folder = self._new_folder(job)
            job.write(folder)
        self.advance()
        return folder.name

    def resume(self, run: str) -> None:
        """Let a run go on from its checkpoint."""
        with self._claims():
            record = self.record(run)
            if record.state.active:
                return
            if record.state is State.FINISHED:
                raise JobRefused("This run has finished; there is nothing to resume.")
            self._enqueue(record, record.job.task)
        self.advance()

    def evaluate(self, run: str, split: str) -> None:
        """Calibrate a run that has finished, where that is still to do, and score it."""
        with self._claims():
            record = self.record(run)
            if record.state.active:
                return
            if not record.fitted:
                raise JobRefused("Only a run that has finished its training can be evaluated.")
            self._enqueue(record, f"evaluate:{split}")
        self.advance()

    def _enqueue(self, record: Record, task: str) -> None:
        job = replace(record.job, task=task, wanted="run", queued=time.time())
        job.write(record.folder)

    def pause(self, run: str) -> None:
        """Ask a run to save its state and stop; one that waits leaves the queue."""
        with self._claims():
            record = self.record(run)
            if not record.state.active:
                return
            replace(record.job, wanted="pause", queued=0.0).write(record.folder)
            if record.alive and record.process is not None:
                with suppress(ProcessLookupError):
                    os.kill(record.process.pid, signal.SIGTERM)

    def cancel(self, run: str) -> None:
        """End a run at once; what its last checkpoint holds is kept."""
        with self._claims():
            record = self.record(run)
            if record.state in (State.FINISHED, State.FAILED):
                return
            replace(record.job, wanted="cancel", queued=0.0).write(record.folder)
            if record.alive and record.process is not None:
                with suppress(ProcessLookupError):
                    os.killpg(record.process.pid, signal.SIGKILL)
                _await_end(record.process)
        self.advance()

    def rename(self, run: str, name: str, note: str) -> None:
        """Give a run another name and note."""
        if not name.strip():
            raise JobRefused("Please give the run a name.")
        with self._claims():
            record = self.record(run)
            replace(record.job, name=name.strip(), note=note.strip()).write(record.folder)

    def advance(self, held: int | None = None) -> str | None:
        """Start the run that waits longest, unless one is running; returns its id.

        held: the lock, where the caller is the run that is just ending.
        """
        with self._claims():
            waiting = [r for r in self.records() if r.state is State.QUEUED]
            if not waiting:
                return None
            lock = held if held is not None else self._try_lock()
            if lock is None:
                return None
            first = min(waiting, key=lambda r: r.job.queued)
            try:
                self._start(first, lock)
            finally:
                if held is None:
                    os.close(lock)  # the process has its own
            return first.id

    def started(self, folder: Path) -> Job:
        """Called by the process of a run: it is the one that works on it now."""
        with self._claims():
            Process.of(os.getpid()).write(folder)
            record = self.record(folder.name)
            job = replace(record.job, queued=0.0)
            if record.job.queued:
                job.write(folder)
            return job

    def _start(self, record: Record, lock: int) -> None:
        """Start the process of a run. What the last one said of its end is forgotten first."""
        folder = record.folder
        kept: dict[str, Any] = {
            k: record.status[k] for k in ("phase", "progress", "seen") if k in record.status
        }
        status = {**kept, "state": "running", "heartbeat": time.time()}
        files.write_json(folder / "status.json", status)
        environment = os.environ | {LOCK_VARIABLE: str(lock), "TQDM_DISABLE": "1"}
        with (folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", MODULE, str(folder.resolve())],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(lock,),
            )
        Process.of(process.pid).write(folder)
        replace(record.job, queued=0.0).write(folder)
        threading.Thread(target=self._follow, args=(process,), daemon=True).start()

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for a process, so that it does not stay as a zombie; then go on with the queue."""
        process.wait()
        self.advance()

    def _new_folder(self, job: Job) -> Path:
        slug = re.sub(r"[^a-z0-9]+", "-", job.name.lower()).strip("-")[:40] or "run"
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(job.created))
        for n in range(1, 1000):
            folder = self.runs / f"{stamp}-{slug}{'' if n == 1 else f'-{n}'}"
            with suppress(FileExistsError):
                folder.mkdir(parents=True)
                return folder
        raise JobRefused("There are too many runs of this name.")

    def _claims(self) -> AbstractContextManager[None]:
        return locks.held(self.runs / ".claims")

    def _try_lock(self) -> int | None:
        """The descriptor of ``.running``, locked; None while a run has it."""
        lock = os.open(self.runs / ".running", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locks.take(lock)
        except OSError:
            os.close(lock)
            return None
        return lock


def _await_end(process: Process) -> None:
    """Until a process that was killed has gone."""
    end = time.monotonic() + GONE_SECONDS
    while process.alive and time.monotonic() < end:
        time.sleep(0.02)
