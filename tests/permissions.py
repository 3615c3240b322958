"""Folders that refuse, also the tests of root, whom permissions do not hold up by themselves.

Root is let through by two capabilities (capabilities(7)). A thread may lay them down and take them
up again, and a command may be started without them, so that no other user is needed, who might not
even be allowed to read the interpreter.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.waiting import eventually

_OVERRIDE = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_VERSION_3 = 0x20080522


@contextmanager
def not_permitted(folder: Path, left: int = 0o555) -> Iterator[None]:
    """Nothing in ``folder``, or below it, may be made, changed or removed by this thread.

    left: what may still be done; 0 leaves nothing, and a file may be given as well.
    """
    below = [p for p in folder.rglob("*") if not p.is_symlink()] if left else []
    modes = {path: path.stat().st_mode & 0o7777 for path in (*below, folder)}
    for path, mode in modes.items():
        path.chmod(mode & left)
    try:
        with _without_override():
            yield
    finally:
        for path, mode in reversed(modes.items()):
            path.chmod(mode)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """``folder`` is a file system that may only be read, where this process may mount one."""
    _mount("--bind", str(folder), str(folder))
    try:
        _mount("-o", "remount,ro,bind", str(folder))
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def held_up(command: list[str]) -> list[str]:
    """The command, run by somebody whom permissions hold up."""
    if os.geteuid() != 0:
        return command
    whole = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *command]
    found = shutil.which("setpriv")
    if not found or subprocess.run([*whole[:3], "true"], check=False).returncode:
        pytest.skip("Root passes over permissions, and setpriv cannot take that away here.")
    return whole


def _mount(*options: str) -> None:
    def done() -> subprocess.CompletedProcess[bytes] | None:
        """None where somebody writes there at this moment."""
        found = subprocess.run(["mount", *options], check=False, capture_output=True)
        return None if b"busy" in found.stderr else found

    if eventually(done).returncode:
        pytest.skip("This process may not mount a file system.")


@contextmanager
def _without_override() -> Iterator[None]:
    """This thread, and those it starts, are held up by permissions."""
    if os.geteuid() != 0:
        yield
        return
    header, before = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "capset") or libc.capget(header, before):
        pytest.skip("Root passes over permissions, and cannot lay that down here.")
    without = (ctypes.c_uint32 * 6)(*before)
    without[0] &= ~_OVERRIDE  # of what is in effect; what is permitted stays, to take it up again
    assert libc.capset(header, without) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0
