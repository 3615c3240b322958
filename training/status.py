"""What a run says of itself while it trains: ``status.json``, written every few seconds."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from pathlib import Path
from typing import Any

from core import files

log = logging.getLogger(__name__)
BEAT_SECONDS = 2.0
NO_SPACE = "There is no space left on the disk; what was saved before is kept."


class Stopped(Exception):
    """The run was asked to pause; its checkpoint holds everything."""


class Status:
    """The writer of one run's ``status.json``.

    state: running, paused, finished or failed. phase, progress: of the phase in [0, 1]. seen:
    pictures of this phase. loss: mean since the last beat. rate: learning rate. speed: pictures a
    second. memory: the most that the process has held, in MB. reason: why it failed, one sentence.
    heartbeat: seconds since 1970.
    """

    def __init__(self, folder: Path, writes: bool = True) -> None:
        """writes: whether this is the process that writes."""
        self._path, self._writes = folder / "status.json", writes
        self._began = self._last = time.monotonic()
        self._losses: list[float] = []
        self._seen = 0
        self._phase = ""
        self._known: dict[str, float] = {}

    def step(self, phase: str, seen: int, passes: int, loss: float, rate: float) -> None:
        """One step was taken; writes where the last beat was ``BEAT_SECONDS`` ago."""
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._seen, self._began, self._losses = phase, seen, now, []
            self._known = {}
            return  # the first step of a phase also warms up
        self._losses.append(loss)
        if now - self._last < BEAT_SECONDS:
            return
        speed = (seen - self._seen) / max(now - self._began, 1e-9)
        mean = math.fsum(self._losses) / len(self._losses)
        self._known = {"loss": mean, "rate": rate, "speed": speed}
        self.write("running", seen / passes, phase, seen=seen)
        self._seen, self._began, self._losses = seen, now, []

    def write(self, state: str, progress: float, phase: str = "", **more: Any) -> None:
        """Replace ``status.json``."""
        self._last = time.monotonic()
        if not self._writes:
            return
        value = {"state": state, "phase": phase, "progress": round(progress, 4)}
        value |= {"heartbeat": time.time(), "memory": memory(), **self._known, **more}
        files.write_json(self._path, value)


def fail(folder: Path, reason: str, **more: Any) -> None:
    """Write that the run failed and why, also where no file can be made.

    A new file needs space, and permission for its folder; the one that is there already has both,
    so it is overwritten in place. Where not even that can be, the run ends without a word, and is
    shown as interrupted.
    """
    value = {"state": "failed", "reason": reason, "heartbeat": time.time(), **more}
    path = folder / "status.json"
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        value = {k: before[k] for k in ("phase", "progress", "seen") if k in before} | value
    except (OSError, ValueError):
        pass
    try:
        files.write_json(path, value)
    except OSError:
        try:
            with path.open("r+", encoding="utf-8") as file:
                file.write(json.dumps(value))
                file.truncate()
        except OSError:
            log.exception("The run cannot say why it failed.")


def memory() -> int:
    """The most memory that this process has held, in MB; 0 where the system does not say."""
    try:
        import resource  # of POSIX systems
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))
