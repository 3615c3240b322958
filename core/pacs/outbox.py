"""What waits to be sent: an object and a note of its destination each, until it has arrived."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.files import remove_leftovers, write_atomically, write_json

log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 2.0, 900.0
"""Seconds until the second try, doubled with each one up to the longest."""
MAX_ATTEMPTS = 200  # two days
Send = Callable[[str, Sequence[bytes]], Sequence[bool]]
"""(destination, objects) -> which of them arrived."""


@dataclass(frozen=True)
class Waiting:
    """One object for one destination. note: path of its JSON; the object lies beside it."""

    note: Path
    destination: str
    attempts: int
    next_try: float

    @property
    def item(self) -> Path:
        return self.note.with_suffix(".dcm")


class Outbox:
    """The folder ``outbox``; what was tried too often lies in its folder ``failed``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove_leftovers(folder)

    def put(self, destination: str, uid: str, data: bytes) -> None:
        """Keep an object to send; the same UID for the same destination is there once."""
        name = hashlib.sha256(f"{destination} {uid}".encode()).hexdigest()[:32]
        write_atomically(self._folder / f"{name}.dcm", lambda p: p.write_bytes(data))
        self._note(self._folder / f"{name}.json", destination, 0, 0.0)

    def waiting(self) -> list[Waiting]:
        found = []
        for note in sorted(self._folder.glob("*.json")):
            said = json.loads(note.read_text())
            found.append(Waiting(note, said["destination"], said["attempts"], said["next_try"]))
        return found

    def send(self, send: Send, batch: int = 50) -> int:
        """Try what is due, by destination; how many objects arrived."""
        by_destination: dict[str, list[Waiting]] = defaultdict(list)
        for one in self.waiting():
            if one.next_try <= time.time():
                by_destination[one.destination].append(one)
        arrived = 0
        for destination, due in by_destination.items():
            chosen = due[:batch]
            results = send(destination, [w.item.read_bytes() for w in chosen])
            for one, good in zip(chosen, results, strict=True):
                arrived += good
                self._arrived(one) if good else self._again(one)
        return arrived

    def _arrived(self, one: Waiting) -> None:
        one.note.unlink()
        one.item.unlink()

    def _again(self, one: Waiting) -> None:
        attempts = one.attempts + 1
        if attempts >= MAX_ATTEMPTS:
            log.error("An object was not accepted %d times and is kept in 'failed'.", attempts)
            failed = self._folder / "failed"
            failed.mkdir(exist_ok=True)
            one.item.rename(failed / one.item.name)
            one.note.rename(failed / one.note.name)
            return
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempts - 1, 20))
        self._note(one.note, one.destination, attempts, time.time() + wait)

    def _note(self, path: Path, destination: str, attempts: int, next_try: float) -> None:
        write_json(path, {"destination": destination, "attempts": attempts, "next_try": next_try})
