"""How long something takes this thread, on a machine that may be busy with something else."""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time


def quickest(call: Callable[[], object]) -> float:
    """Seconds of the processor that the quickest of three calls takes."""
    seconds = []
    for _ in range(3):
        start = thread_time()
        call()
        seconds.append(thread_time() - start)
    return min(seconds)
