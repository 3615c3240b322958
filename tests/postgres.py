"""A real PostgreSQL server in a temporary folder, on a free loopback port, not run by root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.ports import free_port
from tests.waiting import eventually

BINARIES = Path("/usr/lib/postgresql")
USER = "postgres"  # PostgreSQL refuses to be run by root; Debian's package has this user
PREFIX = "bone-postgres-"
DAY = 24 * 3600.0


def binaries() -> Path | None:
    """The folder of the newest server that is installed; None if there is none."""
    found = sorted(BINARIES.glob("*/bin/postgres"), key=lambda p: int(p.parent.parent.name))
    return found[-1].parent if found else None


@contextmanager
def server() -> Iterator[str]:
    """The URL of a running server, without the name of a database; gone afterwards."""
    programs = binaries()
    assert programs is not None
    _clear()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    lowered = []
    if os.geteuid() == 0:
        user = pwd.getpwnam(USER)
        os.chown(folder, user.pw_uid, user.pw_gid)
        lowered = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    data = folder / "data"
    initdb = [programs / "initdb", "-D", data, "-U", "bone", "-A", "trust", "--no-sync", "-N"]
    options = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    port = free_port()
    try:
        subprocess.run([*lowered, *map(str, initdb)], check=True, **options)
        words = ["-D", data, "-h", "127.0.0.1", "-p", port, "-k", folder, "-F"]
        process = subprocess.Popen([*lowered, programs / "postgres", *map(str, words)], **options)
        try:
            _await(port, process)
            yield f"postgresql://bone@127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: nobody needs what it holds
            process.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clear() -> None:
    """Remove what servers of tests that were killed more than a day ago have left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(FileNotFoundError):  # other tests clear as well
            if time.time() - folder.stat().st_mtime > DAY:
                shutil.rmtree(folder, ignore_errors=True)


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    import psycopg

    def answers() -> bool:
        if process.poll() is not None:
            raise RuntimeError("PostgreSQL did not start.")
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="bone", dbname="postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    eventually(answers)
