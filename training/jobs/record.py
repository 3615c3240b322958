"""What is known of one run, read from its folder."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from core import files
from core.process import Process
from training import phases

FILE = "job.json"
SILENT_SECONDS = 120.0


class State(StrEnum):
    """What a run is doing. interrupted: its process ended without a word."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    FINISHED = "finished"

    @property
    def active(self) -> bool:
        """Whether something happens or will happen by itself."""
        return self in (State.QUEUED, State.RUNNING, State.PAUSING)


@dataclass(frozen=True)
class Job:
    """What is wanted of a run. settings: of ``training.fit.Settings``, without ``out``.

    task: "fit", or "evaluate:val" and "evaluate:test" of a run that has finished. wanted: "run",
    "pause" or "cancel". queued: since when it waits (seconds since 1970), 0 where it does not.
    """

    name: str
    settings: dict[str, Any]
    note: str = ""
    by: str = ""
    created: float = field(default_factory=time.time)
    task: str = "fit"
    wanted: str = "run"
    queued: float = 0.0

    @classmethod
    def read(cls, folder: Path) -> Job | None:
        try:
            return cls(**json.loads((folder / FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        files.write_json(folder / FILE, asdict(self))

    @property
    def digest(self) -> str:
        """The same for two runs that would do the same."""
        text = json.dumps([self.task, self.settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Record:
    """A run: what was wanted, what it said last (``training.status``), and what is the case."""

    folder: Path
    job: Job
    status: dict[str, Any]
    process: Process | None
    alive: bool

    @classmethod
    def read(cls, folder: Path) -> Record | None:
        """None where the folder is no run of the queue.

        What is wanted is written before anything is done to the process, so it is read again at the
        end: a run that was cancelled in between would else look interrupted.
        """
        job = Job.read(folder)
        while job is not None:
            # first the process, then what it said: so a word said before it ended is never missed
            process = Process.read(folder)
            alive = process is not None and process.alive
            record = cls(folder, job, _status(folder), process, alive)
            again = Job.read(folder)
            if again == job:
                return record
            job = again
        return None

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def state(self) -> State:
        """The truth, whatever was killed when."""
        if self.job.queued:
            return State.QUEUED
        said = self.status.get("state")
        if said in ("finished", "failed"):
            return State(said)
        if self.job.wanted == "cancel":
            return State.CANCELLED
        if self.job.wanted == "pause":
            return State.PAUSING if self.alive and said != "paused" else State.PAUSED
        if self.alive:
            return State.RUNNING
        return State.PAUSED if said == "paused" else State.INTERRUPTED

    @property
    def passes(self) -> int:
        """Pictures that all phases together will see, if none ends early."""
        return sum(phases.passes(self.job.settings).values())

    @property
    def seen(self) -> int:
        """Pictures seen so far in all phases."""
        if self.fitted:
            return self.passes
        before = 0
        for name, passes in phases.passes(self.job.settings).items():
            if name == self.status.get("phase"):
                return before + int(self.status.get("seen", 0))
            before += passes
        return 0

    @property
    def fitted(self) -> bool:
        """Whether its networks are there."""
        return (self.folder / "networks.pt").exists()

    @property
    def silent(self) -> float:
        """Seconds since a running process last said something, 0 where that is usual."""
        since = time.time() - float(self.status.get("heartbeat", time.time()))
        return since if self.alive and since > SILENT_SECONDS else 0.0

    def sentence(self) -> str:
        """What is the case, for a reader."""
        what = "Evaluation" if self.job.task != "fit" else "Training"
        n = f"{self.seen:,} of {self.passes:,} pictures"
        phase = str(self.status.get("phase", "")).replace("_", " ")
        return {
            State.QUEUED: f"{what} waits in the queue.",
            State.RUNNING: f"{what} runs{f', {phase}' if phase else ''}.",
            State.PAUSING: "Pausing: it stops after this step, or once the pictures are read.",
            State.PAUSED: f"Paused after {n}.",
            State.CANCELLED: f"Cancelled after {n}; it can be resumed from its last checkpoint.",
            State.INTERRUPTED: f"{what} was interrupted after {n}, as its process ended. It can be "
            "resumed from its last checkpoint.",
            State.FAILED: str(self.status.get("reason", "It failed; see the log.")),
            State.FINISHED: f"{what} finished.",
        }[self.state]


def _status(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def log_tail(folder: Path) -> str:
    """The last 40 lines of the run's log; of a long one only the end is read."""
    try:
        with (folder / "log.txt").open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 20_000))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.replace("\r", "\n").splitlines()[-40:])
