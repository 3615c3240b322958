"""The process: take in, score what is quiet, send what waits, until it is told to stop."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable

from core.pacs import sender
from core.pacs.inbox import Arrived, Inbox
from core.pacs.outbox import Outbox
from core.pacs.scoring import Scorer

log = logging.getLogger(__name__)
PAUSE = 0.5
"""Seconds between two looks at the inbox, the folder and the outbox."""


def work(
    inbox: Inbox,
    scorer: Scorer,
    quiet: float,
    stop: threading.Event,
    poll: Callable[[], object] = lambda: None,
) -> None:
    """Score until ``stop``; ``poll`` is called before each look at the inbox."""
    while not stop.is_set():
        poll()
        for study in inbox.due(quiet):
            score_one(inbox, scorer, study)
            if stop.is_set():
                return
        inbox.forget_old()
        stop.wait(PAUSE)


def score_one(inbox: Inbox, scorer: Scorer, study: Arrived) -> None:
    """The boundary of one study: whatever it raises, the next ones are scored."""
    try:
        scorer.score(study)
    except Exception as error:  # noqa: BLE001 - one odd study must not stop the others
        where = "".join(traceback.format_tb(error.__traceback__))  # no message: it may quote values
        log.error("A study could not be scored: %s\n%s", type(error).__name__, where)
        inbox.failed(study)
    else:
        inbox.done(study)


def keep_sending(outbox: Outbox, calling: str, stop: threading.Event) -> None:
    """Send until ``stop``, in a thread of its own: an archive that is slow delays no result."""
    while not stop.is_set():
        outbox.send(lambda to, items: sender.send(to, items, calling))
        stop.wait(PAUSE)
