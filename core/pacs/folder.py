"""A watched folder: files that are dropped into it come to the inbox, once each."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

from core import imaging
from core.errors import ImageRejected
from core.files import append_event
from core.pacs.inbox import Inbox
from core.settings import ImageLimits
from core.study import key_of

log = logging.getLogger(__name__)
_Stamp = tuple[str, int, int]


class WatchedFolder:
    """``poll`` again and again. seen: a file that tells what was taken before a restart."""

    def __init__(self, folder: Path, seen: Path, limits: ImageLimits) -> None:
        self._folder, self._seen_file, self._limits = folder, seen, limits
        self._last: set[_Stamp] = set()
        self._seen: set[_Stamp] = set()
        self._refused: set[_Stamp] = set()
        for line in seen.read_text().splitlines() if seen.exists() else ():
            try:
                name, size, time = json.loads(line)["taken"]
            except (ValueError, KeyError, TypeError):  # cut short by a crash: taken once more
                continue
            self._seen.add((name, size, time))

    def poll(self, inbox: Inbox) -> int:
        """Take the files that did not change since the last call; how many."""
        now = dict(self._files())
        ready = [s for s in now if s in self._last and s not in self._seen]
        self._last = set(now)
        taken = [s for s in ready if self._take(now[s], s, inbox)]
        return len(taken)

    def _files(self) -> Iterator[tuple[_Stamp, Path]]:
        for path in sorted(self._folder.rglob("*")):
            name = path.relative_to(self._folder)
            if any(part.startswith(".") for part in name.parts) or path.is_symlink():
                continue
            try:
                status = path.stat()
            except OSError:  # moved away in the meantime
                continue
            if path.is_file():
                yield (str(name), status.st_size, status.st_mtime_ns), path

    def _take(self, path: Path, stamp: _Stamp, inbox: Inbox) -> bool:
        """Whether it was dealt with; where the disk refuses it for now, the next poll tries it."""
        try:
            data = imaging.load(path, self._limits)
        except ImageRejected as refusal:
            later = isinstance(refusal.__cause__, OSError)
            if stamp not in self._refused:  # once, and not with every poll
                log.warning("A file in the watched folder was not taken: %s", refusal.reason)
            self._refused.add(stamp)
        else:
            later = False
            self._put(data, path, stamp[0], inbox)
        if not later:
            self._seen.add(stamp)
            append_event(self._seen_file, {"taken": stamp})
        return not later

    def _put(self, data: bytes, path: Path, name: str, inbox: Inbox) -> None:
        header = imaging.peek(data, self._limits)
        # As from the network: the same object under another name is no second view.
        file = f"{header.instance_uid}.dcm" if header and header.instance_uid else path.name
        # As if the file were a folder: what else lies beside it may be of anybody, and comes later.
        key = key_of(f"{name}/-", header.study_uid if header else None)
        inbox.put(key, file, data, instead=True)
