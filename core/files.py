"""Writes that survive a crash: temporary file, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


FULL_BYTES = 2**20
STILL_WRITTEN = 3600.0  # seconds after the last write to a temporary file


def make_private(folder: Path) -> None:
    """Make a folder that this user alone enters, or take others' way into one that is there.

    What another user owns, or everybody writes to (as /tmp), stays as it is. Raises OSError where
    the folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    others, shared = status.st_mode & 0o077, status.st_mode & stat.S_ISVTX
    if os.name == "posix" and status.st_uid == os.geteuid() and others and not shared:
        with contextlib.suppress(OSError):  # of a file system that may only be read
            folder.chmod(status.st_mode & 0o700)


def write_atomically(path: Path, write: Callable[[Path], object], private: bool = False) -> None:
    """Let ``write`` fill a temporary file beside ``path``, sync it, and rename it to ``path``.

    The file gets the mode that ``open`` would have given it; private: that of a temporary, which
    this user alone reads.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:  # named by what was to be written, not by the temporary
        raise OSError(error.errno, error.strerror, str(path)) from error
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        if not private:
            with contextlib.suppress(PermissionError):  # of a file system without modes, as CIFS
                temporary.chmod(0o666 & ~_umask())
        with temporary.open("r+b") as file:  # Windows syncs nothing that cannot be written
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    """The mask of this process; Linux tells it without changing it for the other threads."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"^Umask:\s*([0-7]+)", status.read_text(), re.MULTILINE)
        if found:
            return int(found[1], 8)
    return 0o022


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, lambda p: p.write_text(json.dumps(value, indent=1) + "\n"))


def save_checkpoint(path: Path, state: dict[str, Any] | dict[str, Tensor]) -> None:
    """``torch.save`` that survives a crash; raises OSError where the disk is full."""
    import torch

    def save(temporary: Path) -> None:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch says of a failed write only that it failed
            if shutil.disk_usage(temporary.parent).free < FULL_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
            raise

    write_atomically(path, save)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of writes that a crash cut short; nobody else may be writing."""
    for path in folder.glob(".*.????????"):
        path.unlink()


def remove_old_leftovers(home: Path) -> int:
    """Delete what crashes left anywhere below ``home``, but not what may still be written.

    Returns how many there were.
    """
    count, before = 0, time.time() - STILL_WRITTEN
    for path in home.rglob(".*.????????"):
        try:
            if path.is_file() and not path.is_symlink() and path.stat().st_mtime < before:
                path.unlink()
                count += 1
        except FileNotFoundError:  # another process was faster
            continue
    return count


def append_event(path: Path, event: dict[str, Any]) -> None:
    """Append one line of JSON; a line that a crash cut short is dropped by the reader."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))  # not all of it: it may be a list that is kept for ever
        ended = file.read() in (b"", b"\n")
        file.write(b"" if ended else b"\n")
        file.write(json.dumps(event).encode() + b"\n")
