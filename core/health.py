"""Whether a process of this program could work: release, store, disk, device, PACS."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.errors import CascadeError, of_disk
from core.files import make_private
from core.settings import Settings

log = logging.getLogger(__name__)
LEAST_FREE = 2**30


@dataclass(frozen=True)
class Look:
    """One thing that was looked at. detail: what it is, or a sentence about what is wrong."""

    name: str
    ok: bool
    detail: str


def examine(settings: Settings) -> list[Look]:
    """Look at everything; nothing is raised for what is not well."""
    return [_look(name, check, settings) for name, check in CHECKS.items()]


def _look(name: str, check: Callable[[Settings], str], settings: Settings) -> Look:
    try:
        return Look(name, True, check(settings))
    except CascadeError as error:
        return Look(name, False, str(error))
    except OSError as error:
        return Look(name, False, of_disk(error))
    except Exception as error:  # the boundary of one look: the others are told all the same
        log.exception("Could not look at %s.", name)
        return Look(name, False, f"The check failed ({type(error).__name__}).")


def _release(settings: Settings) -> str:
    """Every weights file against its SHA-256."""
    from core.errors import WeightsInvalid
    from core.registry import Registry

    registry = Registry.open(settings.weights)
    release = registry.find(settings.release)
    problems = registry.verify(release)
    if problems:
        raise WeightsInvalid(" ".join(problems))
    return release.id


def _store(settings: Settings) -> str:
    """The database answers. The chain of the audit is what ``audit --verify`` walks.

    None is made for the look: an empty one would say that all is well of a home that is not used.
    """
    from core.errors import StoreOutdated, StudyNotFound
    from core.store import Store

    if not Store.is_made(settings):
        _place(settings.home.absolute())
        return "none yet; it is made when the program first starts"
    try:
        store = Store.open(settings, look=True)  # it looks each minute, and changes nothing
    except StoreOutdated as error:  # the program, which brings them up, starts after this look
        return str(error)
    with contextlib.suppress(StudyNotFound):  # it was asked, and has answered
        store.study("health")
    store.close()
    return "PostgreSQL" if settings.database_url.startswith("postgres") else "SQLite"


def _disk(settings: Settings) -> str:
    """BONE_HOME can be written, or made where there is none, and has a gigabyte left."""
    home = settings.home.absolute()
    place = _place(home)
    if place == home:
        make_private(home)
        with tempfile.NamedTemporaryFile(dir=home) as file:
            file.write(b"health")
            file.flush()
    free = shutil.disk_usage(place).free
    if free < LEAST_FREE:
        raise OSError(f"Only {free / 2**20:.0f} MB are free where BONE_HOME lies.")
    return f"{free / 2**30:.1f} GB free{'' if place == home else '; BONE_HOME is not there yet'}"


def _place(home: Path) -> Path:
    """``home``, or where it would be made if it is not there; raises OSError if it cannot be."""
    place = next(p for p in (home, *home.parents) if p.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise OSError(f"BONE_HOME cannot be made or written in {place}.")
    return place


def _device(settings: Settings) -> str:
    from core.device import choose

    return choose(settings.device).description


def _pacs(settings: Settings) -> str:
    """What waits. A backlog is told and is no failure, or the pages would not start for it."""
    from core.pacs.inbox import Inbox
    from core.pacs.outbox import Outbox

    home = settings.home / "pacs"
    if not (home / "inbox").is_dir() or not (home / "outbox").is_dir():
        return "not used"
    try:
        waiting, resting = Inbox.counts(home / "inbox")
        unsent, failed = Outbox.counts(home / "outbox")
    except OSError as error:
        return f"what waits could not be counted: {of_disk(error)}"
    to = ", ".join(f"{count} to {name}" for name, count in sorted(unsent.items()))
    return (
        f"{waiting} studies wait to be assessed, {resting} could not be; {unsent.total()} objects "
        f"wait to be sent{f' ({to})' if to else ''}, {failed} could not be"
    )


CHECKS = {
    "release": _release,
    "store": _store,
    "disk": _disk,
    "device": _device,
    "pacs": _pacs,
}
