"""Final reports: what readers decided on the worklist, signed by them, to the archive."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import imaging
from core.dicom_out import reply
from core.dicom_out.source import Assessment, Signature, View, source_of
from core.errors import (
    CascadeError,
    ImageRejected,
    PictureLost,
    StoreUnavailable,
    WeightsInvalid,
    where,
)
from core.files import append_event
from core.pacs.outbox import Outbox
from core.pacs.scoring import ACTOR, left_out, put_all, says_the_same
from core.report import Decision as Said
from core.settings import ImageLimits
from core.store import Decision, Entry, Query, Status, Store, StudyRecord, Verdict
from core.study import Mark, combine
from core.types import ImageResult

if TYPE_CHECKING:
    from core.manifest import Release

log = logging.getLogger(__name__)
ANOTHER_RESULT = (
    "without the radiographs that nothing can be put beside, its result would be another one."
)
ANOTHER_RULE = (
    "views are put together by another rule now than when it was decided, and nothing can be put "
    "beside some of its radiographs."
)
_AGREES = {Verdict.AGREE: True, Verdict.DISAGREE: False}
_DECIDED = (Status.AGREED, Status.DISAGREED)
_Decisions = frozenset[tuple[str, int]]  # reader and revision of each


@dataclass(frozen=True)
class _Sent:
    """The last report of a study. when: of its newest decision, as an ISO string. report: (series,
    instance) UIDs. decisions: those that it has; None where an older version wrote none down."""

    when: str
    report: tuple[str, str]
    decisions: _Decisions | None = None

    @classmethod
    def of(cls, said: dict[str, Any]) -> _Sent:
        """A line of the file; raises KeyError, TypeError, ValueError for a damaged one."""
        series, instance = said["report"]
        signed = said.get("decisions")
        decisions = None if signed is None else frozenset((r, int(n)) for r, n in signed)
        return cls(said["when"], (series, instance), decisions)

    def has(self, decided: Sequence[Decision]) -> bool:
        """Whether it says what these decisions say: who withdraws may leave the newest as it is,
        and in a database that was restored a number may be another decision's."""
        newest = max(d.made for d in decided).isoformat()
        return self.when == newest and self.decisions in (None, _which(decided))


@dataclass
class Signing:
    """Sends a final report of each study that the listener received and its readers decided.

    Readers who say different things, or ask for a second look, sign nothing. wait: seconds that a
    decision must be old, so that one undone at once is never sent. sent: the file that tells what
    was. release_of: the release with this id and SHA-256, None where it is no longer there; it may
    raise WeightsInvalid for as long as the weights cannot be looked through.
    """

    store: Store
    outbox: Outbox
    limits: ImageLimits
    destinations: Sequence[str]
    organisation: str
    sent: Path
    release_of: Callable[[str, str], Release | None]
    wait: float = 60.0
    _last: dict[str, _Sent] = field(default_factory=dict, init=False)
    _others: set[str] = field(default_factory=set, init=False)
    _waiting: set[str] = field(default_factory=set, init=False)
    _superseded: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        for line in self.sent.read_bytes().splitlines() if self.sent.exists() else ():
            try:
                said = json.loads(line)
                self._last[said["study"]] = _Sent.of(said)
            except (ValueError, KeyError, TypeError):  # damaged, as by a crash: signed once more
                continue

    def poll(self, now: datetime | None = None) -> int:
        """Put what is newly decided into the outbox; how many studies. Raises StoreUnavailable."""
        count = 0
        limit = (now or datetime.now(UTC)).timestamp() - self.wait
        for entry in self.store.worklist(Query(status=_DECIDED)):
            if entry.id in self._others or not entry.received or not _decided(entry):
                continue
            if not self._came_again(entry) and self._is_due(entry, limit):
                count += self._tried(entry.id, limit)
        return count

    def _is_due(self, study: Entry | StudyRecord, limit: float) -> bool:
        """Whether its readers stand for something that was not sent. limit: a time in seconds,
        after which nothing of it was decided or taken back."""
        decided = _decided(study)
        if study.status not in _DECIDED or not decided:
            return False
        # Of each reader the last thing done: an undo may fall back to nothing, or to a draft.
        done = study.history if isinstance(study, StudyRecord) else decided
        if max(d.made for d in {d.reader: d for d in done}.values()).timestamp() > limit:
            return False
        known = self._last.get(study.id)
        return known is None or not known.has(decided)

    def _tried(self, study: str, limit: float) -> bool:
        """The boundary of one study: what cannot be signed waits for the next start."""
        try:
            record = self.store.study(study)
            # Since the list was read somebody may have decided otherwise, or taken it back.
            return self._is_due(record, limit) and self._sign(record)
        except (OSError, StoreUnavailable):
            raise
        except WeightsInvalid as error:  # the manifest may be away only while weights are copied
            return self._later(study, error)
        except Exception as error:  # noqa: BLE001 - one odd study must not stop the others
            log.error("A study could not be reported: %s", where(error))
            self._others.add(study)
            return False

    def _later(self, study: str, reason: CascadeError) -> bool:
        if study not in self._waiting:  # once, and not with every poll
            log.error("A decided study waits to be reported. %s", reason)
        self._waiting.add(study)
        return False

    def _came_again(self, study: Entry | StudyRecord) -> bool:
        """Whether another one took its place, which a correction that is taken back undoes."""
        if study.newer and study.id not in self._superseded:  # once, and not with every poll
            log.error(
                "A decided study is not reported: its radiographs came again since, and stand on "
                "the worklist as a newer study."
            )
        (self._superseded.add if study.newer else self._superseded.discard)(study.id)
        return bool(study.newer)

    def _before(self, record: StudyRecord) -> _Sent | None:
        """The last report of a study, or else of one whose place it took, of the same patient."""
        if record.id in self._last:
            return self._last[record.id]
        older = (id_ for id_ in record.older if id_ in self._last)
        sent = [self._last[id_] for id_ in older if self.store.study(id_).key == record.key]
        return max(sent, key=lambda last: last.when, default=None)

    def _sign(self, record: StudyRecord) -> bool:
        release = self.release_of(record.release, record.release_sha256)
        if release is None:
            log.error("A decided study is not reported: its release is no longer there.")
            self._others.add(record.id)
            return False
        if self._came_again(record):
            return False
        try:
            made = list(_views(record, self.store, self.limits))
        except PictureLost:
            log.error("A decided study is not reported: its pictures cannot be read again.")
            made = []
        except StoreUnavailable as error:  # a share that is away: the other studies go on
            return self._later(record.id, error)
        found = {n: view for n, view in enumerate(made) if isinstance(view, View)}
        if not found:  # no DICOM, or purged: nothing to put a report beside
            self._others.add(record.id)
            return False
        before = self._before(record)
        signature = Signature(
            self.organisation,
            tuple(_said(record, d, list(found)) for d in _decided(record)),
            before.report if before else None,
        )
        others = tuple(view for view in made if not isinstance(view, View))
        assessment = Assessment(tuple(found.values()), release, signature, others)
        reason, assessment = _as_decided(assessment, record, list(found))
        if reason:
            log.error("A decided study is not reported: %s", reason)
            self._others.add(record.id)
            return False
        if record.missing:
            study = assessment.study
            notes = (*study.notes, *record.not_in_it)
            assessment = replace(assessment, decided=replace(study, notes=notes))
        objects = reply.signed_objects(assessment)
        count = put_all(self.outbox, self.destinations, objects, record.id)
        when = signature.when.isoformat()
        report = assessment.uid("series", "SR"), assessment.uid("SR")
        readers = len(signature.decisions)
        self.store.audit("report.signed", ACTOR, study=record.id, readers=readers, objects=count)
        signed = _which(_decided(record))
        said = {"study": record.id, "when": when, "report": report, "decisions": sorted(signed)}
        append_event(self.sent, said)
        self._last[record.id] = _Sent(when, report, signed)
        return True


def _as_decided(
    assessment: Assessment, record: StudyRecord, positions: Sequence[int]
) -> tuple[str, Assessment]:
    """Why it is nothing that anybody decided, "" where it is, and what can be signed of it.

    What the readers saw was put together by the rules of its day. Whether something is missing is
    asked of today's alone, and where these say another thing of the same views, the result that
    was decided on stands. positions: in the record, of the views of the assessment.
    """
    stored = record.result
    today = combine(stored.id, stored.views, assessment.release)
    if not says_the_same(assessment.study, today):
        return ANOTHER_RESULT, assessment
    near = math.isclose(today.probability or 0.0, stored.probability or 0.0, abs_tol=1e-9)
    if near and says_the_same(today, stored):
        return "", assessment
    missing = [v for n, v in enumerate(stored.views) if v.part and n not in positions]
    if missing or list(positions) != list(range(len(positions))):  # its sentences number them
        return ANOTHER_RULE, assessment
    decided = replace(stored, id="", views=assessment.study.views)
    return "", replace(assessment, decided=decided)


def _decided(of: Entry | StudyRecord) -> list[Decision]:
    """The decisions in force that can be signed; of who disagrees those that say with what."""
    return [
        d
        for d in of.decisions
        if d.opinion
        and d.opinion.verdict in _AGREES
        and (d.opinion.verdict is Verdict.AGREE or d.opinion.says_with_what)
    ]


def _which(decided: Sequence[Decision]) -> _Decisions:
    return frozenset((d.reader, d.revision) for d in decided)


def _views(record: StudyRecord, store: Store, limits: ImageLimits) -> Iterator[View | ImageResult]:
    """Each view of the record, made again; a result where nothing can be put beside its source."""
    for result, stored in zip(record.result.views, record.stored, strict=True):
        if result.sha256 is None or not stored:
            yield left_out(result, "Its picture was not kept.")
            continue
        data = store.pictures.get(result.sha256)
        try:
            source = source_of(imaging.dicom_header(data, limits))
            radiograph = imaging.decode(data, result.file, limits, result.origin.frame)
        except ImageRejected as refusal:
            yield left_out(result, refusal.reason)
            continue
        yield View(source, radiograph, result)


def _said(record: StudyRecord, decision: Decision, positions: list[int]) -> Said:
    """The decision as a report has it, its marks on the views that are in it.

    Who agrees without a word of their own says what the program said.
    """
    opinion = decision.opinion
    assert opinion is not None  # those without one were left out
    agrees = _AGREES[opinion.verdict]
    marks: list[Mark] = [
        replace(m, view=positions.index(m.view)) for m in opinion.marks if m.view in positions
    ]
    return Said(
        decision.reader,
        decision.made,
        agrees,
        opinion.body_part or (record.result.body_part if agrees else None),
        opinion.finding or (record.result.finding if agrees else None),
        opinion.comment,
        tuple(marks),
    )
