"""An arrived study -> worklist, outbox, copies for training."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
)

from core.cascade import Cascade
from core.dicom_out import reply
from core.dicom_out.encoding import encoded
from core.dicom_out.source import Assessment, View
from core.errors import ImageRejected
from core.imaging import sha256
from core.pacs.deidentify import TrainingCopies
from core.pacs.inbox import Arrived
from core.pacs.outbox import Outbox, Tell, Waiting
from core.pipeline import diagnose
from core.settings import ImageLimits
from core.store import Store
from core.store.audit import LONGEST_FACT
from core.study import combine
from core.types import ImageResult

log = logging.getLogger(__name__)
ACTOR = "listener"
KINDS = {
    SecondaryCaptureImageStorage: "SC",
    ComprehensiveSRStorage: "SR",
    GrayscaleSoftcopyPresentationStateStorage: "PR",
    EncapsulatedPDFStorage: "PDF",
}


@dataclass(frozen=True)
class Scorer:
    """Where results go. destinations: see ``core.pacs.sender``. copies: None keeps none."""

    cascade: Cascade
    store: Store
    outbox: Outbox
    limits: ImageLimits
    destinations: Sequence[str] = ()
    copies: TrainingCopies | None = None

    def score(self, study: Arrived) -> None:
        """Everything that follows from one study is on the disk when this returns.

        Doing it twice, after a crash, leaves the same: the worklist and the outbox know what
        they have.
        """
        results: list[ImageResult] = []
        views: list[View] = []
        pictures: dict[str, bytes] = {}
        for name, data in study.contents():
            seen = self._assess(name, data)
            views += [v for v in seen if isinstance(v, View)]
            results += [v.result if isinstance(v, View) else v for v in seen]
            pictures[sha256(data)] = data
            if self.copies is not None:
                self.copies.keep(data, self.limits)
        combined = combine(study.key, results, self.cascade.release)
        title = f"Study {study.key[-16:]}" if views else study.key[-60:]
        added = self.store.add_study(title, combined, self.cascade.release, pictures, ACTOR)
        if views and self.destinations:
            objects = reply.objects(Assessment(tuple(views), self.cascade.release))
            put_all(self.outbox, self.destinations, objects, added)

    def _assess(self, name: str, data: bytes) -> Sequence[View | ImageResult]:
        """The frames of a DICOM file as views; anything else, or a refused file, as a result."""
        try:
            views = reply.views_of(self.cascade, data, name, self.limits)
        except ImageRejected:
            views = []
        return views or [diagnose(self.cascade, data, name, self.limits)[1]]


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
    """Write into the audit what was sent or given up: which object, of which study, and where."""

    def tell(event: str, one: Waiting) -> None:
        facts = {k: v for k, v in one.about.items() if v}
        to = one.destination[:LONGEST_FACT]
        store.audit(event, ACTOR, destination=to, attempts=one.attempts + 1, **facts)

    return tell
