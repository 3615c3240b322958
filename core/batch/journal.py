"""What a run has done so far, beside its output: ``<out>.run/``.

    lock            held by the process that writes; freed by the system when it dies
    run.json        what is scored, by which release and engine; written once
    inputs.jsonl    the names, a line each, as they were when the run began
    journal.jsonl   a record for each input, in the same order; only ever appended

The list of inputs is frozen, so a resumed run ends with the rows of one that was never cut off.
A line that a crash or a full disk cut short is dropped when the journal is opened again.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from core import locks
from core.batch.inputs import without_password
from core.errors import BatchFailed, BegunOtherwise
from core.files import write_atomically, write_json

Record = dict[str, Any]

REMEMBERED = 100_000  # digests whose place in the journal is known: 15 MB at most
OTHER_RUN = "Another run is writing into this output."
NO_LOCKS = (
    "The output is on a file system that cannot lock files: please choose one on a local disk."
)
UNWRITABLE = "The output cannot be written: {}."
KEPT = "Results so far are kept: continue with --resume."
FULL = "The disk is full. Results so far are kept: free some space and continue with --resume."


def folder_of(out: Path) -> Path:
    """Where the journal of a run into ``out`` lies."""
    return out.with_name(f"{out.name}.run")


class Journal:
    """The journal of one run, held by one process. Use as a context."""

    def __init__(self, out: Path) -> None:
        self.folder = folder_of(out)
        self.done = 0
        self.total = 0
        self._places: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def __enter__(self) -> Journal:
        """Take the lock; raises BatchFailed if another run has it, or none can."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("a")
        except OSError as error:
            raise BatchFailed(UNWRITABLE.format(error.strerror)) from error
        try:
            locks.take(self._lock)
            same = os.path.samestat(os.fstat(self._lock.fileno()), os.stat(self.folder / "lock"))
        except OSError as error:
            self._lock.close()
            raise BatchFailed(_not_locked(error)) from error
        if not same:  # removed by a run that has just finished
            self._lock.close()
            raise BatchFailed(OTHER_RUN)
        self._file: IO[bytes] | None = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
        self._lock.close()

    @property
    def unfinished(self) -> bool:
        """Whether there is a run that was cut off."""
        return (self.folder / "run.json").exists()

    def begin(self, facts: Record, names: Iterable[str]) -> None:
        """Freeze the inputs and start an empty journal. facts: what ``resume`` compares, and what
        somebody needs who goes on."""
        with disk():
            for name in ("run.json", "journal.jsonl"):
                (self.folder / name).unlink(missing_ok=True)
            write_atomically(self.folder / "inputs.jsonl", lambda path: self._freeze(path, names))
            (self.folder / "journal.jsonl").touch()
            write_json(self.folder / "run.json", facts | {"total": self.total})
        self._open()

    def resume(self, facts: Record) -> None:
        """Go on with a run; raises BegunOtherwise if it was begun with other facts."""
        began = self._began()
        if engine := began.get("engine"):  # an older version told the number of threads, too
            began["engine"] = re.sub(r", \d+ threads?", "", engine)
        for key, value in facts.items():
            if began.get(key) != value:
                raise BegunOtherwise(
                    f"The run was begun with another {key.replace('_', ' ')} "
                    f"({began.get(key)}, now {value}).",
                    f"Continue with that one, or remove {self.folder} to start over.",
                )
        self.total = began["total"]
        self._open()

    def _began(self) -> Record:
        """run.json, from now on without the password that an older version wrote into it."""
        path = self.folder / "run.json"
        began: Record = json.loads(path.read_text(encoding="utf-8"))
        source = without_password(str(began.get("source")))
        if began.get("source") not in (source, None):
            began["source"] = source
            with disk():
                write_json(path, began)
        return began

    def remaining(self) -> Iterator[str]:
        """The names that have no record yet, in order."""
        with (self.folder / "inputs.jsonl").open(encoding="utf-8") as lines:
            for line in islice(lines, self.done, None):
                yield json.loads(line)

    def append(self, records: Sequence[Record]) -> None:
        """Write and sync records; raises BatchFailed, the journal whole, if the disk is full."""
        assert self._file is not None
        lines = [json.dumps(r, ensure_ascii=False).encode() + b"\n" for r in records]
        start = self._file.tell()
        try:
            with disk():
                self._file.write(b"".join(lines))
                self._file.flush()
                os.fsync(self._file.fileno())
        except BatchFailed:
            self._undo(start)
            raise
        for record, line in zip(records, lines, strict=True):
            self._remember(record["sha256"], start, len(line))
            start += len(line)
        self.done += len(records)

    def has(self, sha256: str) -> bool:
        """Whether these bytes have a record; asking counts as use."""
        try:
            self._places.move_to_end(sha256)
        except KeyError:
            return False
        return True

    def find(self, sha256: str) -> Record:
        """The record of these bytes; KeyError if it is not remembered."""
        offset, length = self._places[sha256]
        with (self.folder / "journal.jsonl").open("rb") as file:
            file.seek(offset)
            return json.loads(file.read(length))

    def records(self) -> Iterator[Record]:
        """All records, in the order of the inputs."""
        with (self.folder / "journal.jsonl").open("rb") as lines:
            for line in lines:
                yield json.loads(line)

    def pairs(self) -> Iterator[tuple[str, Record]]:
        """Each input's name with its record."""
        with (self.folder / "inputs.jsonl").open(encoding="utf-8") as names:
            for name, record in zip(names, self.records()):
                yield json.loads(name), record

    def remove(self) -> None:
        """The run is finished and its output is in place."""
        if self._file is not None:
            self._file.close()
            self._file = None
        (self.folder / "run.json").unlink(missing_ok=True)  # first: without it nothing is resumed
        shutil.rmtree(self.folder, ignore_errors=True)

    def _freeze(self, path: Path, names: Iterable[str]) -> None:
        with path.open("w", encoding="utf-8") as file:
            for name in names:
                file.write(json.dumps(name) + "\n")
                self.total += 1

    def _open(self) -> None:
        """Count the whole lines, drop what follows them, and remember the last digests."""
        path, end = self.folder / "journal.jsonl", 0
        self.done = 0
        with path.open("rb") as lines:
            for line in lines:
                record = _parsed(line)
                if record is None:
                    break
                self._remember(record["sha256"], end, len(line))
                end += len(line)
                self.done += 1
        self._file = path.open("r+b")
        self._undo(end)

    def _undo(self, end: int) -> None:
        """Cut the journal at a byte that a line ends on; whatever hinders that, ``_open`` mends."""
        assert self._file is not None
        try:
            self._file.truncate(end)
            self._file.seek(end)
        except OSError:
            return

    def _remember(self, sha256: str | None, offset: int, length: int) -> None:
        if sha256 is None or sha256 in self._places:
            return
        self._places[sha256] = (offset, length)
        while len(self._places) > REMEMBERED:
            self._places.popitem(last=False)


def _not_locked(error: OSError) -> str:
    if error.errno in (*locks.TAKEN, errno.ENOENT):  # removed by a run that has just finished
        return OTHER_RUN
    return NO_LOCKS if error.errno in locks.NONE else UNWRITABLE.format(error.strerror)


def _parsed(line: bytes) -> Record | None:
    """The record of a line; None if the line is cut or damaged."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "sha256" in record else None


@contextmanager
def disk() -> Iterator[None]:
    """Writes inside: a full disk, or one that refuses, is one sentence of BatchFailed."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BatchFailed(FULL) from error
        raise BatchFailed(f"The results cannot be written: {error.strerror}. {KEPT}") from error
