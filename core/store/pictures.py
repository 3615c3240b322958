"""The pictures of the worklist: files named by the SHA-256 of their bytes, in BONE_HOME."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import PictureLost, StoreUnavailable
from core.files import write_atomically

log = logging.getLogger(__name__)
_NAME = re.compile(r"[0-9a-f]{64}")
_OWN = re.compile(r"\.?(?P<sha256>[0-9a-f]{64})(\..{8})?")  # a picture, or one half written


class Pictures:
    """A folder of files ``ab/abcd…``; the same bytes are kept once, whoever adds them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha256: str) -> Path:
        """Where the picture of that digest lies, whether it is there or not."""
        if not _NAME.fullmatch(sha256):
            raise ValueError("not a SHA-256")
        return self._folder / sha256[:2] / sha256

    def put(self, data: bytes) -> str:
        """Keep the bytes, readable by this user alone; their digest. Raises StoreUnavailable.

        What is there already is as new as what is written: ``old`` leaves it alone.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.path(sha256)
        try:
            if path.exists():
                os.utime(path)
            else:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_atomically(path, lambda p: p.write_bytes(data), private=True)
        except OSError as error:
            raise StoreUnavailable("The picture could not be written to BONE_HOME.") from error
        return sha256

    @contextmanager
    def adding(self) -> Iterator[Callable[[bytes], str]]:
        """``put`` within a transaction: where what is done in here fails, what is new goes again.

        Leave it before the transaction ends. Whether a commit that failed was done after all, as
        where a connection was lost, nobody knows: then the pictures stay for ``old``.
        """
        new: list[Path] = []

        def put(data: bytes) -> str:
            path = self.path(hashlib.sha256(data).hexdigest())
            if not path.exists():
                new.append(path)
            return self.put(data)

        try:
            yield put
        except BaseException:
            for path in new:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            raise

    def old(self, before: float) -> set[str]:
        """Digests of the pictures that were put before then (seconds since 1970), and of those that
        a crash left half written."""
        found = set()
        for path in self._folder.glob("*/*"):
            own = _OWN.fullmatch(path.name)
            with suppress(OSError):  # removed meanwhile
                if own and path.is_file() and path.stat().st_mtime < before:
                    found.add(own["sha256"])
        return found

    def get(self, sha256: str) -> bytes:
        """The bytes of that digest, checked; raises PictureLost, and StoreUnavailable where it may
        be there again in a moment."""
        try:
            data = self.path(sha256).read_bytes()
        except OSError as error:
            gone = isinstance(error, FileNotFoundError) and self._folder.is_dir()
            kind = PictureLost if gone else StoreUnavailable
            raise kind("The picture of this study cannot be read.") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise PictureLost("The picture of this study is damaged.")
        return data

    def remove(self, digests: Collection[str]) -> int:
        """Remove these pictures, and what a crash left half written of them; how many there were.

        All else stays, whoever put it there. What cannot be removed stays for now, with a line in
        the log.
        """
        removed = 0
        for path in self._folder.glob("*/*"):
            own = _OWN.fullmatch(path.name)
            if not own or own["sha256"] not in digests:
                continue
            try:
                path.unlink(missing_ok=True)
                removed += bool(_NAME.fullmatch(path.name))
            except OSError as error:
                log.error("A picture stays, %s: %s", type(error).__name__, path.name)
        return removed
