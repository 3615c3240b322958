"""What the user sees meanwhile: a bar on a terminal, lines of JSON anywhere else."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TextIO

BAR = 30
EVERY = 1.0  # seconds between two lines


@dataclass
class Progress:
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

    def facts(self) -> dict[str, float | int | None]:
        """done, total, rejected, images per second, seconds left (None while unknown)."""
        seconds = time.monotonic() - self._began
        rate = (self.done - self._before) / seconds if seconds > 0 else 0.0
        left = round((self.total - self.done) / rate, 1) if rate else None
        return {
            "done": self.done,
            "total": self.total,
            "rejected": self.rejected,
            "per_second": round(rate, 2),
            "seconds_left": left,
        }

    def close(self) -> None:
        if self.stream.isatty():
            self.stream.write("\n")

    def _show(self) -> None:
        self._shown = time.monotonic()
        facts = self.facts()
        if not self.stream.isatty():
            self.stream.write(json.dumps(facts) + "\n")
        else:
            share = self.done / self.total if self.total else 1.0
            bar = ("#" * round(BAR * share)).ljust(BAR, ".")
            left = facts["seconds_left"]
            time_left = "" if left is None else f", {duration(left)} left"
            text = f"[{bar}] {self.done}/{self.total}, {facts['per_second']}/s{time_left}"
            self.stream.write(f"\r{text:<78}")
        self.stream.flush()


def duration(seconds: float) -> str:
    """12 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
