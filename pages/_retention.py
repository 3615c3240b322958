"""What is past its time goes once an hour, whatever page is used or none."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from core.settings import Settings

if TYPE_CHECKING:
    from core.store import Store

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
    from core.store import Store

    if settings.retention_days is None:
        return
    try:
        with contextlib.closing(Store.open(settings)) as store:  # removes old studies as it opens
            _batches_of(settings.home, settings.retention_days, store)
    except Exception:
        log.exception("What is past its time could not be removed.")


def _batches_of(home: Path, days: int, store: Store) -> None:
    """Remove old batches; where the audit cannot be written, they stay."""
    from core.errors import BatchFailed
    from core.store import PROGRAM
    from pages import _batches

    if not (old := _batches.past(home, days)):
        return
    store.audit("batches.purged", PROGRAM, batches=len(old))
    for batch in old:
        with contextlib.suppress(BatchFailed):  # it runs again
            batch.remove()
    stay = sum(batch.folder.exists() for batch in old)
    level = logging.WARNING if stay else logging.INFO
    log.log(level, "%d batches were past their time; %d of them stay.", len(old), stay)
