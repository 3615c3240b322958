"""From a study's result to its rows."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from core.store import tables as t
from core.store.records import Status, pack
from core.store.superseding import LISTENER
from core.study import StudyResult
from core.types import URGENCY, ImageResult

if TYPE_CHECKING:
    from core.manifest import Release


def content_of(result: StudyResult, release: Release) -> str:
    """Digest of the study's pictures, the parts and corners chosen for them, and the release."""
    views = sorted(f"{v.sha256}:{v.chosen}{_cut(v)}" for v in result.views)
    return hashlib.sha256("\n".join([*views, release.sha256]).encode()).hexdigest()


def _cut(view: ImageResult) -> str:
    """Of a straightened photograph its corners; else nothing, as before there were any."""
    corners = view.photograph and view.photograph.corners
    return f":{corners}" if corners else ""


def study_row(
    title: str, result: StudyResult, release: Release, content: str, actor: str
) -> t.Study:
    stage = release.stages.get(result.body_part) if result.body_part else None
    return t.Study(
        id=uuid.uuid4().hex,
        key=result.id,
        title=title,
        content=content,
        added=datetime.now(UTC),
        added_by=actor,
        release=release.id,
        release_sha256=release.sha256,
        label_means=stage.label_means if stage else "",
        body_part=result.body_part,
        probability=result.probability,
        finding=result.finding,
        urgency=URGENCY.index(result.finding),
        notes=list(result.notes),
        status=Status.NEW,
        received=actor == LISTENER,
    )


def receive(study: t.Study, result: StudyResult) -> None:
    """A study that a reader added has come from the PACS, too: the listener knows it by its UIDs.

    Else a corrected Patient ID of one of its objects would not be told. For the reader it stays
    what it was.
    """
    names = {view.sha256: view.file for view in result.views}
    study.received, study.delivered, study.delivered_key = True, study.arrived, result.id
    for view in study.views:
        view.object = names.get(view.sha256, view.name)


def reassessment_row(
    study_id: str, result: StudyResult, release: Release, actor: str
) -> t.Reassessment:
    """Of a result in which a part was assessed."""
    part = str(result.body_part)
    return t.Reassessment(
        study_id=study_id,
        body_part=part,
        release=release.id,
        release_sha256=release.sha256,
        label_means=release.stages[part].label_means,
        probability=result.probability,
        finding=result.finding,
        notes=list(result.notes),
        results=[pack(view) for view in result.views],
        made=datetime.now(UTC),
        asked_by=actor,
    )


def view_rows(
    study_id: str, result: StudyResult, stored: Collection[str], received: bool = False
) -> Sequence[t.View]:
    return [
        t.View(
            study_id=study_id,
            position=n,
            sha256=view.sha256,
            stored=view.sha256 is not None and view.sha256 in stored,
            name=view.file,
            object=view.file if received else None,
            result=pack(view),
        )
        for n, view in enumerate(result.views)
    ]
