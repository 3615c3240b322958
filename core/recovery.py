"""What a cascade does when its graphics processor fails: half the batch, then the CPU.

A card is shared with other programs and can be out of memory at any moment, or fall off the bus.
Neither is a reason to leave a reader without an answer: the same pictures are assessed again, by
smaller passes or by the CPU. A batch that shrank stays small, and the CPU stays, until the program
is started again: an answer must not change with every picture. For what the CPU gives no number
either, it is the picture and not the card.
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
    """A network gave what is no finite number: it is the picture, or where it ran."""


def out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError)


def failed(error: RuntimeError) -> bool:
    """Whether it is the processor's fault: no memory, or an error after which nothing works on it
    in this process."""
    broken = isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error)
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
        self._on_cpu: Asked | None = None
        self._lock = threading.Lock()

    def ask(self, question: Callable[[Asked], Answer], several: bool = False) -> Answer:
        """The answer of whichever can give one; other errors pass through.

        several: it is of more than one picture, each of which can be asked for again alone. Then
        NoNumber passes through, too, and the CPU is spared all but the one that it is about.
        """
        while True:
            asked = self.current
            try:
                return question(asked)
            except NoNumber as error:
                if several or asked is self._on_cpu:
                    raise
                return self._second_opinion(question, error)
            except RuntimeError as error:
                if not failed(error):
                    raise
                self._step_back(asked, error)

    def _second_opinion(self, question: Callable[[Asked], Answer], error: NoNumber) -> Answer:
        """The CPU's answer; where it has one, the card is not to be trusted any more."""
        with self._lock:
            other = self._made()
        answer = question(other)
        with self._lock:
            if self.current is not other:
                log.warning("The graphics processor failed.", exc_info=error)
                self.current, self.trouble = other, ON_CPU
        return answer

    def _made(self) -> Asked:
        """The same on the CPU, under the lock."""
        if self._on_cpu is None:
            self._on_cpu = self._elsewhere()
        return self._on_cpu

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
                self.current, self.trouble = self._made(), ON_CPU
