"""What there is to read: the files below a folder, or the members of a ZIP archive.

An archive is read member by member and never unpacked, so the names in it decide nothing: not where
anything is written, nor how large it becomes.
"""

from __future__ import annotations

import hashlib
import logging
import lzma
import os
import re
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

from core import imaging
from core.errors import BatchFailed, ImageRejected, PathRefused
from core.roots import resolve
from core.settings import ImageLimits
from core.system_files import of_the_system
from core.words import printable

log = logging.getLogger(__name__)

A = TypeVar("A")

# What zipfile raises for a damaged, hostile or encrypted archive (RuntimeError: encrypted;
# NotImplementedError: an unknown compression; OSError also for offsets before its beginning).
DAMAGED = (
    zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, KeyError,
    struct.error, zlib.error, lzma.LZMAError,
)  # fmt: skip
PAUSES = (0.5, 2.0)  # seconds before a server that did not answer is asked again
# These are answers: asking again gives the same.
ANSWERS = (
    FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImageRejected,
)  # fmt: skip


class Source(Protocol):
    """A folder or an archive: its names in a fixed order, and the bytes of each."""

    def names(self) -> Iterator[str]:
        """Every file that is not the system's own, by its path below the source, in order."""

    def read(self, name: str, limits: ImageLimits) -> bytes:
        """The bytes of one file; raises ImageRejected. Thread-safe."""

    def there(self) -> bool:
        """Whether it can still be read itself; asked where one of its files could not be."""

    def label(self, name: str) -> str:
        """The name for a table, printable in UTF-8, and the same for the same source."""

    def opened(self) -> AbstractContextManager[object]:
        """Keeps open what has to stay open while files are read."""

    def version(self) -> str | None:
        """Changes where a name may mean another file than before; None where names are enough."""

    def below(self, path: Path) -> str | None:
        """The name of a file or folder of this computer in here; None for one that lies outside."""


def source_at(place: str | Path, roots: Sequence[Path] | None = None) -> Source:
    """The source at a path or an address; raises BatchFailed where there is none.

    place: a folder, a ZIP archive, or an address that fsspec knows, such as ``s3://bucket/folder``.
    roots: if given, the path and every file below it must lie inside of them (PathRefused).
    """
    if "://" in str(place) and roots is None:
        return Remote(str(place))
    path = Path(place)
    if roots is not None:
        path = resolve(path, roots)
    if path.is_dir():
        return Folder(path, roots)
    if path.is_file() and zipfile.is_zipfile(path):
        return Archive(path)
    raise BatchFailed(f"There is no folder or ZIP archive at {path}.")


class Folder:
    """A folder on the disk. Linked files are read; linked folders are not entered."""

    def __init__(self, path: Path, roots: Sequence[Path] | None = None) -> None:
        self._path = path
        self._roots = roots

    def names(self) -> Iterator[str]:
        """Depth first, sorted by name: the memory it takes is that of one folder's names."""
        yield from _below(self._path, "")

    def read(self, name: str, limits: ImageLimits) -> bytes:
        path = self._path / name
        if self._roots is not None:
            try:
                path = resolve(path.absolute(), self._roots)
            except PathRefused as error:
                raise ImageRejected(str(error)) from error
        return imaging.load(path, limits)

    def there(self) -> bool:
        """An empty folder is what stands where a file server was mounted."""
        try:
            with os.scandir(self._path) as found:  # asks the server, where stat may remember
                return next(found, None) is not None
        except OSError:
            return False

    def label(self, name: str) -> str:
        return printable(str(self._path / name))

    def opened(self) -> AbstractContextManager[object]:
        return nullcontext()

    def version(self) -> None:
        return None

    def below(self, path: Path) -> str | None:
        folder, inside = self._path.resolve(), path.resolve()
        return inside.relative_to(folder).as_posix() if inside.is_relative_to(folder) else None


def _below(folder: Path, prefix: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as found:
            entries = sorted((e.name, e.is_dir(follow_symlinks=False), _links(e)) for e in found)
    except OSError as error:
        raise BatchFailed(f"The folder {folder} cannot be read.") from error
    for name, is_folder, links_to_folder in entries:
        if of_the_system(f"{name}/" if is_folder else name):
            continue
        if is_folder:
            yield from _below(folder / name, f"{prefix}{name}/")
        elif not links_to_folder:
            yield prefix + name


def _links(entry: os.DirEntry[str]) -> bool:
    """Whether it is a link to a folder. One that cannot be followed, as in a circle, is a file:
    reading it gives its row the reason."""
    try:
        return entry.is_symlink() and entry.is_dir()
    except OSError:
        return False


class Archive:
    """A ZIP archive, read in place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
            self._written = _written(self._held())
        except DAMAGED as error:
            raise BatchFailed("The ZIP archive is damaged and cannot be read.") from error

    def names(self) -> Iterator[str]:
        """Positions, not names: a damaged archive may hold the same name twice."""
        for position, member in enumerate(self._zip.infolist()):
            if not member.is_dir() and not of_the_system(member.filename):
                yield str(position)

    def read(self, name: str, limits: ImageLimits) -> bytes:
        member = self._zip.infolist()[int(name)]
        if member.file_size > limits.max_bytes:
            raise ImageRejected("The file in the archive is larger than this program accepts.")
        try:
            with self._zip.open(member) as file:
                return file.read(limits.max_bytes + 1)
        except DAMAGED as error:
            raise ImageRejected("The file in the archive is damaged or encrypted.") from error

    def there(self) -> bool:
        """Whether nothing was written over the one that was opened. Where another one was renamed
        into its place, that one is still read."""
        try:
            held, now = self._held(), self._path.stat()
        except OSError:
            return False
        return not os.path.samestat(held, now) or _written(held) == self._written

    def _held(self) -> os.stat_result:
        assert self._zip.fp is not None
        return os.fstat(self._zip.fp.fileno())

    def label(self, name: str) -> str:
        """No two alike: equal names are told apart by a number."""
        position = int(name)
        return self._repeated.get(position) or printable(self._zip.infolist()[position].filename)

    @cached_property
    def _repeated(self) -> dict[int, str]:
        """Of the members, by their positions, whose name another one has before them: with a number
        behind it, as in its folder it stays a view of the same study."""
        names = [printable(member.filename) for member in self._zip.infolist()]
        taken, last, found = set(names), dict.fromkeys(names, 0), {}
        for position, name in enumerate(names):
            last[name] += 1
            if last[name] == 1:
                continue
            while (label := f"{name} ({last[name]})") in taken:
                last[name] += 1
            taken.add(label)
            found[position] = label
        return found

    def opened(self) -> AbstractContextManager[object]:
        return self._zip

    def version(self) -> str:
        """A digest of the list of members, by which names count."""
        members = [(m.filename, m.CRC, m.file_size) for m in self._zip.infolist()]
        return hashlib.sha256(repr(members).encode(errors="replace")).hexdigest()

    def below(self, path: Path) -> str | None:
        return None


def _written(file: os.stat_result) -> tuple[int, int]:
    """Size and time of the last write: other ones are of other contents."""
    return file.st_size, file.st_mtime_ns


class Remote:
    """A folder that fsspec reaches: ``s3://``, ``gs://``, ``memory://`` and others."""

    def __init__(self, address: str) -> None:
        try:
            from fsspec.core import url_to_fs

            self._files, self._root = url_to_fs(address)
        except (ImportError, ValueError) as error:
            shown = without_password(address)
            said = str(error).replace(address, shown)
            raise BatchFailed(f"Nothing here can read {shown}: {said}") from error
        scheme = address.partition("://")[0]
        root = self._root if "://" in self._root else f"{scheme}://{self._root}"
        self._place = without_password(root)

    def names(self) -> Iterator[str]:
        """Sorted as a local folder; the listing is held in memory, as the service returns it."""
        try:
            found = self._found()
        except BatchFailed:
            raise
        except Exception as error:  # the boundary of the listing: each service raises its own
            log.exception("A folder could not be listed.")
            raise BatchFailed(
                f"The folder at {printable(self._place)} cannot be listed ({type(error).__name__})."
            ) from error
        yield from sorted(
            (n for n in found if n and not of_the_system(n)),
            key=lambda n: n.split("/"),
        )

    def _found(self) -> list[str]:
        """Every name below the folder; to fsspec a folder that is not there is an empty one."""
        try:
            listed = self._files.find(self._root)
        except FileNotFoundError:
            listed = []
        names = [str(f).removeprefix(self._root).lstrip("/") for f in listed]
        if names == [""] and self._files.isfile(self._root):
            raise BatchFailed(
                f"{printable(self._place)} is a file: please name the folder that it is in."
            )
        if not names and not self._files.isdir(self._root):
            raise BatchFailed(f"There is no folder at {printable(self._place)}.")
        return names

    def read(self, name: str, limits: ImageLimits) -> bytes:
        try:
            return _answered(lambda: self._bytes(f"{self._root}/{name}", limits))
        except ImageRejected:
            raise
        except Exception as error:  # the boundary of one file: each service raises its own
            if isinstance(error, OSError):  # one line without names: it may be thousands of files
                log.info("A file could not be read from its server: %s", type(error).__name__)
            else:
                log.exception("A file could not be read from its server.")
            raise ImageRejected("The file could not be read from its server.") from error

    def _bytes(self, path: str, limits: ImageLimits) -> bytes:
        if (self._files.size(path) or 0) > limits.max_bytes:
            raise ImageRejected("The file is larger than this program accepts.")
        return self._files.cat_file(path, end=limits.max_bytes + 1)

    def there(self) -> bool:
        """``info`` and not ``exists``, which says no as well where no answer came."""
        try:
            self._files.invalidate_cache(self._root)  # else the listing of the beginning answers
            _answered(lambda: self._files.info(self._root))
        except Exception:  # each service raises its own
            log.exception("The folder of the batch can no longer be reached.")
            return False
        return True

    def label(self, name: str) -> str:
        return printable(f"{self._place}/{name}")

    def opened(self) -> AbstractContextManager[object]:
        return nullcontext()

    def version(self) -> None:
        return None

    def below(self, path: Path) -> str | None:
        return None


def _answered(request: Callable[[], A]) -> A:
    """What a server answers, asked again a little later where the connection failed."""
    for pause in PAUSES:
        try:
            return request()
        except ANSWERS:
            raise
        except Exception as error:  # noqa: BLE001 - each service raises its own
            log.info("A server did not answer: %s", type(error).__name__)
            time.sleep(pause)
    return request()


def absolute(place: str | Path) -> str:
    """The place whatever the current folder is."""
    return str(place) if "://" in str(place) else str(Path(place).absolute())


def without_password(address: str) -> str:
    """An address as it may be kept and shown: without user, password and query. A path stays."""
    if "://" not in address:
        return address
    return re.sub(r"\?.*?(?=::|$)", "", re.sub(r"://[^/?#]*@", "://", address))
