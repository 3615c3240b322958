"""The audit: who did what and when, as a chain: each line holds the digest of the one before.

A changed or removed line breaks the chain. Lines removed at the end are told by the head, which is
kept in a table of its own, and by an anchor: a file in BONE_HOME with the number and digest of a
line written earlier, so that who can write to the database alone cannot rewrite the whole chain.
Who can write to both can; note the head that ``python -m core audit --verify`` prints elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.files import write_json
from core.store.tables import AuditEntry, AuditHead

log = logging.getLogger(__name__)
Fact = str | int | float | bool | None
ANCHOR = "audit.anchor.json"
BEFORE_THE_FIRST = "0" * 64
LONGEST_FACT = 200


@dataclass(frozen=True)
class AuditLine:
    """One thing that was done. time: ISO 8601, UTC. facts: a JSON object."""

    number: int
    time: str
    event: str
    actor: str
    facts: str


@dataclass(frozen=True)
class AuditReport:
    """entries: how many lines there are. head: digest of the last. problems: a sentence each."""

    entries: int
    head: str
    problems: tuple[str, ...]


def append(
    session: Session, head: AuditHead, event: str, actor: str, facts: dict[str, Fact]
) -> AuditEntry:
    """Add a line within the transaction of what it is about: both are written or neither is.

    Raises ValueError for a fact that is text of some length: it could be a name or a comment.
    """
    long = [k for k, v in facts.items() if isinstance(v, str) and len(v) > LONGEST_FACT]
    if long:
        raise ValueError(f"the facts {long} are too long for the audit")
    entry = AuditEntry(
        number=head.number + 1,
        time=datetime.now(UTC).isoformat(timespec="microseconds"),
        event=event,
        actor=actor,
        facts=json.dumps(facts, sort_keys=True, ensure_ascii=False),
        previous=head.digest,
    )
    entry.digest = digest_of(entry)
    session.add(entry)
    head.number, head.digest = entry.number, entry.digest
    session.flush()
    return entry


def lines(session: Session) -> list[AuditLine]:
    """Every line in order."""
    rows = session.scalars(select(AuditEntry).order_by(AuditEntry.number))
    return [AuditLine(r.number, r.time, r.event, r.actor, r.facts) for r in rows]


def events_since(session: Session, number: int) -> tuple[int, frozenset[str]]:
    """(number of the newest line, the events of the lines after ``number``)."""
    later = select(AuditEntry.number, AuditEntry.event).where(AuditEntry.number > number)
    found = session.execute(later).all()
    return max((n for n, _ in found), default=number), frozenset(event for _, event in found)


def is_ahead(session: Session, now: datetime) -> bool:
    """Whether the newest line says that it was written after ``now``; both are UTC, as text."""
    last = select(AuditEntry.time).order_by(AuditEntry.number.desc()).limit(1)
    return (session.scalars(last).first() or "") > now.isoformat(timespec="microseconds")


def digest_of(entry: AuditEntry) -> str:
    """SHA-256 over a line and the digest before it, 64 hexadecimal digits."""
    line = [entry.number, entry.time, entry.event, entry.actor, entry.facts, entry.previous]
    return hashlib.sha256(json.dumps(line, ensure_ascii=False).encode()).hexdigest()


def drop_anchor(session: Session, home: Path, entry: AuditEntry) -> None:
    """Remember a committed line outside the database; an old anchor is as true as a new one.

    Where the line that is remembered is not the one in the database, or the anchor cannot be read,
    it stays as it is for ``verify``: a new one would be true of a chain that somebody wrote anew.
    """
    before = _anchor(home)  # before the first look: another process may be writing both
    if isinstance(before, str):
        log.error("%s It stays as it is. See python -m core audit --verify.", before)
        return
    if isinstance(before, tuple):
        number, digest = before
        line = session.get(AuditEntry, number)
        if line is None or line.digest != digest:
            log.error(
                "Line %d of the audit is not the one that %s in BONE_HOME remembers; the file "
                "stays as it is. See python -m core audit --verify.",
                number,
                ANCHOR,
            )
            return
    try:
        write_json(home / ANCHOR, {"number": entry.number, "digest": entry.digest})
    except OSError:
        log.warning("The anchor of the audit could not be written.", exc_info=True)


def verify(session: Session, home: Path) -> AuditReport:
    """Walk the whole chain; every edit and every removal is a problem."""
    # Before the lines: one that is written meanwhile would be in the anchor and not among them.
    anchor = _anchor(home)
    problems: list[str] = []
    digests = {0: BEFORE_THE_FIRST}
    last = 0
    for entry in session.scalars(select(AuditEntry).order_by(AuditEntry.number)):
        if entry.number != last + 1:
            problems.append(f"The lines {last + 1} to {entry.number - 1} are missing.")
        elif entry.previous != digests[last]:
            problems.append(f"Line {entry.number} does not follow from the line before it.")
        if digest_of(entry) != entry.digest:
            problems.append(f"Line {entry.number} was changed.")
        last = entry.number
        digests[last] = entry.digest
    count = len(digests) - 1
    problems += _head_problems(session, last, digests[last])
    problems += _anchor_problems(anchor, digests)
    return AuditReport(count, digests[last], tuple(problems))


def _head_problems(session: Session, last: int, digest: str) -> list[str]:
    head = session.scalars(select(AuditHead)).one_or_none()
    if head is None:
        return ["The head of the audit is missing."]
    if head.number > last:
        return [f"The lines {last + 1} to {head.number} are missing at the end."]
    if (head.number, head.digest) != (last, digest):
        return ["The last line is not the one that was written last."]
    return []


def _anchor(home: Path) -> tuple[int, str] | str | None:
    """(number, digest) of the line that the anchor remembers; None without an anchor, and what is
    wrong with one that cannot be read."""
    try:
        anchor = json.loads((home / ANCHOR).read_text(encoding="utf-8"))
        return int(anchor["number"]), str(anchor["digest"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return f"{ANCHOR} in BONE_HOME cannot be read."


def _anchor_problems(anchor: tuple[int, str] | str | None, digests: dict[int, str]) -> list[str]:
    if anchor is None:
        return [] if len(digests) == 1 else [f"{ANCHOR} is missing in BONE_HOME."]
    if isinstance(anchor, str):
        return [anchor]
    number, digest = anchor
    if digests.get(number) != digest:
        return [f"Line {number} is not the one that {ANCHOR} in BONE_HOME remembers."]
    return []
