"""Locks on files, between processes: the system frees them however a process ends."""

from __future__ import annotations

import sys
from typing import IO, Any


def take(file: IO[Any] | int, wait: bool = False) -> None:
    """Lock an open file for this process alone; raises OSError where another one has it.

    wait: until it is free, instead. Windows has no lock without an end to waiting: there ten
    seconds are tried.
    """
    number = file if isinstance(file, int) else file.fileno()
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(number, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(number, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
