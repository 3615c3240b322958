"""An arrived study -> worklist, outbox, copies for training."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
)

from core import imaging
from core.cascade import Cascade
from core.dicom_out import reply
from core.dicom_out.encoding import encoded
from core.dicom_out.source import Assessment, View
from core.errors import ImageRejected, StoreUnavailable, StudyNotFound, where
from core.imaging import sha256
from core.pacs.deidentify import TrainingCopies
from core.pacs.inbox import Arrived
from core.pacs.outbox import WITHDRAWN, Outbox, Tell, Waiting
from core.pacs.study_uid import key_for
from core.pipeline import diagnose
from core.settings import ImageLimits
from core.store import Store
from core.store.audit import LONGEST_FACT
from core.store.superseding import LISTENER
from core.study import StudyResult, combine
from core.types import ImageResult

log = logging.getLogger(__name__)
ACTOR = LISTENER
KINDS = {
    SecondaryCaptureImageStorage: "SC",
    ComprehensiveSRStorage: "SR",
    GrayscaleSoftcopyPresentationStateStorage: "PR",
    EncapsulatedPDFStorage: "PDF",
}
_NUMBER = re.compile(r"(?=.*[0-9])[A-Za-z0-9._/-]+")
NOT_SENT = (
    "Nothing was sent back: without the radiographs that nothing can be put beside, the result "
    "would be another one."
)


@dataclass
class StudyScorer:
    """Where results go. cascade: another one may take its place between two studies. destinations:
    see ``core.pacs.sender``. copies: None keeps none.
    """

    cascade: Cascade
    store: Store
    outbox: Outbox
    limits: ImageLimits
    destinations: Sequence[str] = ()
    copies: TrainingCopies | None = None

    def score(self, study: Arrived) -> set[str]:
        """Everything that follows from one study is on the disk when this returns: the names of
        the files that could be read.

        Doing it twice, after a crash, leaves the same: the worklist and the outbox know what
        they have.
        """
        contents = study.contents()
        patients = self._by_patient(contents)
        if len(patients) > 1:
            log.error(
                "A study came with radiographs of %d patients; each is assessed by itself, and the "
                "worklist says so.",
                len(patients),
            )
        read: set[str] = set()
        for number, (patient, files) in enumerate(sorted(patients.items()), 1):
            which = f", patient {number} of {len(patients)}" if len(patients) > 1 else ""
            read |= self._score(study, patient, files, which)
        for _, data in contents:
            self._keep_copy(data)
        return read

    def _keep_copy(self, data: bytes) -> None:
        """The boundary of one copy for training: no result is lost for it, or assessed again."""
        if self.copies is None:
            return
        try:
            kept = self.copies.keep(data, self.limits)
        except Exception as error:  # noqa: BLE001 - a full disk, or anything of a damaged data set
            log.error("A copy for training could not be kept: %s", where(error))
            return
        if kept is None:
            log.warning("No copy for training was kept: text in the picture, or no DICOM file.")

    def _by_patient(self, files: Sequence[tuple[str, bytes]]) -> dict[str, list[tuple[str, bytes]]]:
        """The files of each patient (``DicomHeader.patient``, "" where a header names none).

        A file that tells nothing at all is no reason to speak of another patient: it may be a view
        of any of them that cannot be read, and each one's result says so.
        """
        headers = [imaging.peek(data, self.limits) for _, data in files]
        known = {header.patient for header in headers if header} or {""}
        return {
            patient: [f for h, f in zip(headers, files) if h is None or h.patient == patient]
            for patient in known
        }

    def _score(
        self, study: Arrived, patient: str, files: Sequence[tuple[str, bytes]], which: str
    ) -> set[str]:
        """The files of one patient; the names of those that could be read. which: for the title,
        where the study has several."""
        results: list[ImageResult] = []
        views: list[View] = []
        others: list[ImageResult] = []
        for name, data in files:
            seen, reason = self._assess(name, data)
            views += [v for v in seen if isinstance(v, View)]
            results += [v.result if isinstance(v, View) else v for v in seen]
            others += [left_out(v, reason) for v in seen if not isinstance(v, View)]
        combined = combine(key_for(study.key, patient), results, self.cascade.release)
        title = _title(study, views) + which
        answer = Assessment(tuple(views), self.cascade.release, refused=tuple(others))
        sends = bool(views and self.destinations)
        if sends and not says_the_same(answer.study, combined):
            log.error("A study is not sent back. %s", NOT_SENT)
            combined, sends = replace(combined, notes=(*combined.notes, NOT_SENT)), False
        pictures = {sha256(data): data for _, data in files}
        added = self.store.add_study(title, combined, self.cascade.release, pictures, ACTOR)
        if sends:
            put_all(self.outbox, self.destinations, reply.objects(answer), added)
        decoded = {result.sha256 for result in results if result.body_part is not None}
        return {name for name, data in files if sha256(data) in decoded}

    def _assess(self, name: str, data: bytes) -> tuple[Sequence[View | ImageResult], str]:
        """The frames of a DICOM file as views; anything else, or a refused file, as a result, and
        why nothing can be put beside it."""
        reason = ""
        try:
            views = reply.views_of(self.cascade, data, name, self.limits)
        except ImageRejected as refusal:
            views, reason = [], refusal.reason
        if views:
            return views, ""
        result = diagnose(self.cascade, data, name, self.limits)[1]
        if result.reason is None and self.destinations:
            log.error("An assessed radiograph has no part in what is sent back. %s", reason)
        return [result], reason


def _title(study: Arrived, views: Sequence[View]) -> str:
    """What the list shows: how it is found in the archive, and no word that may be a name."""
    if not views:
        return study.called[-60:]
    number, date = str(views[0].source.AccessionNumber), str(views[0].source.StudyDate)
    told = [f"accession {number}"] if _NUMBER.fullmatch(number) else []
    told += [f"{date[:4]}-{date[4:6]}-{date[6:]}"] if date else []
    title = ", ".join([*told, f"study {study.called[-16:]}"])
    return title[0].upper() + title[1:]


def left_out(result: ImageResult, reason: str) -> ImageResult:
    """What nothing can be put beside, as a reply has it: not assessed, and counted among the
    radiographs that are not in its result. reason: why, one sentence."""
    return replace(
        result,
        reason=result.reason or reason,
        body_part=None,
        fracture=None,
        heatmap=None,
        chosen=None,
    )


def says_the_same(one: StudyResult, other: StudyResult) -> bool:
    """Whether a reader of either is told the same finding in the same part and on the same side."""
    return (one.body_part, one.side, one.finding) == (other.body_part, other.side, other.finding)


def put_all(
    outbox: Outbox, destinations: Sequence[str], objects: Iterable[tuple[str, Dataset]], study: str
) -> int:
    """Every object for every destination; how many objects there are. study: of the worklist."""
    count = 0
    for _, item in objects:
        count += 1
        data = encoded(item)
        kind = KINDS.get(item.SOPClassUID, "")
        for destination in destinations:
            outbox.put(destination, str(item.SOPInstanceUID), data, kind, study)
    return count


def teller(store: Store) -> Tell:
    """Write into the audit what was sent, withdrawn or given up: which object, of which study, and
    where."""

    def tell(event: str, one: Waiting) -> None:
        facts = {k: v for k, v in one.about.items() if v}
        to, tried = one.destination[:LONGEST_FACT], one.attempts + (event != WITHDRAWN)
        store.audit(event, ACTOR, destination=to, attempts=tried, **facts)

    return tell


def superseded_in(store: Store) -> Callable[[str], bool]:
    """Whether a newer study took the place of the one with this id, after which nothing of it is
    sent: its patient may have been the wrong one."""

    def is_superseded(study: str) -> bool:
        try:
            return bool(store.study(study).newer)
        except StudyNotFound:
            return False
        except (OSError, StoreUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - one odd record must not stop the others
            log.error("Whether a study is superseded cannot be told: %s", where(error))
            return False

    return is_superseded
