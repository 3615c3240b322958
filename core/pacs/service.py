"""The process: take in, score what is quiet, send what waits, until it is told to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from core.errors import NotStorable, StoreUnavailable, where
from core.pacs.inbox import Arrived, Inbox
from core.pacs.outbox import Outbox, Send, Tell
from core.pacs.scoring import StudyScorer

log = logging.getLogger(__name__)
PAUSE = 0.5
"""Seconds between two looks at the inbox, the folder and the outbox."""
LAST_OBJECTS = 5.0
"""Seconds that what is being sent has to end, when the process is told to stop."""
TROUBLE = 10.0
"""Seconds until the next look when the disk or the database did not answer."""
TIDY = 3600.0
"""Seconds between two walks through the whole inbox, which what arrives has to wait for."""


def work(
    inbox: Inbox,
    scorer: StudyScorer,
    quiet: float,
    stop: threading.Event,
    polls: Sequence[Callable[[], object]] = (),
) -> None:
    """Score until ``stop``; each of ``polls`` is called before each look at the inbox."""
    tidy = every(TIDY, inbox.forget_old)
    while not stop.is_set():
        well = all([_polled(poll) for poll in polls])
        try:
            for study in inbox.due(quiet):
                well &= score_one(inbox, scorer, study)
                if stop.is_set():
                    return
            tidy()
        except Exception as error:  # noqa: BLE001 - else nothing would ever be scored again
            _complain("The inbox could not be looked through", error)
            well = False
        stop.wait(PAUSE if well else TROUBLE)


def _polled(poll: Callable[[], object]) -> bool:
    """The boundary of one poll: what arrived is scored whatever becomes of it; False: it failed."""
    try:
        poll()
    except Exception as error:  # noqa: BLE001 - else nothing would ever be scored again
        _complain("A look beside the inbox failed", error)
        return False
    return True


def score_one(inbox: Inbox, scorer: StudyScorer, study: Arrived) -> bool:
    """The boundary of one study: whatever it raises, the next ones are scored.

    Returns False where the disk or the database did not answer: that is no fault of the study, so
    it does not count as one of its attempts. Raises OSError where not even that can be written.
    """
    try:
        read = scorer.score(study)
    except NotStorable as error:
        _complain("A study could not be put on the worklist", error)
        inbox.failed(study)
    except (OSError, StoreUnavailable) as error:
        _complain("A study could not be scored for now", error)
        return False
    except Exception as error:  # noqa: BLE001 - one odd study must not stop the others
        _complain("A study could not be scored", error)
        inbox.failed(study)
    else:
        inbox.done(study, read)
    return True


def keep_sending(
    outbox: Outbox,
    send: Send,
    stop: threading.Event,
    tell: Tell,
    superseded: Callable[[str], bool] = lambda _: False,
) -> None:
    """Send until ``stop``, in a thread of its own for each destination: an archive that is slow
    delays neither results nor what goes to another one. superseded: as of ``Outbox.send``."""
    busy: dict[str, threading.Thread] = {}
    while not stop.is_set():
        pause = PAUSE
        try:
            # Asked before it is looked what is due: else it could be due and sent meanwhile.
            sending = {name for name, thread in busy.items() if thread.is_alive()}
            for destination, due in outbox.due().items():
                if destination in sending:
                    continue
                tried = partial(outbox.send, destination, due, send, tell, superseded)
                busy[destination] = threading.Thread(target=_send, args=(tried, stop), daemon=True)
                busy[destination].start()
        except Exception as error:  # noqa: BLE001 - else nothing would ever be sent again
            _complain("The outbox could not be looked through", error)
            pause = TROUBLE
        stop.wait(pause)
    for thread in busy.values():
        thread.join(LAST_OBJECTS)


def _send(tried: Callable[[], object], stop: threading.Event) -> None:
    """The boundary of one batch for one destination."""
    try:
        tried()
    except Exception as error:  # noqa: BLE001 - the next batch is tried all the same
        _complain("The outbox could not be sent", error)
        stop.wait(TROUBLE)


def every(seconds: float, act: Callable[[], object]) -> Callable[[], object]:
    """``act``, but not more often than that."""
    last = -seconds

    def sometimes() -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            try:
                act()
            finally:  # what fails is not done at every poll either
                last = time.monotonic()

    return sometimes


def _complain(what: str, error: Exception) -> None:
    log.error("%s: %s", what, where(error))
