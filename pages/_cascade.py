"""One cascade for all sessions, loaded beside the page and not before it.

Importing torch and reading a release takes seconds. The first page is drawn without either; then a
thread loads the cascade while the reader looks for a file. Nothing in this module imports torch.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import streamlit as st

from core.settings import Settings

if TYPE_CHECKING:
    from core.cascade import Cascade


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


@st.cache_resource(show_spinner=False)
def loader() -> Loader:
    """The loader that all sessions share; raises SettingsInvalid."""
    return Loader(Settings.from_environment())


def retry() -> None:
    """Forget a failed load, so that the next page starts another one."""
    loader.clear()


def _load(settings: Settings) -> Cascade:
    from core.cascade import Cascade

    return Cascade.load(settings.weights, settings.release, settings.device)
