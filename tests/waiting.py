"""Waiting for what another process, thread or page will do, instead of looking once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 120.0  # seconds; no claim of speed, only the end of hope on a machine that is busy


def eventually(
    check: Callable[[], Any],
    seconds: float = PATIENCE,
    pause: Callable[[float], object] = time.sleep,
) -> Any:
    """The first true value of ``check``; an AssertionError in it counts as not yet.

    pause: waits a number of seconds. Raises the last AssertionError when the time is over.
    """
    end = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        try:
            found = check()
            if found:
                return found
            failure = AssertionError(f"It was not so within {seconds:.0f} s: {found!r}")
        except AssertionError as error:
            failure = error
        now = time.monotonic()
        if now > end:
            raise failure
        pause(max(0.05, 2 * (now - began)))  # what is waited for needs the processor more
