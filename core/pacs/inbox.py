"""What has arrived, a folder a study, until some time after it was scored."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from core import locks
from core.errors import SettingsInvalid
from core.files import make_private, remove_leftovers, write_atomically, write_json
from core.study import study_uid_of

log = logging.getLogger(__name__)
_PLAIN = re.compile(r"[0-9.]{1,64}")
_SCORED = "scored.json"
_GONE = ".gone-"  # before the name of a folder that is being removed; no key begins with it
_DIGITS = 24  # of the content's digest, at the beginning of a file's name
KEEP_SECONDS = 7 * 24 * 3600.0
"""How long a scored study stays: a view that comes late is scored together with the first ones."""
MAX_ATTEMPTS = 3
SETTLED = 2.0
"""Seconds since the last write to a folder, after which its time tells of every further one."""
LOOKS = 3  # at a folder whose files are being replaced
T = TypeVar("T")


@dataclass(frozen=True)
class Arrived:
    """A study that waits to be scored. names: of all its files, sorted. attempts: made so far.

    called: as its sender calls it, where its key stands in the place of that; else the key.
    """

    folder: Path
    key: str
    names: tuple[str, ...]
    attempts: int
    called: str

    def contents(self) -> list[tuple[str, bytes]]:
        """(display name, bytes) of each file."""
        return [(_shown(n), (self.folder / n).read_bytes()) for n in self.names]


class Inbox:
    """The folder ``inbox``. Any number of threads may put; one at a time may score.

    keep: seconds that a scored study stays.
    """

    def __init__(self, folder: Path, keep: float = KEEP_SECONDS) -> None:
        self._folder, self._keep = folder, keep
        self._damaged: set[Path] = set()
        self._assessed: dict[str, int] = {}  # what is done, by the time of its folder
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_gone(folder)
        for left in (folder, *(folder / name for name, _ in list(_folders(folder)))):
            remove_leftovers(left)
        self._having = _having(folder)

    def put(
        self, key: str, name: str, data: bytes, instead: bool = False, called: str = ""
    ) -> None:
        """Keep a file of the study ``key``, on the disk when this returns. Raises OSError.

        The same content twice is there once. name: for display; only its plain characters remain.
        instead: it takes the place of what has this name and another content. called: see
        ``Arrived``; the key is then a UID.
        """
        folder, digest = self._folder / _safe(key), hashlib.sha256(data).hexdigest()
        with self._lock:  # or `forget_old` might take the folder away from under it
            if not (folder / "study.json").exists():  # the folder may be there: a kill in between
                folder.mkdir(mode=0o700, exist_ok=True)
                write_json(folder / "study.json", called or key)
                _sync(self._folder)
            ending = _ending(name)
            path = folder / f"{digest[:_DIGITS]}{ending}"
            known = path.exists()
            write_atomically(path, lambda p: p.write_bytes(data))
            for other in folder.glob(f"*{ending}") if instead else ():
                if other.name[_DIGITS:] == ending and other != path:
                    other.unlink(missing_ok=True)
            if _is_object(path):
                self._having[ending].add(folder.name)
                if known and len(self._having[ending]) > 1:  # it was moved, and is taken back
                    write_json(folder / _SCORED, {"names": []})
            _sync(folder)

    def due(self, quiet: float) -> Iterator[Arrived]:
        """Studies with files that were not scored and none newer than ``quiet`` seconds, in the
        order in which they came: a correction may stand in another study than what it corrects.

        Nor one from so far ahead: the clock was set back since, and a study must not wait for it.
        """
        waiting = _unscored(self._folder, self._damaged, self._assessed)
        for before, _ in sorted(waiting, key=lambda found: found[1]):
            found = _asked(before.folder, self._damaged)  # more may have come meanwhile
            if found is None:
                continue
            study, newest = found
            if study.attempts < MAX_ATTEMPTS and abs(time.time() - newest) >= quiet:
                yield study

    @staticmethod
    def counts(folder: Path) -> tuple[int, int]:
        """(studies that wait, studies that rest) in an inbox that another process may work in."""
        attempts = [study.attempts for study, _ in _unscored(folder, set(), {})]
        resting = sum(n >= MAX_ATTEMPTS for n in attempts)
        return len(attempts) - resting, resting

    def done(self, study: Arrived, read: Collection[str] = ()) -> None:
        """Its files are scored, and what follows from them is on the disk.

        read: display names of those that could be read. An object is of the study that it came with
        last and could be read in: others lose it, and what is left of them is scored again.
        """
        with self._lock:
            for name in study.names:
                others = self._having.get(name[_DIGITS:], set()) - {study.folder.name}
                if others and _shown(name) in read:
                    with suppress(FileNotFoundError):  # a correction took its place meanwhile
                        came = (study.folder / name).stat().st_mtime
                        self._take_out(others, name[_DIGITS:], came)
        # Last: after a kill before it the others would be scored with what they had to lose.
        write_json(study.folder / _SCORED, {"names": list(study.names)})

    def failed(self, study: Arrived) -> None:
        """Scoring raised; after MAX_ATTEMPTS the study rests until a file of it comes again."""
        state = _state(study.folder, self._damaged)
        tried = {"tried": list(study.names), "attempts": study.attempts + 1}
        write_json(study.folder / _SCORED, state | tried)

    def _take_out(self, others: set[str], ending: str, came: float) -> None:
        """Remove an object from these folders where it is older. came: when it came elsewhere."""
        for folder in (self._folder / name for name in sorted(others)):
            there = [p for p in folder.glob("*_*") if p.name[_DIGITS:] == ending]
            gone = [p for p in there if p.stat().st_mtime < came]
            for path in gone:
                path.unlink()
            if gone:  # then: after a kill it must not be scored with them
                write_json(folder / _SCORED, {"names": []})

    def forget_old(self) -> None:
        """Remove studies all of whose files were scored so long ago that they need not stay.

        What waits stays, and so does what rests after it failed: it was acknowledged.
        """
        with self._lock:
            found = _unscored(self._folder, self._damaged, self._assessed)
            waiting = {study.folder for study, _ in found}
            for marker in self._folder.glob(f"*/{_SCORED}"):
                old = time.time() - marker.stat().st_mtime > self._keep
                going = marker.parent.name.startswith(_GONE)
                if old and not going and marker.parent not in waiting:
                    # At once: after a kill, half of it would be a study that was not scored.
                    marker.parent.rename(_free(marker.parent))
            _remove_gone(self._folder)
            self._having = _having(self._folder)


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """One process works in ``home``, a folder in BONE_HOME, at a time.

    Raises SettingsInvalid for a second one, and where the file system does not lock.
    """
    make_private(home.parent)
    home.mkdir(exist_ok=True, mode=0o700)
    with (home / "lock").open("w") as file:
        try:
            locks.take(file)
        except OSError as error:
            if error.errno in locks.TAKEN:
                said = "A listener is running with this BONE_HOME already; give each its own."
            elif error.errno in locks.NONE:
                said = "BONE_HOME is on a file system that cannot lock files; choose a local disk."
            else:
                said = f"BONE_HOME cannot be written: {error.strerror}."
            raise SettingsInvalid(said) from error
        yield  # the lock ends with the process, however it ends


def _unscored(
    inbox: Path, damaged: set[Path], assessed: dict[str, int]
) -> Iterator[tuple[Arrived, float]]:
    """Studies with files that were not scored, and when the newest of them came.

    damaged: notes that could not be read, so that each is told of once. assessed: folders that were
    found done, which are not read again until something is written there.
    """
    folders = dict(_folders(inbox))
    for gone in assessed.keys() - folders.keys():
        del assessed[gone]
    for name in sorted(n for n, changed in folders.items() if assessed.get(n) != changed):
        found = _asked(inbox / name, damaged)
        if found is not None:
            yield found
        # What is written within one tick of the clock leaves the folder's time as it was.
        elif abs(time.time_ns() - folders[name]) > SETTLED * 1e9:
            assessed[name] = folders[name]


def _remove_gone(inbox: Path) -> None:
    for left in inbox.glob(f"{_GONE}*"):
        try:
            shutil.rmtree(left)
        except OSError as error:
            log.error("A study that left the inbox cannot be removed: %s", type(error).__name__)


def _free(folder: Path) -> Path:
    """What a folder that is being removed is called. It has no further dot: what ends in one and
    eight signs is taken for the leftover of a write."""
    gone = folder.with_name(_GONE + folder.name.replace(".", "-"))
    while gone.exists():  # could not be removed
        gone = gone.with_name(f"{gone.name}-")
    return gone


def _having(inbox: Path) -> dict[str, set[str]]:
    """By the ending of an object's file the names of the studies' folders that have it."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in inbox.glob("*/*.dcm"):
        if _is_object(path):
            found[path.name[_DIGITS:]].add(path.parent.name)
    return found


def _is_object(path: Path) -> bool:
    """Whether a file is called by the UID of its object, and its folder by that of a study: both
    are given once in the world, but for those that somebody made up (``study_uid_of``)."""
    called = path.name[_DIGITS:].removeprefix("_").removesuffix(".dcm")
    folder = path.parent.name
    return bool(study_uid_of(called)) and "." in folder and not folder.startswith(_GONE)


def _folders(inbox: Path) -> Iterator[tuple[str, int]]:
    """Name and time of last change, in nanoseconds, of each study's folder."""
    with os.scandir(inbox) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # removed meanwhile
                if entry.is_dir() and not entry.name.startswith(_GONE):
                    yield entry.name, entry.stat().st_mtime_ns


def _asked(folder: Path, damaged: set[Path]) -> tuple[Arrived, float] | None:
    """``_waits``, asked again where a corrected object took a file's place in between."""
    for _ in range(LOOKS):
        with suppress(FileNotFoundError):
            return _waits(folder, damaged)
    return None  # a link that leads nowhere, or a folder that somebody is removing


def _waits(folder: Path, damaged: set[Path]) -> tuple[Arrived, float] | None:
    """A study whose files were not all scored, and when the newest of them came; else None.

    Raises FileNotFoundError where one of them goes meanwhile.
    """
    files = sorted(p for p in folder.glob("*_*") if not p.name.startswith("."))
    state, names = _state(folder, damaged), [p.name for p in files]
    if not files or names == state.get("names"):
        return None
    newest = max(p.stat().st_mtime for p in files)
    again = names != state.get("tried") or newest > (folder / _SCORED).stat().st_mtime
    attempts = 0 if again else state.get("attempts", 0)
    # An earlier version that was killed may have left none but the folder's name.
    called = _said(folder / "study.json", str, damaged) or folder.name
    # A folder has the name of a UID, and of no other key (``_safe``).
    key = folder.name if "." in folder.name else called
    return Arrived(folder, key, tuple(names), attempts, called), newest


def _state(folder: Path, damaged: set[Path]) -> dict[str, Any]:
    found = _said(folder / _SCORED, dict, damaged)
    return found if found and isinstance(found.get("attempts", 0), int) else {}


def _said(path: Path, kind: type[T], damaged: set[Path]) -> T | None:
    """What a note says; None without one, and for one that nobody can read: the study is scored
    all the same, once more if need be."""
    try:
        found = json.loads(path.read_bytes()) if path.exists() else None
    except ValueError:
        found = object()  # of no kind that a note has
    if found is None or isinstance(found, kind):
        return found
    if path not in damaged:
        log.error("A note in the inbox is damaged: %s of %s.", path.name, path.parent.name)
    damaged.add(path)
    return None


def _shown(name: str) -> str:
    """The display name of a file."""
    return name.partition("_")[2] or name


def _safe(key: str) -> str:
    """A folder name that no sender can choose: the UID itself, or a digest of anything else."""
    if _PLAIN.fullmatch(key) and key.strip("."):
        return key
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


def _ending(name: str) -> str:
    """What follows the content's digest: "_" and the plain characters of a name, the last 80 bytes.

    Where these are not the whole name, a digest of it comes before them: else "Hand (1).png" and
    "Hand [1].png" would be one file.
    """
    # Bytes: a file's name has 255 of them, and a letter up to four.
    plain = re.sub(r"[^\w.-]+", "-", name).encode()[-80:].decode(errors="ignore")
    whole = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:8]
    return f"_{plain}" if plain == name else f"-{whole}_{plain}"


def _sync(folder: Path) -> None:
    """Make the names in a folder last; a rename alone may be lost with the power. Windows opens no
    folder, and needs none of this."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
