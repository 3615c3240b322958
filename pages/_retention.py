"""What is past its time goes once an hour, whatever page is used or none."""

from __future__ import annotations

import contextlib
import logging
import threading
import time

from core.settings import Settings

log = logging.getLogger(__name__)
_once = threading.Lock()  # of the process, and never given back


def start(settings: Settings) -> None:
    """Begin, in a thread of its own, where anything has an end and no thread does it already."""
    if settings.retention_days is not None and _once.acquire(blocking=False):
        threading.Thread(target=_keep, args=(settings,), name="retention", daemon=True).start()


def _keep(settings: Settings) -> None:
    from core.store import PURGE_SECONDS  # not on the way to the first page

    while True:
        purge(settings)
        time.sleep(PURGE_SECONDS)


def purge(settings: Settings) -> None:
    """Remove pictures and names of old studies, and old batches.

    The boundary of the thread: what goes wrong is in the log, and is tried again an hour later.
    """
    from core.batch import kept
    from core.store import Store

    if settings.retention_days is None:
        return
    try:
        with contextlib.closing(Store.open(settings)) as store:  # removes old studies as it opens
            kept.purge(settings.home, settings.retention_days, store)
    except Exception:
        log.exception("What is past its time could not be removed.")
