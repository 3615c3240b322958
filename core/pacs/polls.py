"""What the listener looks for beside what arrives: promotions, decisions, what is past its time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from core.batch import kept
from core.engines import choice
from core.errors import CascadeError, StoreUnavailable
from core.pacs.scoring import StudyScorer
from core.registry import Registry
from core.settings import Settings
from core.store import Store

log = logging.getLogger(__name__)
FOLLOW, AGAIN = 5.0, 60.0  # seconds to the next look for a promotion; after one that failed
DECIDED = frozenset(("decision.made", "decision.undone", "study.arrived"))
"""What of the audit may make a study one that is to be reported."""


def following(scorer: StudyScorer, settings: Settings) -> Callable[[], object]:
    """``follow``, now and then: what failed may take long, and studies wait for it."""
    later = 0.0

    def look() -> None:
        nonlocal later
        if time.monotonic() >= later:
            well = follow(scorer, settings)
            later = time.monotonic() + (FOLLOW if well else AGAIN)

    return look


def follow(scorer: StudyScorer, settings: Settings) -> bool:
    """Use the release that the name means now: one that was rolled back assesses nothing more.

    Returns False where that cannot be used here, and the one in use stays.
    """
    try:
        wanted = Registry.open(settings.weights).find(settings.release, settings.mode)
        if wanted.sha256 != scorer.cascade.release.sha256:
            scorer.cascade = choice.load(settings)
            log.warning("Release %s is used from now on.", scorer.cascade.release.id)
    except CascadeError as error:  # weights, processor or engine
        log.error("The release in use stays %s: %s", scorer.cascade.release.id, error)
        return False
    return True


def purge(store: Store, settings: Settings) -> None:
    """Remove what is past its time; where that fails, studies are assessed all the same."""
    try:
        store.purge()
        if settings.retention_days is not None:
            kept.purge(settings.home, settings.retention_days, store)
    except (OSError, StoreUnavailable) as error:
        log.error("What is past its time could not be removed: %s", type(error).__name__)


def when_decided(store: Store, poll: Callable[[], object], wait: float) -> Callable[[], object]:
    """``poll`` where something was decided ``wait`` seconds ago, and else each minute, for what
    waits for a share or for weights: it goes through every study that was decided."""
    newest, last = 0, -math.inf
    due: list[float] = []

    def look() -> None:
        nonlocal newest, last
        newest, events = store.events_since(newest)
        now = time.monotonic()
        if events & DECIDED:
            due.append(now + wait)
        if now - last >= AGAIN or (due and due[0] <= now):
            poll()
            last = now
            due[:] = [then for then in due if then > now]

    return look
