"""From rows to records: the worklist, one study, and which decisions are in force."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, false, func, or_, select
from sqlalchemy.orm import Session, selectinload

from core.store import tables as t
from core.store.records import (
    TELLING,
    Decision,
    Entry,
    Opinion,
    Query,
    Reassessment,
    Status,
    StudyRecord,
    has_decided,
    unpack,
)
from core.store.superseding import LISTENER, Places, places
from core.study import StudyResult
from core.types import BodyPart, Finding, ImageResult

REMOVED = "Removed"
WHOLE = (
    selectinload(t.Study.views),
    selectinload(t.Study.decisions),
    selectinload(t.Study.reassessments),
)


def entries(session: Session, wanted: Query) -> list[Entry]:
    """The lines of the worklist in their order: a handful of statements, however many there are."""
    counted = select(t.View.study_id, func.count()).group_by(t.View.study_id)
    views = {study: n for study, n in session.execute(counted)}
    decisions: dict[str, list[t.Decision]] = defaultdict(list)
    for row in session.scalars(select(t.Decision).order_by(t.Decision.number)):
        decisions[row.study_id].append(row)
    newer = places(session).newer
    found = [
        _entry(
            study, views.get(study.id, 0), in_force(decisions[study.id]), newer.get(study.id, "")
        )
        for study in session.scalars(_ordered(wanted))
    ]
    return [e for e in found if _fits(e, wanted)]


def records(session: Session, wanted: Query) -> list[StudyRecord]:
    """The studies asked for with all that is known of them: as few statements."""
    known = places(session)
    studies = session.scalars(_ordered(wanted).options(*WHOLE))
    found = [record(s, known) for s in studies]
    return [r for r in found if _fits(r, wanted)]


def one(session: Session, study: t.Study) -> StudyRecord:
    """A study with everything that is known of it."""
    return record(study, places(session, study))


def record(study: t.Study, known: Places) -> StudyRecord:
    """One study; all that ``WHOLE`` names is loaded already."""
    packed = [v.result for v in study.views]
    views = tuple(_unpacked(study, packed, study.release, study.release_sha256))
    result = StudyResult(
        study.delivered_key or study.key,
        views,
        BodyPart(study.body_part) if study.body_part else None,
        study.probability,
        Finding(study.finding) if study.finding else None,
        tuple(study.notes),
    )
    return StudyRecord(
        id=study.id,
        key=result.id,
        title=study.title,
        added=study.added,
        added_by=study.added_by,
        status=Status(study.status),
        release=study.release,
        release_sha256=study.release_sha256,
        label_means=study.label_means,
        result=result,
        stored=tuple(v.stored for v in study.views),
        decisions=in_force(study.decisions),
        history=tuple(decision(d) for d in study.decisions),
        purged=study.purged,
        reassessments=tuple(_reassessment(study, row) for row in study.reassessments),
        newer=known.newer.get(study.id, ""),
        older=tuple(sorted(known.older.get(study.id, ()))),
        missing=known.missing.get(study.id, 0),
        received=study.received,
    )


def _unpacked(
    study: t.Study, packed: Sequence[dict[str, Any]], release: str, release_sha256: str
) -> Iterator[ImageResult]:
    same: Counter[str | None] = Counter()
    for view, result in zip(study.views, packed, strict=True):
        same[view.sha256] += study.added_by == LISTENER or not same[view.sha256]
        yield unpack(result, view.name, view.sha256, release, release_sha256, same[view.sha256])


def _reassessment(study: t.Study, row: t.Reassessment) -> Reassessment:
    views = tuple(_unpacked(study, row.results, row.release, row.release_sha256))
    result = StudyResult(
        study.key,
        views,
        BodyPart(row.body_part),
        row.probability,
        Finding(row.finding),
        tuple(row.notes),
    )
    return Reassessment(
        result, row.release, row.release_sha256, row.label_means, row.made, row.asked_by
    )


def in_force(rows: Iterable[t.Decision]) -> tuple[Decision, ...]:
    """The newest decision of each reader that was not undone; the earliest reader first."""
    newest: dict[str, t.Decision] = {}
    for row in rows:
        known = newest.get(row.reader)
        if known is None or row.revision > known.revision:
            newest[row.reader] = row
    return tuple(decision(r) for r in newest.values() if r.opinion is not None)


def before(mine: Sequence[t.Decision]) -> Decision | None:
    """What an undo puts into force again; of revision 0 and without opinion: nothing.

    mine: the rows of one reader on one study. None: there is nothing to undo.
    """
    rows = {r.revision: r for r in mine}
    if not rows:
        return None
    base = _effective(rows[max(rows)])
    if base == 0:
        return None
    target = _effective(rows[base - 1]) if base > 1 else 0
    opinion = decision(rows[target]).opinion if target else None
    return Decision(mine[0].reader, target, mine[0].made, opinion)


def decision(row: t.Decision) -> Decision:
    opinion = Opinion.from_json(row.opinion) if row.opinion is not None else None
    return Decision(row.reader, row.revision, row.made, opinion)


def forget(session: Session, studies: Iterable[t.Study], now: datetime) -> None:
    """Take names, comments and pictures from studies' rows; the numbers stay."""
    newer = places(session).newer
    going = {study.id: study for study in studies}
    # Also what one of them superseded and is not as old: a correction may have been taken back.
    behind = [old for old, new in newer.items() if new in going and old not in going]
    kept = session.scalars(select(t.Study).where(t.Study.id.in_(behind))).all() if behind else ()
    for study in (*going.values(), *kept):
        study.superseded = newer.get(study.id, "")
    for study in going.values():
        _forget(study, now)


def _forget(study: t.Study, now: datetime) -> None:
    study.purged = now
    study.title = study.key = REMOVED
    study.delivered_key = None
    study.content = hashlib.sha256(f"{study.content}:{study.id}".encode()).hexdigest()
    for view in study.views:
        view.name, view.object, view.stored = REMOVED, None, False
    for row in study.decisions:
        if row.opinion is not None:
            row.opinion = row.opinion | {"comment": ""}


def _effective(row: t.Decision) -> int:
    """The revision whose opinion a row puts into force, 0 for none."""
    return row.revision if row.restores is None else row.restores


def _ordered(wanted: Query) -> Select[Any]:
    return (
        select(t.Study)
        .where(*_conditions(wanted))
        .order_by(t.Study.urgency, t.Study.probability.desc(), t.Study.added, t.Study.id)
    )


def _conditions(wanted: Query) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if not wanted.with_purged:
        found.append(t.Study.purged.is_(None))
    if wanted.status:
        found.append(t.Study.status.in_(_asked_of(wanted)))
    if wanted.finding:
        found.append(t.Study.finding.in_(wanted.finding))
    if wanted.body_part:
        # A study that was not assessed, as it looks like another body part, names none.
        none = t.Study.body_part.is_(None) if BodyPart.OTHER in wanted.body_part else false()
        found.append(or_(t.Study.body_part.in_(wanted.body_part), none))
    if wanted.text.strip():
        text = wanted.text.strip()
        names = select(t.View.study_id).where(t.View.name.icontains(text, autoescape=True))
        here = [c.icontains(text, autoescape=True) for c in (t.Study.title, t.Study.body_part)]
        found.append(or_(*here, t.Study.id.in_(names)))
    return found


def _asked_of(wanted: Query) -> set[Status]:
    """The statuses to look for; what is then told apart for whom says ``_fits``."""
    asked = set(wanted.status)
    return asked | TELLING if wanted.asked_by is not None and asked & TELLING else asked


def _fits(found: Entry | StudyRecord, wanted: Query) -> bool:
    """What depends on who decided: left to decide where that is asked for, and of the status asked
    for unless that is kept from who asks."""
    if wanted.undecided_by and has_decided(found.decisions, wanted.undecided_by):
        return False
    if not wanted.status or wanted.asked_by is None or found.status in wanted.status:
        return True
    return not found.purged and not has_decided(found.decisions, wanted.asked_by)


def _entry(study: t.Study, views: int, decisions: tuple[Decision, ...], newer: str) -> Entry:
    return Entry(
        id=study.id,
        title=study.title,
        added=study.added,
        status=Status(study.status),
        body_part=BodyPart(study.body_part) if study.body_part else None,
        probability=study.probability,
        finding=Finding(study.finding) if study.finding else None,
        views=views,
        decisions=decisions,
        purged=study.purged,
        newer=newer,
        received=study.received,
    )
