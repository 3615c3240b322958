"""What waits to be sent: an object and a note of its destination each, until it has arrived."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from core.files import remove_leftovers, write_atomically, write_json

log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 2.0, 900.0
"""Seconds until the second try, doubled with each one up to the longest."""
MAX_ATTEMPTS = 200  # two days
MOVING = 60.0
"""Seconds that a note may wait for its object: somebody moves both back by hand."""
BATCH = 16  # objects in memory at once, of 7 MB at most
Send = Callable[[str, Sequence[bytes]], Sequence[bool | None]]
"""(destination, objects) -> which of them arrived; None for one that was not tried."""


@dataclass(frozen=True)
class Waiting:
    """One object for one destination. note: path of its JSON; the object lies beside it.

    about: what the audit says of it, without identity (``uid``, ``kind``, ``study``).
    """

    note: Path
    destination: str
    attempts: int
    next_try: float
    about: dict[str, str]

    @property
    def item(self) -> Path:
        return self.note.with_suffix(".dcm")

    @property
    def study(self) -> str:
        """Id on the worklist; "" in a note of an earlier version."""
        return self.about.get("study", "")


WITHDRAWN = "object.withdrawn"
Tell = Callable[[str, Waiting], object]
"""("object.sent", "object.given_up" or WITHDRAWN, what) is called before it leaves the outbox."""


class Outbox:
    """The folder ``outbox``; what was tried too often lies in its folder ``failed``.

    Any number of threads of one process may put; one for each destination sends.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unreadable: set[Path] = set()
        self._alone: dict[Path, float] = {}  # notes without their object, and since when
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove_leftovers(folder)
        for item in folder.glob("*.dcm"):  # sent, or put again by its study: a kill in between
            if not item.with_suffix(".json").exists():
                item.unlink()

    def put(self, destination: str, uid: str, data: bytes, kind: str = "", study: str = "") -> None:
        """Keep an object to send; the same UID for the same destination is there once.

        kind: its series (``SR``). study: id on the worklist. Neither may name a patient.
        """
        name = hashlib.sha256(f"{destination} {uid}".encode()).hexdigest()[:32]
        note = self._folder / f"{name}.json"
        about = {"uid": uid, "kind": kind, "study": study}
        write_atomically(note.with_suffix(".dcm"), lambda p: p.write_bytes(data))
        _write(Waiting(note, destination, 0, 0.0, about))

    def waiting(self) -> list[Waiting]:
        """What waits, the oldest first."""
        found = [one for one in map(self._read, self._folder.glob("*.json")) if one is not None]
        return sorted(found, key=_put)

    def _read(self, note: Path) -> Waiting | None:
        """What waits; None where its object is gone already, which a kill can leave, or is still
        being moved, and for a note that nobody can read: the others are sent."""
        if not note.with_suffix(".dcm").exists():
            if time.monotonic() - self._alone.setdefault(note, time.monotonic()) > MOVING:
                note.unlink(missing_ok=True)
                del self._alone[note]
            return None
        self._alone.pop(note, None)
        try:
            said = json.loads(note.read_text())
            to, attempts, next_try = said["destination"], said["attempts"], said["next_try"]
            about = said.get("about", {})  # of an earlier version: nothing
            one = Waiting(note, str(to), int(attempts), float(next_try), dict(about))
        except FileNotFoundError:  # sent meanwhile
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if note not in self._unreadable:  # once, and not with every look
                log.error(
                    "The note %s in the outbox cannot be read (%s), so its object is not sent.",
                    note.name,
                    type(error).__name__,
                )
            self._unreadable.add(note)
            return None
        self._unreadable.discard(note)
        return one

    @staticmethod
    def counts(folder: Path) -> tuple[Counter[str], int]:
        """(objects that wait by destination, objects given up) in an outbox that another process
        may work in: nothing is tidied."""
        waiting: Counter[str] = Counter()
        for note in folder.glob("*.json"):
            try:
                waiting[str(json.loads(note.read_text())["destination"])] += 1
            except FileNotFoundError:  # sent meanwhile
                continue
            except (OSError, ValueError, KeyError, TypeError):
                waiting["a destination that cannot be read"] += 1
        return waiting, len(list((folder / "failed").glob("*.json")))

    def destinations(self) -> Counter[str]:
        """How many objects wait for each."""
        return Counter(one.destination for one in self.waiting())

    def due(self) -> dict[str, list[Waiting]]:
        """What is to be tried now, by destination.

        Nothing waits for longer than LONGEST_WAIT, unless the clock was set back since.
        """
        found: dict[str, list[Waiting]] = defaultdict(list)
        now = time.time()
        for one in self.waiting():
            if not now < one.next_try <= now + LONGEST_WAIT:
                found[one.destination].append(one)
        return found

    def send(
        self,
        destination: str,
        due: Sequence[Waiting],
        send: Send,
        tell: Tell = lambda *_: None,
        superseded: Callable[[str], bool] = lambda _: False,
    ) -> int:
        """Try the first of what is due at one destination; how many objects arrived.

        superseded: whether the study with this id is; nothing of it is sent any more. Where this
        or ``tell`` raises, the object stays and is sent again.
        """
        due = due[:BATCH]
        studies = {one.study for one in due} - {""}
        gone = {study for study in studies if superseded(study)}
        for one in due:
            if one.study in gone:
                log.warning("An object is not sent: a newer study took the place of its study.")
                self._leaves(WITHDRAWN, one, tell)
        due = [one for one in due if one.study not in gone]
        read = [(one, data) for one in due if (data := self._data(one, tell)) is not None]
        results = send(destination, [data for _, data in read]) if read else []
        for (one, _), good in zip(read, results, strict=True):
            if good is not None:  # else it is no fault of this one, and tried with the next batch
                self._leaves("object.sent", one, tell) if good else self._again(one, tell)
        return sum(map(bool, results))

    def _data(self, one: Waiting, tell: Tell) -> bytes | None:
        """The boundary of one object: where it cannot be read, that is an attempt at it alone."""
        try:
            return one.item.read_bytes()
        except FileNotFoundError:  # somebody moves it away; its note goes with the next looks
            return None
        except OSError as error:
            log.error("The object %s cannot be read: %s", one.item.name, type(error).__name__)
            self._again(one, tell)
            return None

    def _leaves(self, event: str, one: Waiting, tell: Tell) -> None:
        tell(event, one)
        one.note.unlink()
        one.item.unlink()

    def _again(self, one: Waiting, tell: Tell) -> None:
        attempts = one.attempts + 1
        if attempts < MAX_ATTEMPTS:
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempts - 1, 20))
            _write(replace(one, attempts=attempts, next_try=time.time() + wait))
            return
        log.error("An object was not accepted %d times and is kept in 'failed'.", attempts)
        tell("object.given_up", one)
        failed = self._folder / "failed"
        failed.mkdir(exist_ok=True, mode=0o700)
        # The note first and as new: moving both files back sends them again.
        _write(replace(one, note=failed / one.note.name, attempts=0, next_try=0.0))
        one.item.rename(failed / one.item.name)
        one.note.unlink()


def _put(one: Waiting) -> int:
    """When it was put: an attempt writes its note alone."""
    with suppress(FileNotFoundError):  # sent meanwhile
        return one.item.stat().st_mtime_ns
    return 0


def _write(one: Waiting) -> None:
    said = {"destination": one.destination, "attempts": one.attempts, "next_try": one.next_try}
    write_json(one.note, {**said, "about": one.about})
