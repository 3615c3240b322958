"""The cascade of a release, one for all sessions, loaded beside the page and not before it.

Importing torch and reading a release takes seconds. The first page is drawn without either; then a
thread loads the cascade while the reader looks for a file. Nothing in this module imports torch.

A session keeps the release that it began with, whatever is promoted meanwhile: the figures beside
two radiographs of one case are those of one release. It is told, and changes when it wants to.
"""

from __future__ import annotations

import functools
import gc
import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from core.optional import absent_parts
from core.settings import Settings
from core.types import BODY_PART, BodyPart

if TYPE_CHECKING:
    from core.cascade import Cascade

PINNED = "release"
RELEASES_KEPT = 3  # in memory, for sessions that began with them


class Loader:
    """Loads the cascade of one process, once, when it is asked to."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._future: Future[Cascade] | None = None

    def start(self) -> Future[Cascade]:
        """The cascade to be; the future raises what ``Cascade.load`` raises."""
        with self._lock:
            if self._future is None:
                executor = ThreadPoolExecutor(1, thread_name_prefix="cascade")
                self._future = executor.submit(_load, self.settings)
                executor.shutdown(wait=False)
            return self._future

    @property
    def done(self) -> bool:
        """Whether there is a cascade or a reason why there is none."""
        return self._future is not None and self._future.done()

    @property
    def failure(self) -> BaseException | None:
        """Why there is no cascade; None while nobody knows, and when there is one."""
        return self._future.exception() if self._future is not None and self.done else None


def loader() -> Loader:
    """The loader of the release that this session began with; raises SettingsInvalid."""
    settings = Settings.from_environment()
    pinned = st.session_state.setdefault(PINNED, named(settings))
    return _shared(pinned, settings)


@st.cache_resource(show_spinner=False, max_entries=RELEASES_KEPT)
def _shared(release: str, _settings: Settings) -> Loader:
    return Loader(replace(_settings, release=release) if release else _settings)


def named(settings: Settings) -> str:
    """The id that the release's alias names now; empty where the manifest does not say."""
    path = settings.weights / "manifest.json"
    try:
        found = path.stat()
        return _named(path, settings.release, (found.st_mtime_ns, found.st_ino, found.st_size))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


@functools.lru_cache(maxsize=8)
def _named(path: Path, alias: str, version: tuple[int, int, int]) -> str:
    """version: of the file, which is replaced as a whole; every run of a page asks."""
    return str(json.loads(path.read_text(encoding="utf-8"))["aliases"].get(alias, alias))


def parts() -> tuple[BodyPart, ...]:
    """The parts that the release of this session has a fracture model for that is installed here,
    as ``Release.parts``; empty where the manifest is unreadable."""
    settings = Settings.from_environment()
    path = settings.weights / "manifest.json"
    try:
        found = path.stat()
        version = found.st_mtime_ns, found.st_ino, found.st_size
        entry = _entry(path, st.session_state.get(PINNED) or named(settings), version)
        absent = absent_parts(entry, lambda file: (settings.weights / file).exists())
        here = sorted(set(entry["stages"]) - {BODY_PART, *absent})
        return tuple(BodyPart(name) for name in here)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return ()


@functools.lru_cache(maxsize=8)
def _entry(path: Path, release: str, version: tuple[int, int, int]) -> dict[str, Any]:
    """As it stands in the manifest: the module of ``Release`` imports OpenCV, which the first page
    does without."""
    releases = json.loads(path.read_text(encoding="utf-8"))["releases"]
    return next(dict(r) for r in releases if r["id"] == release)


def newer() -> str:
    """The release that was promoted since this session began; empty where there is none."""
    now = named(Settings.from_environment())
    return now if now and now != st.session_state.get(PINNED) else ""


def change() -> None:
    """From now on use the release that the alias names."""
    st.session_state.pop(PINNED, None)


def retry() -> None:
    """Forget a failed load, so that the next page starts another one."""
    _shared.clear()
    change()


def _load(settings: Settings) -> Cascade:
    from core.engines import choice

    cascade = choice.load(settings)
    # Streamlit collects garbage after every run of a page, and looked each time at all that torch
    # and others had made when they were imported.
    gc.unfreeze()  # what was there at the load before this one may be garbage by now
    gc.collect()
    gc.freeze()
    return cascade
