"""What a cascade does when its graphics processor fails: half the batch, then the CPU.

A card is shared with other programs and can be out of memory at any moment, or fall off the bus.
Neither is a reason to leave a reader without an answer: the same pictures are assessed again, by
smaller passes or by the CPU. A batch that shrank stays small, and the CPU stays, until the program
is started again: an answer must not change with every picture.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, Protocol, Self, TypeVar

import torch

log = logging.getLogger(__name__)

SMALLER = "The graphics processor is short of memory, so it takes fewer pictures at a time."
ON_CPU = "The graphics processor failed, so the CPU does its work, more slowly."


class Recoverable(Protocol):
    """What can shrink. smaller: the same with passes of half the size; None where it is one."""

    def smaller(self) -> Self | None: ...


class NoNumber(RuntimeError):
    """A network gave what is no finite number: where it ran is not to be trusted."""


def out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError)


def failed(error: RuntimeError) -> bool:
    """Whether it may be the processor's fault: no memory, an error after which nothing works on it
    in this process, or an answer that is no number."""
    broken = isinstance(error, (torch.AcceleratorError, NoNumber)) or "CUDA error" in str(error)
    return broken or out_of_memory(error)


Asked = TypeVar("Asked", bound=Recoverable)
Answer = TypeVar("Answer")


class Recovery(Generic[Asked]):
    """Asks ``first``, and what is left of it when it fails. Thread-safe.

    elsewhere: makes the same on the CPU; called once, and only after a failure.
    """

    def __init__(self, first: Asked, elsewhere: Callable[[], Asked]) -> None:
        self.current = first
        self.trouble = ""  # one sentence for the reader; empty while all is well
        self._elsewhere = elsewhere
        self._lock = threading.Lock()

    def ask(self, question: Callable[[Asked], Answer]) -> Answer:
        """The answer of whichever can give one; other errors pass through."""
        while True:
            asked = self.current
            try:
                return question(asked)
            except RuntimeError as error:
                if not failed(error):
                    raise
                self._step_back(asked, error)

    def _step_back(self, failed: Asked, error: RuntimeError) -> None:
        """Put something smaller in the place of what failed; raises ``error`` if there is none."""
        with self._lock:
            if self.current is not failed:
                return  # another thread did it meanwhile
            if self.trouble == ON_CPU:
                raise error
            log.warning("The graphics processor failed.", exc_info=error)
            smaller = failed.smaller() if out_of_memory(error) else None
            if smaller is not None:
                self.current, self.trouble = smaller, SMALLER
            else:
                self.current, self.trouble = self._elsewhere(), ON_CPU
