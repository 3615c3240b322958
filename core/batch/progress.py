"""What the user sees meanwhile: a bar on a terminal, lines of JSON anywhere else.

The last line says how a run ended that did not reach its end, where it could still say so, so that
who reads the lines, as the page *Batch* does, goes by a code and not by the words.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from core.errors import BegunOtherwise, CascadeError, EngineUnavailable, of_disk

BAR = 30
EVERY = 1.0  # seconds between two lines
TAIL = 4096  # bytes of a log that are read first


@dataclass(frozen=True)
class Progress:
    """Inputs so far, images per second and seconds left; the last two are None while unknown."""

    done: int = 0
    total: int = 0
    rejected: int = 0
    per_second: float | None = None
    seconds_left: float | None = None

    @classmethod
    def of(cls, line: str) -> Progress | None:
        """What a line says of it; None where that is no line of progress."""
        try:
            return cls(**json.loads(line)) if line.startswith("{") else None
        except (ValueError, TypeError):  # cut, or some other message
            return None


class Code(StrEnum):
    """How a run ended before its end."""

    STOPPED = "stopped"  # it was asked to
    OTHERWISE = "otherwise"  # it was begun with another release, engine, …
    ENGINE = "engine"  # what runs the network is not there
    FAILED = "failed"


@dataclass(frozen=True)
class Ending:
    """The line of a run that did not reach its end. sentence: why; empty where it was stopped."""

    ended: Code
    sentence: str = ""

    @classmethod
    def by(cls, error: CascadeError | OSError) -> Ending:
        if isinstance(error, BegunOtherwise):
            return cls(Code.OTHERWISE, error.difference)
        if isinstance(error, OSError):
            return cls(Code.FAILED, of_disk(error))
        unavailable = isinstance(error, EngineUnavailable)
        return cls(Code.ENGINE if unavailable else Code.FAILED, str(error))

    @classmethod
    def of(cls, line: str) -> Ending | None:
        """What a line says of it; None where it says something else."""
        try:
            found = cls(**json.loads(line))
            return replace(found, ended=Code(found.ended))
        except (ValueError, TypeError):
            return None

    def tell(self, stream: TextIO) -> None:
        """A line of JSON; a person at a terminal is told in words."""
        if not stream.isatty():
            stream.write(json.dumps(asdict(self)) + "\n")
            stream.flush()


@dataclass
class Meter:
    """Rate and time left of the inputs scored now; those of an earlier run do not count as fast."""

    total: int
    done: int
    stream: TextIO
    rejected: int = 0
    _began: float = field(default_factory=time.monotonic)
    _before: int = 0
    _shown: float = 0.0

    def __post_init__(self) -> None:
        self._before = self.done
        self._show()

    def add(self, count: int, rejected: int) -> None:
        self.done += count
        self.rejected += rejected
        if time.monotonic() - self._shown >= EVERY or self.done == self.total:
            self._show()

    def now(self) -> Progress:
        seconds = time.monotonic() - self._began
        rate = (self.done - self._before) / seconds if seconds > 0 else 0.0
        left = round((self.total - self.done) / rate, 1) if rate else None
        return Progress(self.done, self.total, self.rejected, round(rate, 2), left)

    def close(self) -> None:
        if self.stream.isatty():
            self.stream.write("\n")

    def _show(self) -> None:
        self._shown = time.monotonic()
        now = self.now()
        if not self.stream.isatty():
            self.stream.write(json.dumps(asdict(now)) + "\n")
        else:
            share = self.done / self.total if self.total else 1.0
            bar = ("#" * round(BAR * share)).ljust(BAR, ".")
            left = "" if now.seconds_left is None else f", {duration(now.seconds_left)} left"
            text = f"[{bar}] {self.done}/{self.total}, {now.per_second}/s{left}"
            self.stream.write(f"\r{text:<78}")
        self.stream.flush()


def last_of(log: Path) -> tuple[Progress, Ending | None]:
    """The last progress in a log and, where it says so after that, how the run ended. Between the
    two there may be traces of any length."""
    lines: list[str] = []
    try:
        with log.open("rb") as file:
            end, size = file.seek(0, os.SEEK_END), TAIL
            while True:
                file.seek(max(0, end - size))
                lines = file.read(size).decode("utf-8", "replace").splitlines()
                whole = int(size < end)  # the line before it may be cut
                for place in reversed(range(whole, len(lines))):
                    if progress := Progress.of(lines[place]):
                        return progress, _ending(lines[place + 1 :])
                if size >= end:
                    break
                size *= 8
    except OSError:
        pass
    return Progress(), _ending(lines)


def _ending(lines: list[str]) -> Ending | None:
    return next((found for line in reversed(lines) if (found := Ending.of(line))), None)


def duration(seconds: float) -> str:
    """12 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
