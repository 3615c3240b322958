"""``Store``: what may be done to the worklist. Each action and its line in the audit are one.

If the audit cannot be written, nothing else is: both stand in one transaction. Nothing that a
reader decided is ever overwritten: decisions are appended, an undo too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.errors import DecisionConflict, StoreUnavailable, StudyNotFound
from core.settings import Settings
from core.store import audit, query, rows, superseding
from core.store import tables as t
from core.store.audit import AuditLine, AuditReport, Fact
from core.store.database import FILE, Database
from core.store.pictures import Pictures
from core.store.records import (
    Decision,
    Entry,
    Opinion,
    Query,
    StudyRecord,
    status_of,
)
from core.study import StudyResult

if TYPE_CHECKING:
    from core.manifest import Release

log = logging.getLogger(__name__)
PURGE_SECONDS = 3600  # how often what is past its time is looked for
CLOCKS = timedelta(minutes=5)  # that clocks of computers with one database may be apart
PROGRAM = "program"  # the actor of what happens by itself
CONFLICT = (
    "You decided this study in another window in the meantime. That decision is shown now and "
    "nothing was overwritten; decide again if it should change."
)
OVER = (
    "The retention period of this study is over: its pictures were removed, and it can no longer "
    "be decided."
)


class Store:
    """The worklist of one database. Thread-safe; several processes may share a database."""

    def __init__(self, database: Database, home: Path, retention_days: int | None) -> None:
        self._database = database
        self._home = home
        self._retention_days = retention_days
        self.pictures = Pictures(home / "images")

    @staticmethod
    def is_made(settings: Settings) -> bool:
        """Whether ``open`` would find a worklist and not make an empty one. Raises OSError; that of
        ``database_url`` counts as made."""
        return bool(settings.database_url) or (settings.home / FILE).is_file()

    @classmethod
    def open(cls, settings: Settings, look: bool = False) -> Store:
        """Connect, migrate, and remove what is older than the retention.

        look: do neither, as it must cost little and change nothing; raises StoreOutdated where
        there is something to migrate. Where what is older cannot be removed, the log says so and
        the store is there all the same.
        Raises StoreUnavailable, or SettingsInvalid for a DATABASE_URL without meaning.
        """
        database = Database.open(settings.database_url, settings.home, migrate=not look)
        store = cls(database, settings.home, settings.retention_days)
        try:
            if not look:
                store.purge()
        except (OSError, StoreUnavailable) as error:
            log.error("What is past its time could not be removed: %s", type(error).__name__)
        return store

    def close(self) -> None:
        self._database.close()

    def add_study(
        self,
        title: str,
        result: StudyResult,
        release: Release,
        pictures: Mapping[str, bytes],
        actor: str,
    ) -> str:
        """Put a study on the worklist; its id. The same study of the same release is there once.

        Where it comes again its time counts from then, a picture of it that was lost or damaged is
        written anew, and if another one took its place it is the newest once more.
        title: what the list shows; like the files' names it may name a patient, and it never
        reaches the audit. result: of ``release``. pictures: the encoded files to keep, by SHA-256;
        those of views that were no picture are not kept.
        """
        content = rows.content_of(result, release)
        with self._database.writing() as (session, head), self.pictures.adding() as put:
            event, back = "study.arrived", True
            study = session.scalars(select(t.Study).where(t.Study.content == content)).one_or_none()
            if study is None:
                event = "study.added"
                stored = _stored(result, pictures, put)
                study = rows.study_row(title, result, release, content, actor)
                session.add(study)
                session.flush()
                session.add_all(rows.view_rows(study.id, result, stored, study.received))
            else:
                study.renewed = datetime.now(UTC)
                named = {v.sha256 for v in study.views if v.stored}
                _stored(result, {k: v for k, v in pictures.items() if k in named}, put)
                first = actor == superseding.LISTENER and not study.received
                if first:
                    rows.receive(study, result)
                    session.flush()
                back = superseding.comes_back(session, study, actor)
                if not (first or back):
                    return study.id
            facts: dict[str, Fact] = {
                "study": study.id,
                "content": content,
                "views": len(result.views),
                "pictures": len({v.sha256 for v in study.views if v.stored}),
                "release": release.id,
            }
            entry = audit.append(session, head, event, actor, facts)
            if back:  # else it stays behind what came since
                superseding.arrives(study, actor, entry.number)
        self._remember(entry)
        return study.id

    def worklist(self, wanted: Query | None = None) -> list[Entry]:
        """The studies asked for: suspected first, then doubtful, each by falling probability."""
        with self._database.reading() as session:
            return query.entries(session, wanted or Query())

    def study(self, study_id: str) -> StudyRecord:
        """Everything about one study; raises StudyNotFound."""
        with self._database.reading() as session:
            return query.one(session, _found(session, study_id))

    def studies(self, wanted: Query | None = None) -> list[StudyRecord]:
        """Everything about all the studies asked for, in the order of the worklist."""
        with self._database.reading() as session:
            return query.records(session, wanted or Query())

    def decide(self, study_id: str, reader: str, opinion: Opinion, seen: int) -> Decision:
        """Append a reader's opinion. seen: the revision of this reader that the page showed, or 0.

        Other readers' decisions do not matter here: each has their own. Raises DecisionConflict
        where this reader has a newer revision, StudyNotFound.
        """
        return self._append(study_id, reader, opinion, seen, None)

    def reassess(self, study_id: str, result: StudyResult, release: Release, actor: str) -> None:
        """Keep what another part's fracture model says, beside what the study was added with.

        result: of the study's own views in their order, assessed by ``release`` as the part that
        ``actor`` named. Each part and release is kept once. Raises StudyNotFound, ValueError for
        a result of other views or without a part.
        """
        with self._database.writing() as (session, head):
            study = _found(session, study_id)
            if [v.sha256 for v in study.views] != [v.sha256 for v in result.views]:
                raise ValueError("the result is of other views")
            if result.body_part is None or result.finding is None:
                raise ValueError("the result has no part")
            made = {(r.body_part, r.release_sha256) for r in study.reassessments}
            if (result.body_part, release.sha256) in made:
                return
            study.reassessments.append(rows.reassessment_row(study_id, result, release, actor))
            facts: dict[str, Fact] = {
                "study": study_id,
                "body_part": result.body_part,
                "finding": result.finding,
                "release": release.id,
            }
            entry = audit.append(session, head, "study.reassessed", actor, facts)
        self._remember(entry)

    def undo(self, study_id: str, reader: str, seen: int) -> Decision:
        """Put this reader's previous opinion into force again, by a new revision that says so.

        After the first one there is none: the study is undecided by this reader. Undoing again
        goes further back. Raises DecisionConflict, StudyNotFound, and StoreUnavailable where
        there is nothing to undo.
        """
        with self._database.reading() as session:
            mine = [d for d in _found(session, study_id).decisions if d.reader == reader]
            target = query.before(mine)
        if target is None:
            raise StoreUnavailable("There is nothing to undo.")
        return self._append(study_id, reader, target.opinion, seen, target.revision)

    def audit(self, event: str, actor: str, **facts: Fact) -> None:
        """Write a line of the audit, or raise StoreUnavailable: then the action must not happen.

        event: ``noun.verb`` in the past tense. actor: the reader, or what of the program did it.
        facts: identifiers, counts, digests. Never a patient's name or a file's name; the one free
        text is the reason for a promotion.
        """
        with self._database.writing() as (session, head):
            entry = audit.append(session, head, event, actor, facts)
        self._remember(entry)

    def audit_lines(self) -> list[AuditLine]:
        """Everything that was done, in order."""
        with self._database.reading() as session:
            return audit.lines(session)

    def events_since(self, number: int) -> tuple[int, frozenset[str]]:
        """(number of the audit's newest line, what was done in the lines after ``number``)."""
        with self._database.reading() as session:
            return audit.events_since(session, number)

    def verify_audit(self) -> AuditReport:
        """Every edit and every removal in the audit, a sentence each."""
        with self._database.reading() as session:
            return audit.verify(session, self._home)

    def purge(self, now: datetime | None = None) -> int:
        """Remove pictures, names and comments of studies past their time; how many studies.

        What remains are the numbers: results, verdicts, parts and findings, for the figures.
        Pictures of that age that no study names, as a crash or a restored database leaves them, go
        too. Nothing is removed by a clock that lies before the newest line of the audit.
        """
        if self._retention_days is None:
            return 0
        removed = self._purged(now or datetime.now(UTC), self._retention_days)
        # Every time: when something was removed last, somebody may have been reading.
        self._database.empty_log()
        return removed

    def _purged(self, now: datetime, days: int) -> int:
        limit = now - timedelta(days=days)
        brought = func.coalesce(t.Study.renewed, t.Study.added)
        old = select(t.Study).where(brought < limit, t.Study.purged.is_(None))
        there = self.pictures.there()  # a walk of all of them: nobody has to wait for it
        left = {sha256 for sha256, put in there.items() if put < limit.timestamp()}
        with self._database.reading() as session:
            if left:
                left -= _kept(session)
            if session.scalars(old.limit(1)).first() is None and self.pictures.stay(left):
                return 0
            if audit.is_ahead(session, now + CLOCKS):
                log.error(
                    "The clock lies before the newest line of the audit, so nothing is removed as "
                    "past its time. Set the clock right."
                )
                return 0
        with self._database.writing() as (session, head):
            studies, entry = session.scalars(old).all(), None
            query.forget(session, studies, now)
            session.flush()
            gone = _pictures_gone(session) & there.keys()
            left -= gone | _kept(session)  # one of them may be a study's meanwhile
            if studies:
                facts: dict[str, Fact] = {"studies": len(studies), "days": days}
                entry = audit.append(session, head, "studies.purged", PROGRAM, facts)
            # Before the commit: afterwards, another process may just be adding the same picture.
            self.pictures.remove(gone)
            # Among these may be one that another database with the same BONE_HOME names, once it
            # is past the time that holds here.
            lost = self.pictures.remove(left, limit.timestamp())
        if lost:
            log.warning("Pictures past their time that no study names: %d.", lost)
        if entry is not None:
            self._remember(entry)
        return len(studies)

    def _remember(self, entry: t.AuditEntry) -> None:
        """Drop the anchor at a committed line. The action has happened: nothing is raised."""
        try:
            with self._database.reading() as session:
                audit.drop_anchor(session, self._home, entry)
        except StoreUnavailable:
            log.warning("The anchor of the audit could not be compared.", exc_info=True)

    def _append(
        self, study_id: str, reader: str, opinion: Opinion | None, seen: int, restores: int | None
    ) -> Decision:
        with self._database.writing() as (session, head):
            study = _found(session, study_id)
            if study.purged:  # what is written now would stay for ever
                raise StudyNotFound(OVER)
            newest = max((d.revision for d in study.decisions if d.reader == reader), default=0)
            if newest != seen:
                raise DecisionConflict(CONFLICT)
            row = t.Decision(
                study_id=study_id,
                reader=reader,
                revision=newest + 1,
                restores=restores,
                made=datetime.now(UTC),
                opinion=opinion and opinion.to_json(),
            )
            study.decisions.append(row)
            in_force = query.in_force(study.decisions)
            study.status = status_of(d.opinion for d in in_force if d.opinion)
            event = "decision.made" if restores is None else "decision.undone"
            entry = audit.append(session, head, event, reader, _facts(study_id, row, opinion))
        self._remember(entry)
        return query.decision(row)


def _found(session: Session, study_id: str) -> t.Study:
    wanted = select(t.Study).where(t.Study.id == study_id)
    study = session.scalars(wanted.options(*query.WHOLE)).one_or_none()
    if study is None:
        raise StudyNotFound("This study is not on the worklist.")
    return study


def _stored(
    result: StudyResult, pictures: Mapping[str, bytes], put: Callable[[bytes], str]
) -> set[str]:
    """Keep the pictures of the views that were decoded; their digests."""
    decoded = {v.sha256 for v in result.views if v.body_part is not None}
    wanted = {k: data for k, data in pictures.items() if k in decoded}
    stored = {put(data) for data in wanted.values()}
    if stored != set(wanted):
        raise StoreUnavailable("A picture is not the one that was assessed.")
    return stored


def _kept(session: Session) -> set[str]:
    return {s for s in session.scalars(select(t.View.sha256).where(t.View.stored)) if s}


def _pictures_gone(session: Session) -> set[str]:
    """Digests of studies past their time, of earlier ones too, that no other study names."""
    named = select(t.View.sha256).join(t.Study, t.Study.id == t.View.study_id)
    over = session.scalars(named.where(t.Study.purged.is_not(None)))
    return {sha256 for sha256 in over if sha256} - _kept(session)


def _facts(study_id: str, row: t.Decision, opinion: Opinion | None) -> dict[str, Fact]:
    facts: dict[str, Fact] = {"study": study_id, "revision": row.revision}
    if row.restores is not None:
        facts["restores"] = row.restores
    if opinion is None:
        return facts | {"verdict": None}
    return facts | {
        "verdict": opinion.verdict,
        "body_part": opinion.body_part,
        "finding": opinion.finding,
        "marks": len(opinion.marks),
    }
