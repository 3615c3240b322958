"""A Python that has torch in it already, for processes that tests start and that are themselves.

To load torch and what stands on it takes a process some seconds, and the tests start dozens. Here
one process loads it once and makes a copy of itself (fork) for each that is started: a process
with its own number, environment, files, signals and end. Its parent is another one, so whoever
starts it has a small stand-in as its child, which passes signals on and ends as it does.

The real run of ``tests/test_jobs.py``, the listener of ``tests/test_faults_of_folders.py`` and
``make stress`` are started without this.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.settings import ROOT
from tests.waiting import eventually

LOADED = ("core.pacs.service", "core.batch.run", "training.fit", "training.jobs.work")
LENGTH, MANY, HIGH = struct.Struct("q"), 64, 200
STAND_IN = """#!{python} -ISE
import json, os, signal, socket, sys

arguments = [a for a in sys.argv[1:2] if a != "-u"] + sys.argv[2:]
if arguments[:1] not in (["-m"], ["-c"]):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
there = socket.socket(socket.AF_UNIX)
there.connect({path!r})
files = []
for name in os.listdir("/proc/self/fd"):
    if int(name) != there.fileno():
        try:
            os.fstat(int(name))
        except OSError:  # the one of the listing
            continue
        files.append(int(name))
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda n, _: there.send(bytes([n])))
job = {{"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd(),
       "files": files, "leads": os.getsid(0) == os.getpid(), "executable": sys.argv[0],
       "unbuffered": sys.argv[1:2] == ["-u"]}}
said = json.dumps(job).encode()
socket.send_fds(there, [len(said).to_bytes(8, sys.byteorder)], files)
there.sendall(said)
for file in files:
    os.close(file)
code = int(there.recv(16) or 1)
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@dataclass
class Job:
    """What a process is to be: like the stand-in that asked for it. files: of both, by number."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    files: dict[int, int]
    leads: bool
    executable: str
    unbuffered: bool

    @classmethod
    def read(cls, there: socket.socket) -> Job | None:
        """None for a lease, which asks for nothing and is held as long as somebody may ask."""
        head, files, _, _ = socket.recv_fds(there, LENGTH.size, MANY)
        (length,) = LENGTH.unpack(head)
        said = b""
        while len(said) < length:
            said += there.recv(length - len(said))
        if not said:
            return None
        found: dict[str, Any] = json.loads(said)
        return cls(**found | {"files": dict(zip(found["files"], files, strict=True))})

    def run(self) -> None:
        """Become that process. Its end is the end of this one."""
        if self.leads:
            os.setsid()
        kept = {n: fcntl.fcntl(file, fcntl.F_DUPFD, HIGH) for n, file in self.files.items()}
        for file in self.files.values():
            os.close(file)
        for number, file in kept.items():
            os.dup2(file, number, inheritable=True)
            os.close(file)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        path = [p for p in self.environment.get("PYTHONPATH", "").split(os.pathsep) if p]
        sys.path[:] = ["", *path, *sys.path[1:]]
        sys.executable = self.executable
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(write_through=self.unbuffered)
        kind, what, *rest = self.arguments
        sys.argv[:] = [kind, *rest]
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


class Server:
    """Waits for stand-ins; ends when the last lease and the last process are gone."""

    def __init__(self, path: str) -> None:
        self.asked = socket.socket(socket.AF_UNIX)
        self.asked.bind(path)
        self.asked.listen(MANY)
        self.ended, wake = socket.socketpair()
        for one in (self.ended, wake):
            one.setblocking(False)
        self.wake = wake
        self.leases: set[socket.socket] = set()
        self.pids: dict[socket.socket, int] = {}
        self.open: Any = selectors.DefaultSelector()
        for one in (self.asked, self.ended):
            self.open.register(one, selectors.EVENT_READ)

    def serve(self) -> Job | None:
        """A job in the copy that is to do it; None in the server, when it ends."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake.fileno())
        first = True
        while first or self.leases or self.pids:
            # Who asks comes last: what was killed before has ended when another one starts.
            ready = [key.fileobj for key, _ in self.open.select()]
            for one in sorted(ready, key=lambda one: one is self.asked):
                if one is self.asked:
                    first = False
                    if job := self._answer():
                        return job
                elif one is self.ended:
                    self._bury()
                else:
                    self._hear(one)
        return None

    def _answer(self) -> Job | None:
        there, _ = self.asked.accept()
        job = Job.read(there)
        if job is None:
            self.leases.add(there)
        elif pid := os.fork():
            self.pids[there] = pid
            for file in job.files.values():
                os.close(file)
        else:
            self._forget()
            there.close()
            return job
        self.open.register(there, selectors.EVENT_READ)
        return None

    def _forget(self) -> None:
        """In a copy: nothing of the server's is left."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.open.close()
        for one in (self.asked, self.ended, self.wake, *self.leases, *self.pids):
            one.close()

    def _hear(self, there: socket.socket) -> None:
        """Signals for a process; where its stand-in is gone, it was killed."""
        said = b""
        with suppress(OSError):
            said = there.recv(MANY)
        pid = self.pids.get(there)
        if pid is not None:
            for number in said or [signal.SIGKILL]:
                os.kill(pid, number)
            if not said:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        if not said:
            self.open.unregister(there)
            self.leases.discard(there)
            if pid is None:
                there.close()

    def _bury(self) -> None:
        """Tell the stand-ins of those that ended how they did."""
        with suppress(BlockingIOError):
            self.ended.recv(MANY)
        for there, pid in list(self.pids.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if not found:
                continue
            del self.pids[there]
            with suppress(KeyError):
                self.open.unregister(there)
            with suppress(OSError):
                there.send(str(os.waitstatus_to_exitcode(status)).encode())
            there.close()


@contextmanager
def python(shared: Path) -> Iterator[Path]:
    """The executable to start such processes with. shared: a folder of all who run the tests."""
    if not Path("/proc/self/fd").exists():
        yield Path(sys.executable)
        return
    with (shared / "warm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        named = shared / "warm"
        lease = _lease(named)
        if lease is None:
            # The path of a socket is short, that of a test's folder need not be.
            folder = Path(tempfile.mkdtemp(prefix="bone-warm-"))
            _write(folder)
            named.write_text(str(folder))
            server = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", str(folder / "socket")],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            server.returncode = 0  # it outlives us where others hold a lease
            lease = eventually(lambda: _lease(named))
    try:
        yield Path(named.read_text()) / "python"
    finally:
        lease.close()


def _lease(named: Path) -> socket.socket | None:
    """From the server that is there; None if there is none."""
    if not named.exists():
        return None
    there = socket.socket(socket.AF_UNIX)
    try:
        there.connect(str(Path(named.read_text()) / "socket"))
        there.sendall(LENGTH.pack(0))
    except OSError:
        there.close()
        return None
    return there


def _write(folder: Path) -> None:
    python = folder / "python"
    python.write_text(STAND_IN.format(python=sys.executable, path=str(folder / "socket")))
    python.chmod(0o755)


def main(path: str) -> Job | None:
    for name in LOADED:
        importlib.import_module(name)
    gc.freeze()  # or each copy would touch, and so copy, all that is loaded
    job = Server(path).serve()
    if job is None:
        for file in Path(path).parent.iterdir():
            file.unlink()
        Path(path).parent.rmdir()
    return job


if __name__ == "__main__":
    if (wanted := main(*sys.argv[1:])) is not None:
        wanted.run()
