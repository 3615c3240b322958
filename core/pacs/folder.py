"""A watched folder: files that are dropped into it come to the inbox, once each."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from core import imaging
from core.errors import ImageRejected
from core.files import append_event, write_atomically
from core.pacs.inbox import Inbox
from core.pacs.study_uid import keep
from core.settings import ImageLimits
from core.study import is_uid, key_of
from core.system_files import of_the_system
from core.words import printable

log = logging.getLogger(__name__)
_Stamp = tuple[str, int, int]  # digest of a file's name below the folder, size, time


class WatchedFolder:
    """``poll`` again and again. seen: a file that tells what was taken before a restart.

    It is kept for ever, and a name may be a patient's: so it holds digests of the names.
    """

    def __init__(self, folder: Path, seen: Path, limits: ImageLimits) -> None:
        self._folder, self._seen_file, self._limits = folder, seen, limits
        self._last: set[_Stamp] = set()
        self._seen: set[_Stamp] = set()
        self._refused: set[_Stamp] = set()
        named = False
        for line in seen.read_bytes().splitlines() if seen.exists() else ():
            try:
                said = json.loads(line)
                name, size, time = said.get("stamp") or said["taken"]
                # An older version wrote the name itself.
                self._seen.add((name if "stamp" in said else _digest(name), size, time))
            except (ValueError, KeyError, TypeError, AttributeError):  # damaged: taken once more
                continue
            named = named or "taken" in said
        if named:
            lines = "".join(json.dumps({"stamp": s}) + "\n" for s in self._seen)
            write_atomically(seen, lambda path: path.write_text(lines))

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
            if of_the_system(str(name)) or path.is_symlink():
                continue
            try:
                status = path.stat()
            except OSError:  # moved away in the meantime
                continue
            if path.is_file():
                yield (_digest(str(name)), status.st_size, status.st_mtime_ns), path

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
            later = not self._put(data, path, stamp, inbox)
        if not later:
            self._seen.add(stamp)
            append_event(self._seen_file, {"stamp": stamp})
        return not later

    def _put(self, data: bytes, path: Path, stamp: _Stamp, inbox: Inbox) -> bool:
        """Whether it is in the inbox, or nothing for it; where the disk refuses it, the others are
        taken."""
        if imaging.is_beside(data, self._limits):  # as the listener does: no study of its own
            log.info("A report, or a picture of this program, was passed over in the folder.")
            return True
        header, uid = imaging.peek_with_uid(data, self._limits) or (None, "")
        if header and not header.patient and not is_uid(uid.strip()):
            uid = ""  # an odd one, "0" perhaps, of files that name no patient may be anybody's
        # As from the network: the same object under another name is no second view.
        own = f"{header.instance_uid}.dcm" if header and header.instance_uid else ""
        name = printable(str(path.relative_to(self._folder)))
        try:
            # By its whole name where it has no UID of its own: a view may lie in another folder.
            if not keep(inbox, uid, own or name, data):
                # As if it were a folder: what else lies beside it may be of anybody.
                key, file = key_of(f"{name}/-"), own or printable(path.name)
                key += "/" * is_uid(key)  # a file that is called 3.1
                inbox.put(key, file, data, instead=True)
        except OSError as error:
            if stamp not in self._refused:  # once, and not with every poll
                log.error("A file in the watched folder cannot be kept: %s", type(error).__name__)
            self._refused.add(stamp)
            return False
        return True


def _digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()
