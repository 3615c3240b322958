"""Locks on files, between processes: the system frees them however a process ends."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

# What a system says where another one has the lock, and where the file system has no locks.
TAKEN = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
NONE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


def take(file: IO[Any] | int, wait: bool = False) -> None:
    """Lock an open file for this process alone; raises OSError.

    wait: until it is free, instead.
    """
    number = file if isinstance(file, int) else file.fileno()
    if sys.platform == "win32":
        import msvcrt

        while True:
            try:
                msvcrt.locking(number, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
                return
            except OSError as error:  # Windows gives up waiting after ten seconds
                if not wait or error.errno != errno.EDEADLK:
                    raise
    else:
        import fcntl

        fcntl.flock(number, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Wait until nobody else holds ``path``, and hold it. The file stays: who waits has it open."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        take(file, wait=True)
        yield
