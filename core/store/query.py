"""From rows to records: the worklist, one study, and which decisions are in force."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import combinations
from typing import Any, NamedTuple, TypeAlias

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
from core.study import StudyResult, study_uid_of
from core.types import BodyPart, Finding, ImageResult

REMOVED = "Removed"
LISTENER = "listener"
"""Who brings studies from a PACS: their files are called by the UIDs of their objects."""
_OBJECT = re.compile(r"[0-9]+(\.[0-9]+)+\.dcm")
_AT_ONCE = 10_000  # values of one statement: SQLite takes 32,766
_Views: TypeAlias = list[tuple[str, str | None, str]]
"""Of each view of a study its name, digest, and the corners of the film in a photograph."""


class _Came(NamedTuple):
    """A study as it came. uid: ``study_uid_of`` its key. hand: the reader, or the listener."""

    id: str
    key: str
    uid: str
    hand: str


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
    newer = _superseded(session)
    found = [
        _entry(
            study, views.get(study.id, 0), in_force(decisions[study.id]), newer.get(study.id, "")
        )
        for study in session.scalars(_ordered(wanted))
    ]
    return [e for e in found if _fits(e, wanted)]


def records(session: Session, wanted: Query) -> list[StudyRecord]:
    """The studies asked for with all that is known of them: as few statements."""
    newer = _superseded(session)
    studies = session.scalars(_ordered(wanted).options(*WHOLE))
    found = [record(s, newer.get(s.id, "")) for s in studies]
    return [r for r in found if _fits(r, wanted)]


def one(session: Session, study: t.Study) -> StudyRecord:
    """A study with everything that is known of it."""
    return record(study, _superseded(session, study).get(study.id, ""))


def record(study: t.Study, newer: str = "") -> StudyRecord:
    """One study; all that ``WHOLE`` names is loaded already. newer: see ``StudyRecord``."""
    packed = [v.result for v in study.views]
    views = tuple(_unpacked(study, packed, study.release, study.release_sha256))
    result = StudyResult(
        study.key,
        views,
        BodyPart(study.body_part) if study.body_part else None,
        study.probability,
        Finding(study.finding) if study.finding else None,
        tuple(study.notes),
    )
    return StudyRecord(
        id=study.id,
        key=study.key,
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
        newer=newer,
        received=study.received,
    )


def _unpacked(
    study: t.Study, packed: Sequence[dict[str, Any]], release: str, release_sha256: str
) -> Iterator[ImageResult]:
    same: Counter[str | None] = Counter()
    for view, result in zip(study.views, packed, strict=True):
        same[view.sha256] += study.added_by == LISTENER or not same[view.sha256]
        yield unpack(result, view.name, view.sha256, release, release_sha256, same[view.sha256])


def comes_back(session: Session, study: t.Study, actor: str) -> bool:
    """Whether a known study that ``actor`` brings once more takes the place of what came since.

    A correction may be taken back. A part of a study that is sent again stays superseded by the
    whole; what a reader adds again by hand is what the reader means. What superseded it may be
    purged: then what comes again is the newest.
    """
    if actor != (LISTENER if study.received else study.added_by):
        return False
    if study.superseded:
        return True
    came, pairs = _pairs(session, study)
    views, this = _views_of(session, pairs), came[study.id]
    since = [came[new] for old, new in pairs if old == study.id]
    return any(
        _follows(this, new, views) or (actor != LISTENER and _follows(new, this, views))
        for new in since
    )


def _superseded(session: Session, study: t.Study | None = None) -> dict[str, str]:
    """By study the newest one that the same reader or the listener brought of it since.

    Of it: with its key, which tells the patients of one Study Instance UID apart (what is no UID
    may be the name of many a file), and with all of its pictures or another one in the place of
    one. A view that comes alone later takes nothing away from those before it, but what a reader
    adds by hand with fewer views does: the others were moved out of it. Whatever the keys, with
    all of its pictures: the reader corrected the body part, say, of what is called by its file. Of
    the listener, whose files are called by their UIDs, also one of another patient that has one of
    its objects: its Patient ID was corrected. What was purged has no key any more: it keeps what
    was so then. study: this one alone is asked for.
    """
    came, pairs = _pairs(session, study)
    views = _views_of(session, pairs)
    gone = select(t.Study.id, t.Study.superseded).where(t.Study.superseded != "")
    found: dict[str, str] = {old: new for old, new in session.execute(gone)}
    for old, new in pairs:  # the newest last
        if _follows(came[new], came[old], views):
            found[old] = new
    return found


def _pairs(
    session: Session, study: t.Study | None
) -> tuple[dict[str, _Came], list[tuple[str, str]]]:
    """The studies that may be the same, and their pairs (older, newer), the newest last: from one
    hand, and of one Study Instance UID or with a picture in common. study: only what may be it."""
    shared = _shared(session, study)
    columns = t.Study.id, t.Study.key, t.Study.added_by, t.Study.received
    # By the audit's numbers, which go up also where the clock was set back.
    order = t.Study.arrived, t.Study.added, t.Study.id
    kept = select(*columns).where(t.Study.purged.is_(None)).order_by(*order)
    if study is not None:
        own = study_uid_of(study.key)
        of_uid = t.Study.key.startswith(own, autoescape=True) if own else false()
        kept = kept.where(or_(t.Study.id.in_({study.id, *shared}), of_uid))
    came: dict[str, _Came] = {}
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for id_, key, by, received in session.execute(kept):
        one = came[id_] = _Came(id_, key, study_uid_of(key), LISTENER if received else by)
        if one.uid:
            # Of a reader one patient's alone: the names of such files tell nothing.
            groups["uid", one.hand, one.uid if received else key].append(id_)
        for digest in shared.get(id_, ()):
            groups["picture", one.hand, digest].append(id_)
    place = {id_: n for n, id_ in enumerate(came)}
    pairs = {pair for same in groups.values() for pair in combinations(same, 2)}
    return came, sorted(pairs, key=lambda pair: place[pair[1]])


def _shared(session: Session, study: t.Study | None) -> dict[str, set[str]]:
    """By study its pictures that others have, too. study: those of this one alone, by who has
    them."""
    several = select(t.View.sha256)
    if study is None:
        several = several.where(t.View.stored).group_by(t.View.sha256)
        several = several.having(func.count(t.View.study_id.distinct()) > 1)
    else:
        several = several.where(t.View.stored, t.View.study_id == study.id)
    found: dict[str, set[str]] = defaultdict(set)
    named = select(t.View.study_id, t.View.sha256).where(t.View.sha256.in_(several))
    for id_, digest in session.execute(named):
        found[id_].add(str(digest))
    return found


def _views_of(session: Session, pairs: Iterable[tuple[str, str]]) -> dict[str, _Views]:
    """The views of the studies of these pairs."""
    ids = list({id_ for pair in pairs for id_ in pair})
    found: dict[str, _Views] = defaultdict(list)
    photograph = t.View.result["photograph"]
    named = select(t.View.study_id, t.View.name, t.View.sha256, photograph)
    for start in range(0, len(ids), _AT_ONCE):
        some = t.View.study_id.in_(ids[start : start + _AT_ONCE])
        for id_, name, sha256, taken in session.execute(named.where(some)):
            found[id_].append((name, sha256, str((taken or {}).get("corners") or "")))
    return found


def _follows(new: _Came, old: _Came, views: dict[str, _Views]) -> bool:
    """Whether what came later takes the place of what was there."""
    later, before = views[new.id], views[old.id]
    if new.uid and new.uid == old.uid:
        if new.key != old.key:
            return new.hand == LISTENER and _corrects(later, before)
        fewer = new.hand != LISTENER and _holds(before, later)
        return fewer or _replaces(later, before)
    return _holds(later, before)


def _holds(whole: _Views, part: _Views) -> bool:
    """Whether a study has all pictures of another one. Two films in one photograph are two."""
    pictures = {(sha256, corners) for _, sha256, corners in part}
    return all(sha256 for sha256, _ in pictures) and pictures <= {v[1:] for v in whole}


def _replaces(new: _Views, old: _Views) -> bool:
    """Whether views hold all pictures of the older ones, or another content for one."""
    names, pictures = {v[0] for v in new}, {v[1] for v in new}
    return {v[1] for v in old} <= pictures or any(
        name in names and sha256 not in pictures for name, sha256, _ in old
    )


def _corrects(new: _Views, old: _Views) -> bool:
    """Whether views of another patient have an object of the older ones: two real patients under
    one Study Instance UID have none in common."""
    return any(_OBJECT.fullmatch(name) for name in {v[0] for v in new} & {v[0] for v in old})


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
    newer = _superseded(session)
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
    study.content = hashlib.sha256(f"{study.content}:{study.id}".encode()).hexdigest()
    for view in study.views:
        view.name, view.stored = REMOVED, False
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
