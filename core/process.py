"""Which process works on a run or a batch, told apart from a later one that got the same number."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from core import files

FILE = "process.json"


@dataclass(frozen=True)
class Process:
    """A process of this machine. started: boot and clock tick it began at; empty if it had gone."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process:
        return cls(pid, _started(pid))

    @classmethod
    def read(cls, folder: Path) -> Process | None:
        """The one that ``folder/process.json`` names."""
        try:
            return cls(**json.loads((folder / FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        files.write_json(folder / FILE, asdict(self))

    @property
    def alive(self) -> bool:
        """Whether it still runs; one that ended and was not waited for does not."""
        if Path("/proc/self/stat").exists():
            return self.started != "" and _started(self.pid) == self.started
        if os.name == "nt":
            return _runs_on_windows(self.pid)
        try:
            os.kill(self.pid, 0)
        except OSError:
            return False
        return True


def _runs_on_windows(pid: int) -> bool:
    """By a handle of the process: ``os.kill`` with 0 would send Ctrl-C there."""
    import ctypes

    limited_information, still_active, code = 0x1000, 259, ctypes.c_ulong()
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    handle = kernel.OpenProcess(limited_information, False, pid)
    found = bool(handle) and bool(kernel.GetExitCodeProcess(handle, ctypes.byref(code)))
    if handle:
        kernel.CloseHandle(handle)
    return found and code.value == still_active


def _started(pid: int) -> str:
    """Boot and tick, from Linux's /proc; empty for a process that has gone, and elsewhere.

    In ``/proc/PID/stat`` the name stands in brackets and may hold anything; behind it the first
    field is the state and the twentieth the start (proc(5)).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" and not _has_threads(pid) else f"{boot} {fields[19]}"


def _has_threads(pid: int) -> bool:
    """Whether a process whose first thread has ended has others: killed, they end one by one, and
    until the last one has, the process holds its files and their locks."""
    try:
        stats = [task / "stat" for task in Path(f"/proc/{pid}/task").iterdir()]
        states = [one.read_text().rpartition(")")[2].split()[0] for one in stats]
    except OSError:  # one has ended since
        return True
    return any(state not in "ZX" for state in states)
