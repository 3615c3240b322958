"""What happens on the pages goes into the audit before it happens; what cannot be written does not.

Decisions, exports and jobs are written by the modules that do them, in the same transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import streamlit as st

from core.errors import CascadeError
from core.settings import Settings

if TYPE_CHECKING:
    from core.store import Store
    from core.types import ImageResult

log = logging.getLogger(__name__)


def write(event: str, actor: str, **facts: str | int | float | bool | None) -> None:
    """Add a line; raises StoreUnavailable, and then the action must not happen.

    facts: digests, releases, counts, roles. Never the name of a file or a person's words.
    """
    _begun().audit(event, actor, **facts)


def facts(digest: str, result: ImageResult) -> dict[str, str]:
    """What the audit says of a result: digests and labels, no name. recognised: where the reader
    chose another part."""
    said = {"sha256": digest, "release": result.release}
    if result.body_part is None or result.fracture is None:
        return said | {"finding": "refused"}
    part, recognised = str(result.part), str(result.body_part.label)
    said |= {"part": part, "finding": result.fracture.finding.value}
    return said if part == recognised else said | {"recognised": recognised}


def numbered(digests: Iterable[str | None]) -> dict[str, str]:
    """As facts of one line: those that are there, each once, in their order."""
    return {
        f"sha256_{n}": digest for n, digest in enumerate(dict.fromkeys(filter(None, digests)), 1)
    }


def warm() -> None:
    """Open the audit before somebody waits for it; where that fails, the first action says so."""
    try:
        _begun()
    except CascadeError as error:
        log.error("The audit cannot be written: %s", error)


@st.cache_resource(show_spinner=False)
def store() -> Store:
    """The store that all sessions share; raises StoreUnavailable, SettingsInvalid."""
    from core.store import Store  # not on the way to the first page: SQLAlchemy takes a second

    return Store.open(Settings.from_environment())


@st.cache_resource(show_spinner=False)
def _begun() -> Store:
    """The store, when its audit has a line that this process serves, and by which release."""
    store().audit("app.started", "system", release=Settings.from_environment().release)
    return store()
