"""The pictures of the worklist: files named by the SHA-256 of their bytes, in BONE_HOME."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import PictureLost, StoreUnavailable
from core.files import write_atomically

log = logging.getLogger(__name__)
_NAME = re.compile(r"[0-9a-f]{64}")
_OWN = re.compile(r"(?P<half>\.)?(?P<sha256>[0-9a-f]{64})(?(half)\..{8})")  # or one half written
_stays: set[Path] = set()
"""Pictures that this process could not remove, so that it does not begin anew at each look."""


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

        What is there already is as new as what is written, by ``there``; what is damaged is written
        anew.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.path(sha256)
        try:
            if _holds(path, data):
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
        where a connection was lost, nobody knows: then the pictures stay until they are old.
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

    def there(self) -> dict[str, float]:
        """By the digest of each picture, also of those that a crash left half written, when the
        oldest file of it was put (seconds since 1970). It walks all of them."""
        found: dict[str, float] = {}
        for path in self._folder.glob("*/*"):
            own = _OWN.fullmatch(path.name)
            if own and path.parent.name == own["sha256"][:2]:
                with suppress(OSError):  # removed meanwhile
                    put = path.stat().st_mtime
                    found[own["sha256"]] = min(put, found.get(own["sha256"], put))
        return found

    def stay(self, digests: Collection[str]) -> bool:
        """Whether all of these could not be removed when this process tried it last."""
        return all(self.path(sha256) in _stays for sha256 in digests)

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

    def remove(self, digests: Collection[str], before: float = math.inf) -> int:
        """Remove these pictures, and what a crash left half written of them; how many there were.

        before: of their files those alone that were put before then (seconds since 1970). All else
        stays, whoever put it there. What cannot be removed stays for now, with a line in the log.
        """
        removed = 0
        for sha256 in digests:
            picture = self.path(sha256)
            _stays.discard(picture)
            for path in (picture, *picture.parent.glob(f".{sha256}.????????")):
                try:
                    if path.stat().st_mtime < before:
                        path.unlink()
                        removed += path == picture
                except FileNotFoundError:
                    continue
                except OSError as error:
                    _stays.add(picture)
                    log.error("A picture stays, %s: %s", type(error).__name__, path.name)
        return removed


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:  # lost, or on a bad block: written anew
        return False
