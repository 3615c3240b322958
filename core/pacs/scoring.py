"""An arrived study -> worklist, outbox, copies for training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from core.cascade import Cascade
from core.dicom_out import reply
from core.dicom_out.source import Assessment, View
from core.errors import ImageRejected
from core.imaging import sha256
from core.pacs.deidentify import TrainingCopies
from core.pacs.inbox import Arrived
from core.pacs.outbox import Outbox
from core.pipeline import diagnose
from core.settings import ImageLimits
from core.store import Store
from core.study import combine
from core.types import ImageResult

log = logging.getLogger(__name__)
ACTOR = "listener"


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
        self.store.add_study(title, combined, self.cascade.release, pictures, ACTOR)
        if views and self.destinations:
            self._reply(Assessment(tuple(views), self.cascade.release))

    def _assess(self, name: str, data: bytes) -> Sequence[View | ImageResult]:
        """The frames of a DICOM file as views; anything else, or a refused file, as a result."""
        try:
            views = reply.views_of(self.cascade, data, name, self.limits)
        except ImageRejected:
            views = []
        return views or [diagnose(self.cascade, data, name, self.limits)[1]]

    def _reply(self, assessment: Assessment) -> None:
        for _, item in reply.objects(assessment):
            data = reply.encoded(item)
            for destination in self.destinations:
                self.outbox.put(destination, str(item.SOPInstanceUID), data)
