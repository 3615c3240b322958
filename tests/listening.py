"""Starts ``python -m core listen`` and what it talks to, on free loopback ports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from core.pacs.outbox import Outbox, Send, Tell
from tests.simulated import dicom, phantom

ROOT = Path(__file__).parent.parent


def sent(outbox: Outbox, send: Send, tell: Tell = lambda *_: None) -> int:
    """Try what is due, one destination after the other; how many objects arrived."""
    return sum(outbox.send(to, due, send, tell) for to, due in outbox.due().items())


class Listening:
    """A running listener; its standard error is ``log``."""

    def __init__(
        self,
        weights: Path,
        home: Path,
        *options: str,
        through: Callable[[list[str]], list[str]] = list,
    ) -> None:
        """through: makes of the command the one that is run, to run it as somebody else."""
        home.mkdir(parents=True, exist_ok=True)
        self.log = home / "listen.log"
        command = [sys.executable, "-m", "core", "--weights", str(weights), "listen"]
        command += ["--quiet", "1", "--reserve", "1", "--device", "cpu", *options]
        if "--folder" not in options and "--port" not in options:
            command += ["--port", "0"]
        environment = {**os.environ, "BONE_HOME": str(home), "OMP_NUM_THREADS": "1"}
        environment.pop("DATABASE_URL", None)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                through(command),
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout
        self.said = self.process.stdout.readline()
        if not self.said:  # it ended
            self.process.wait(120)
            self.process.stdout.close()
        assert self.said, self.log.read_text()
        self.port = int(self.said.rpartition(":")[2]) if ":" in self.said else 0

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(120)
        assert self.process.stdout
        self.process.stdout.close()
        return code


@contextmanager
def listening(weights: Path, home: Path, *options: str) -> Iterator[Listening]:
    running = Listening(weights, home, *options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            assert running.stop() == 0, running.log.read_text()


def studies(folder: Path, count: int, views: int = 1, **attributes: Any) -> list[Path]:
    """A folder a study, of small radiographs that are all different."""
    made = []
    for number in range(1, count + 1):
        study = folder / f"study{number}"
        study.mkdir(parents=True)
        for view in range(1, views + 1):
            grey = phantom(64, 56, bits=12, seed=100 * number + view).astype(np.uint16)
            uid = f"1.2.826.0.1.3680043.10.{number}"
            header = {
                "BitsStored": 12,
                "StudyInstanceUID": uid,
                "SeriesInstanceUID": f"{uid}.1",
                "SOPInstanceUID": f"{uid}.1.{view}",
                "PatientID": f"P{number}",
            }
            (study / f"{view}.dcm").write_bytes(dicom(grey, **{**header, **attributes}))
        made.append(study)
    return made


def storescu(
    port: int, *paths: Path, calling: str = "ROUTER", options: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """dcmtk's sender, started."""
    command = [
        "storescu",
        "-v",
        *options,
        "-aet",
        calling,
        "-aec",
        "BONE",
        "--scan-directories",
        "--recurse",
    ]
    return subprocess.Popen(
        [*command, "127.0.0.1", str(port), *map(str, paths)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
