"""Where a reader names another body part: that part's own fracture model is asked, once."""

from __future__ import annotations

from core import film
from core.errors import PartNotSupported
from core.settings import Settings
from core.store import Store, StudyRecord, Verdict
from core.store.records import Opinion, Reassessment
from core.study import combine
from core.types import BodyPart
from pages import _cascade


def wanted(record: StudyRecord, opinion: Opinion) -> BodyPart | None:
    """The part that this reader named and whose model has not been asked yet; None without one."""
    part = opinion.body_part
    if part in (None, BodyPart.OTHER, record.result.body_part) or record.purged:
        return None
    if opinion.verdict is not Verdict.DISAGREE or not any(record.stored):
        return None
    return part if record.reassessed_as(part) is None else None


def ask(store: Store, record: StudyRecord, part: BodyPart, reader: str) -> None:
    """Assess the study's pictures as this part, and keep the answer beside the first result.

    In the mode that the study was assessed in, where the release in use has it.
    Raises PartNotSupported, StoreUnavailable, and what ``Cascade.load`` raises.
    """
    from core.pipeline import diagnose  # imports torch, which the worklist does without

    cascade = _cascade.loader().start().result()
    same = cascade.release.with_digest(record.release_sha256)
    has_it = same is not None and same.mode in cascade.release.modes
    cascade = cascade.in_mode(same.mode if same and has_it else None)
    if part not in cascade.release.parts:
        raise PartNotSupported(f"The release in use has no fracture model for the {part}.")
    limits = Settings.from_environment().limits
    views = [
        diagnose(
            cascade,
            store.pictures.get(str(view.sha256)),
            view.file,
            limits,
            part,
            view.origin.frame,
            film.way_of(view.photograph),
        )[1]
        if stored
        else view
        for view, stored in zip(record.result.views, record.stored)
    ]
    store.reassess(record.id, combine(record.key, views, cascade.release), cascade.release, reader)


def shown(record: StudyRecord, opinions: tuple[Opinion, ...]) -> tuple[Reassessment, ...]:
    """The answers for parts that these opinions name, the earliest first."""
    parts = {o.body_part for o in opinions}
    return tuple(
        asked
        for asked in record.reassessments
        if asked.result.body_part in parts
        and asked.result.body_part != record.result.body_part
        and asked == record.reassessed_as(asked.result.body_part)
    )
