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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from core import locks
from core.errors import SettingsInvalid
from core.files import make_private, remove_leftovers, write_atomically, write_json

log = logging.getLogger(__name__)
_PLAIN = re.compile(r"[0-9.]{1,64}")
_SCORED = "scored.json"
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
        return [(n.partition("_")[2] or n, (self.folder / n).read_bytes()) for n in self.names]


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
        for left in (folder, *(p for p in folder.iterdir() if p.is_dir())):
            remove_leftovers(left)

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
            write_atomically(path, lambda p: p.write_bytes(data))
            for other in folder.glob(f"*{ending}") if instead else ():
                if other.name[_DIGITS:] == ending and other != path:
                    other.unlink(missing_ok=True)
            _sync(folder)

    def due(self, quiet: float) -> Iterator[Arrived]:
        """Studies with files that were not scored and none newer than ``quiet`` seconds.

        Nor one from so far ahead: the clock was set back since, and a study must not wait for it.
        """
        for study, newest in _unscored(self._folder, self._damaged, self._assessed):
            if study.attempts < MAX_ATTEMPTS and abs(time.time() - newest) >= quiet:
                yield study

    @staticmethod
    def counts(folder: Path) -> tuple[int, int]:
        """(studies that wait, studies that rest) in an inbox that another process may work in."""
        attempts = [study.attempts for study, _ in _unscored(folder, set(), {})]
        resting = sum(n >= MAX_ATTEMPTS for n in attempts)
        return len(attempts) - resting, resting

    def done(self, study: Arrived) -> None:
        """Its files are scored, and what follows from them is on the disk."""
        write_json(study.folder / _SCORED, {"names": list(study.names)})

    def failed(self, study: Arrived) -> None:
        """Scoring raised; after MAX_ATTEMPTS the study rests until a file of it comes again."""
        state = _state(study.folder, self._damaged)
        tried = {"tried": list(study.names), "attempts": study.attempts + 1}
        write_json(study.folder / _SCORED, state | tried)

    def forget_old(self) -> None:
        """Remove studies all of whose files were scored so long ago that they need not stay.

        What waits stays, and so does what rests after it failed: it was acknowledged.
        """
        with self._lock:
            found = _unscored(self._folder, self._damaged, self._assessed)
            waiting = {study.folder for study, _ in found}
            for marker in self._folder.glob(f"*/{_SCORED}"):
                old = time.time() - marker.stat().st_mtime > self._keep
                if old and marker.parent not in waiting:
                    shutil.rmtree(marker.parent)


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """One process works in ``home``, a folder in BONE_HOME, at a time.

    Raises SettingsInvalid for a second one.
    """
    make_private(home.parent)
    home.mkdir(exist_ok=True, mode=0o700)
    with (home / "lock").open("w") as file:
        try:
            locks.take(file)
        except OSError as error:
            raise SettingsInvalid(
                "A listener is running with this BONE_HOME already; give each its own."
            ) from error
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


def _folders(inbox: Path) -> Iterator[tuple[str, int]]:
    """Name and time of last change, in nanoseconds, of each study's folder."""
    with os.scandir(inbox) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # removed meanwhile
                if entry.is_dir():
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
