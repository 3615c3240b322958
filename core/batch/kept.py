"""Batches that a page starts: each a process of its own, and a folder that tells how it goes.

``BONE_HOME/batches/<id>/``: order.json (what was asked for), process.json (who works on it), log
(progress, and how it ended, as lines of JSON), stopped (once somebody asked it to end), dropped.zip
(files that came through the browser), results.jsonl and, until it is there, results.jsonl.run/. The
process goes on when the browser or the server has gone.

Who starts or deletes one holds the lock of the kernel on ``batches/.claims`` meanwhile: several
servers and the listener may have one home.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from core import locks, registry
from core.batch.inputs import Archive, source_at
from core.batch.journal import Journal, folder_of
from core.batch.progress import Code, Progress, last_of
from core.errors import BatchFailed, ImageRejected, PathRefused
from core.files import make_private, write_atomically, write_json
from core.imaging import load
from core.process import Process
from core.roots import resolve
from core.settings import ROOT, Settings
from core.words import on_disk

if TYPE_CHECKING:
    from core.store import Store

log = logging.getLogger(__name__)

TOGETHER = 16  # files scored and written at a time: somebody waits for the first results
ONE_AT_A_TIME = "Another batch is running. It uses the whole computer, so please wait or stop it."
CUT_OFF = (
    "It ended early and did not say why: the program was ended or crashed, or the computer went "
    "down. Its log may say more; it can be resumed."
)
CHANGED = (
    " With that one again it can be resumed; Restart deletes its results and assesses all of its "
    "files again."
)
NOT_DELETED = (
    "Not all of this batch could be deleted: the disk refused, so it is still in the list."
)
ARCHIVE_ALONE = "A ZIP archive must be the only file: please remove it, or all others."


@dataclass(frozen=True)
class Batch:
    """One batch. title: what was scored, for display. source: a folder, or the dropped archive."""

    folder: Path
    title: str
    source: Path
    created: float

    @classmethod
    def read(cls, folder: Path) -> Batch:
        """Raises OSError, or ValueError for an order.json that is damaged."""
        order = json.loads((folder / "order.json").read_text(encoding="utf-8"))
        try:
            title, source, created = order["title"], Path(order["source"]), float(order["created"])
        except (TypeError, KeyError, OverflowError) as error:
            raise ValueError("order.json is damaged") from error
        if not (isinstance(title, str) and math.isfinite(created)):
            raise ValueError("order.json is damaged")
        return cls(folder, title, source, created)

    @property
    def out(self) -> Path:
        return self.folder / "results.jsonl"

    @property
    def dropped(self) -> bool:
        """Whether its files came through the browser."""
        return self.source.parent == self.folder

    def short(self, file: str) -> str:
        """The name of a file below the folder that was scored."""
        return file.removeprefix(f"{self.source}/")

    @property
    def running(self) -> bool:
        process = Process.read(self.folder)
        return process is not None and process.alive

    @property
    def finished(self) -> bool:
        return self.out.exists() and not self.running

    @property
    def begun(self) -> int:
        """When its files were listed, in nanoseconds since 1970; 0 before and once it is done."""
        try:
            return (folder_of(self.out) / "run.json").stat().st_mtime_ns
        except OSError:
            return 0

    def progress(self) -> Progress:
        return last_of(self._log)[0]

    def failure(self) -> str:
        """Why it ended before its end: as the process said it, with CHANGED where it was begun with
        something else, or CUT_OFF where it did not say how. Empty where it was stopped, and where
        no process has begun yet."""
        _, ending = last_of(self._log)
        if ending is None:
            begun = Process.read(self.folder) is not None
            return CUT_OFF if begun and not self._stopped.exists() else ""
        return ending.sentence + (CHANGED if ending.ended is Code.OTHERWISE else "")

    @property
    def refused(self) -> bool:
        """Whether it could not go on as it began, with a release or an engine that may be gone for
        good: it can begin again."""
        _, ending = last_of(self._log)
        return bool(self.begun and ending and ending.ended in (Code.OTHERWISE, Code.ENGINE))

    def records(self, offset: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Records from a byte on, each with the byte that it ends on; a cut line is left out."""
        path = self.out if self.out.exists() else folder_of(self.out) / "journal.jsonl"
        try:
            with path.open("rb") as lines:
                lines.seek(offset)
                for line in lines:
                    offset += len(line)
                    if line.endswith(b"\n"):
                        yield offset, json.loads(line)
        except (OSError, ValueError):  # it was renamed or removed at this moment
            return

    def start(self, anew: bool = False) -> None:
        """Begin, or go on where it was; the process is nobody's child when the server ends.

        anew: where it is ``refused``, forget what was scored, and begin with what is used today.
        Raises BatchFailed while another batch runs, and with PathRefused where there is nothing to
        begin anew with. Where this one does, or has ended meanwhile, as a page that was drawn
        earlier may not know, it is left alone, its log too.
        """
        with _claims(self.folder.parent):
            if self.running or self.finished:
                return
            if any(other.running for other in all_batches(self.folder.parent.parent)):
                raise BatchFailed(ONE_AT_A_TIME)
            if anew and self.refused:
                self._check_source()
                with Journal(self.out) as journal:
                    journal.remove()
            self._start()

    def _check_source(self) -> None:
        roots = None if self.dropped else Settings.from_environment().roots
        if not source_at(self.source, roots).there():
            raise BatchFailed(f"There is nothing in {self.source} now. Results so far are kept.")

    @property
    def _stopped(self) -> Path:
        """Is there where it was asked to end; while it loads the model it ends without a word."""
        return self.folder / "stopped"

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def _start(self) -> None:
        self._stopped.unlink(missing_ok=True)
        release, engine = self._as_begun()
        command = [sys.executable, "-m", "core", *release, "batch", str(self.source), *engine]
        command += ["--out", str(self.out), "--resume", "--batch", str(TOGETHER)]
        command += [] if self.dropped else ["--within-roots"]
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        Process.of(process.pid).write(self.folder)
        threading.Thread(target=process.wait, daemon=True).start()  # or it stays as a zombie

    def _as_begun(self) -> tuple[list[str], list[str]]:
        """Options of the program and of its command by which a batch that was cut off goes on as it
        began, whatever is taken by now. None for a release that is gone: the process says so, as it
        does of an engine."""
        try:
            began = json.loads((folder_of(self.out) / "run.json").read_text(encoding="utf-8"))
            release = began["release"], began["release_sha256"]
            setting = began.get("engine_setting")  # an older version did not write it
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # nothing is begun
            return [], []
        engine = ["--engine", setting] if setting else []
        found = registry.used(Settings.from_environment().weights, *release)
        return ["--release", found.id, "--mode", found.mode.value] if found else [], engine

    def stop(self) -> None:
        """Ask it to end after the pictures at hand; it can go on later."""
        process = Process.read(self.folder)
        if process is not None and process.alive:
            os.kill(process.pid, signal.SIGTERM)
            with suppress(OSError):  # a full disk: it ends all the same
                self._stopped.touch()

    def remove(self) -> None:
        """Forget results and dropped files; a folder that was scored stays as it is.

        Raises BatchFailed while it runs, and where something of it stays.
        """
        with _claims(self.folder.parent):
            if self.running:
                raise BatchFailed("This batch is running; stop it first.")
            if not _erased(self.folder):
                raise BatchFailed(NOT_DELETED)

    def bytes_of(self, file: str, settings: Settings) -> bytes:
        """One of its files again; raises ImageRejected, also if it may no longer be read."""
        try:
            if self.source in PurePath(file).parents:  # a folder: what an archive has lies nowhere
                return load(resolve(on_disk(file), settings.roots), settings.limits)
            source = self.source if self.dropped else resolve(self.source, settings.roots)
            archive = Archive(source)
        except (PathRefused, BatchFailed) as error:
            raise ImageRejected(str(error)) from error
        with archive.opened():
            name = next((n for n in archive.names() if archive.label(n) == file), None)
            if name is None:
                raise ImageRejected("The file is no longer in the archive.")
            return archive.read(name, settings.limits)


def _claims(batches: Path) -> AbstractContextManager[None]:
    """Nobody else starts a batch here, or deletes one, until this is left."""
    return locks.held(batches / ".claims")


def all_batches(home: Path) -> list[Batch]:
    """The batches that are kept, the last one first."""
    found = []
    for folder in (home / "batches").glob("*/order.json"):
        try:
            found.append(Batch.read(folder.parent))
        except (OSError, ValueError):
            continue
    return sorted(found, key=lambda b: b.created, reverse=True)


def past(home: Path, days: int) -> list[Batch]:
    """Batches that began more than so many days ago and do not run.

    What a crash left before it was a batch is one, too, and one whose order.json is damaged: it may
    hold the dropped files already.
    """
    found, limit = [], time.time() - 86400 * days
    for folder in (home / "batches").glob("*/"):
        try:
            batch = Batch.read(folder)
        except (OSError, ValueError):
            batch = Batch(folder, "", folder, folder.stat().st_mtime)
        if batch.created < limit and not batch.running:
            found.append(batch)
    return found


def _erased(folder: Path) -> bool:
    """Remove the folder of a batch; whether all of it has gone. order.json is the last to go: until
    then the batch is in the list, to be deleted again."""
    with suppress(OSError):
        for path in [p for p in folder.iterdir() if p.name != "order.json"]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()
        if {p.name for p in folder.iterdir()} <= {"order.json"}:
            shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def purge(home: Path, days: int, store: Store) -> None:
    """Remove the batches of ``past``; where the audit cannot be written, they stay.

    Raises StoreUnavailable and OSError.
    """
    from core.store import PROGRAM

    if not past(home, days):
        return
    with _claims(home / "batches"):
        old = past(home, days)  # again: one may have gone on, and another process removes them, too
        if not old:
            return
        store.audit("batches.purged", PROGRAM, batches=len(old))
        stay = sum(not _erased(batch.folder) for batch in old)
    level = logging.WARNING if stay else logging.INFO
    log.log(level, "%d batches were past their time; %d of them stay.", len(old), stay)


def new_name() -> str:
    """For a batch that is to begin: the name of its folder, which no other one has."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def of_folder(path: str, settings: Settings, name: str | None = None) -> Batch:
    """Score a folder on this machine; raises PathRefused and BatchFailed. name: of ``new_name``."""
    source = resolve(path.strip(), settings.roots)
    if not source.is_dir() and not zipfile.is_zipfile(source):
        raise BatchFailed("Please name a folder or a ZIP archive.")
    return _begin(str(source), source, _new_folder(settings.home, name))


def is_mixed(names: Sequence[str]) -> bool:
    """Whether there is an archive among other files, where it would be one file that is refused."""
    return len(names) > 1 and any(name.lower().endswith(".zip") for name in names)


def of_files(
    files: Sequence[tuple[str, bytes]], settings: Settings, name: str | None = None
) -> Batch:
    """Score files that were dropped, or the members of one dropped ZIP archive. name: of
    ``new_name``."""
    folder = _new_folder(settings.home, name)
    source = folder / "dropped.zip"
    [(first, data), *more] = files
    try:
        if not more and data.startswith(b"PK\x03\x04"):
            if not zipfile.is_zipfile(io.BytesIO(data)):
                shutil.rmtree(folder, ignore_errors=True)
                raise BatchFailed(f"The archive {first} is damaged or incomplete.")
            write_atomically(source, lambda p: p.write_bytes(data), private=True)
        else:
            write_atomically(source, lambda p: _pack(p, files), private=True)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise BatchFailed(f"The files cannot be kept: {error.strerror}.") from error
    title = first if not more else f"{first} and {len(more)} more"
    return _begin(title, source, folder)


def _pack(path: Path, files: Sequence[tuple[str, bytes]]) -> None:
    """One archive of all; equal names are told apart by a number."""
    seen: set[str] = set()
    with zipfile.ZipFile(path, "w") as archive:
        for n, (name, data) in enumerate(files, 1):
            label = f"{n}/{name}" if name in seen else name
            seen.add(name)
            archive.writestr(label, data)


def _begin(title: str, source: Path, folder: Path) -> Batch:
    order = {"title": title, "source": str(source), "created": time.time()}
    write_json(folder / "order.json", order)
    batch = Batch.read(folder)
    try:
        batch.start()
    except BatchFailed:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return batch


def _new_folder(home: Path, name: str | None) -> Path:
    folder = home / "batches" / (name or new_name())
    make_private(folder)
    return folder
