"""The worklist as a table, and as a data set from which ``python -m training`` learns."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from core import film
from core.spreadsheet import as_csv
from core.store.pictures import Pictures
from core.store.records import (
    TELLING,
    Decision,
    Entry,
    Opinion,
    StudyRecord,
    Verdict,
    has_decided,
)
from core.study import Mark, study_uid_of, without_patient
from core.types import BodyPart, Finding, ImageResult

COLUMNS = (
    "study", "title", "added", "status", "views", "release", "release_sha256", "body_part",
    "probability", "finding", "reader", "decided", "verdict", "reader_body_part",
    "reader_finding", "comment", "marks", "as_reader_probability", "as_reader_finding",
    "as_reader_release", "as_reader_release_sha256", "superseded_by",
)  # fmt: skip
MANIFEST_COLUMNS = (
    "id", "source", "part", "positive", "positive_means", "group", "study", "boxes", "file",
)  # fmt: skip
SOURCE = "reviewed"
HIDDEN = "read_by_others"  # in the place of a status that is kept from a reader
_PATIENT = re.compile(r"patient\d+", re.IGNORECASE)
_LABEL = {Finding.SUSPECTED: 1, Finding.NOT_SUSPECTED: 0}


def to_csv(records: Iterable[StudyRecord], names: bool, asked_by: str | None = None) -> str:
    """A line for each reader's decision in force, one for a study that nobody has decided.

    as_reader_…: what the fracture model of the body part that the reader named says, if asked, and
    the release and mode that say it.
    superseded_by: the study that came since in the place of this one, if any.
    names: whether titles and comments are written; both may name a patient. asked_by: a reader, ""
    without a name: of studies that this one has still to decide nothing is written of what the
    others said or noted, nor the status where that tells it; None for everything. Cells that a
    spreadsheet would run as a formula get an apostrophe in front.
    """
    return as_csv((row for r in records for row in _rows(r, names, asked_by)), COLUMNS)


def kept_from(asked_by: str | None, of: Entry | StudyRecord) -> bool:
    """Whether others decided a study that who asks, as of ``to_csv``, has still to decide."""
    return _is_blind(asked_by, of) and any(has_decided([d], d.reader) for d in of.decisions)


def told(record: StudyRecord, asked_by: str | None) -> list[Decision]:
    """The decisions in force that who asks, as of ``to_csv``, may know."""
    blind = _is_blind(asked_by, record)
    return [d for d in record.decisions if not blind or d.reader == asked_by]


def _is_blind(asked_by: str | None, of: Entry | StudyRecord) -> bool:
    return asked_by is not None and not of.purged and not has_decided(of.decisions, asked_by)


def _rows(record: StudyRecord, names: bool, asked_by: str | None) -> Iterator[dict[str, Any]]:
    hidden = _is_blind(asked_by, record) and record.status in TELLING
    for decision in told(record, asked_by) or (None,):
        row = _row(record, decision, names)
        yield row | {"status": HIDDEN} if hidden else row


def to_manifest(
    records: Iterable[StudyRecord], pictures: Pictures, asked_by: str | None = None
) -> str:
    """A data set manifest (``manifest:FILE.csv``), a line for each picture that is there.

    Labels are the readers'. A study has them if all its readers name the same part and finding,
    none asks for a second look, and no newer study took its place; a doubtful one teaches the body
    part alone. Each picture that the study's result is of gets its label, as in MURA; what the
    study has beside them, of another part or the other side, is left out. So is what names another
    part than the readers where the views differ. Where readers who suspect something marked one
    that is left out so, the marked pictures alone get the label, and the others teach the body part
    if it is theirs. Frames after the first of a file have no line: training reads the first.
    asked_by: as of ``to_csv``; studies that others decided and this reader has not are left out.
    ``group`` is the patient by MURA's names or the Patient ID, else the Study Instance UID, else
    the study. Marks become boxes on the file as it is: of a photograph on the whole of it.
    """
    known = (record for record in records if not kept_from(asked_by, record))
    lines = (line for record in known for line in _manifest_lines(record, pictures))
    return as_csv(lines, MANIFEST_COLUMNS)


def usable(record: StudyRecord) -> Opinion | None:
    """The one opinion that all readers share, which can be learnt from; None without one."""
    decided = _decided(record)
    if any(o.verdict is Verdict.SECOND_LOOK for o in decided):
        return None
    said = {(o.body_part, o.finding) for o in decided}
    if len(said) != 1 or decided[0].body_part is None:
        return None
    return decided[0]


def _decided(record: StudyRecord) -> list[Opinion]:
    opinions = (d.opinion for d in record.decisions)
    return [o for o in opinions if o is not None and o.verdict is not Verdict.DRAFT]


def _labels(record: StudyRecord, opinion: Opinion, marks: Sequence[Mark]) -> list[int | str | None]:
    """Of each view the readers' label, "" where it has their part alone, None where it is left out.

    Who marks a view that the finding is not said of speaks of another one than the program did: the
    finding is then said of the marked views alone.
    """
    part, views = opinion.body_part, record.result.views
    label = _LABEL.get(opinion.finding, "") if opinion.finding and part != BodyPart.OTHER else ""
    shown = _shown(record, part)
    marked = {m.view for m in marks if label == 1 and m.view < len(views)}
    named = {views[n].sha256 for n, is_shown in enumerate(shown) if is_shown}
    if all(views[n].sha256 in named for n in marked):  # a copy is no other view
        return [label if is_shown else None for is_shown in shown]
    return [
        1 if n in marked else "" if shown[n] or _named(view) == part else None
        for n, view in enumerate(views)
    ]


def _shown(record: StudyRecord, part: BodyPart | None) -> list[bool]:
    """Of each view whether the readers' part and finding are said of it."""
    views = record.result.views
    if part == record.result.body_part:
        counted = {id(view) for view in record.result.counted}
        return [id(view) in counted for view in views]
    named = [_named(v) for v in views]
    if len(set(named)) == 1:  # all were taken for something else
        return [True] * len(views)
    return [one == part for one in named]


def _named(view: ImageResult) -> BodyPart | None:
    return view.part or (view.body_part.label if view.body_part else None)


def _manifest_lines(record: StudyRecord, pictures: Pictures) -> Iterator[dict[str, Any]]:
    opinion = usable(record)
    if opinion is None or opinion.body_part is None or record.purged or record.newer:
        return
    patient = _PATIENT.search(record.key)
    marks = [mark for decided in _decided(record) for mark in decided.marks]
    labels = _labels(record, opinion, marks)
    for position, (view, stored) in enumerate(zip(record.result.views, record.stored)):
        label = labels[position]
        if label is None or not stored or view.sha256 is None or view.origin.frame > 1:
            continue
        here = [_on_file(m, view) for m in marks if m.view == position and label == 1]
        yield {
            "id": f"{record.id[:12]}_{position}",
            "source": SOURCE,
            "part": opinion.body_part,
            "positive": label,
            "positive_means": record.label_means if label != "" else "",
            "group": patient[0].lower() if patient else _group(record),
            "study": record.id,
            "boxes": ";".join(map(_box, here)),
            "file": str(pictures.path(view.sha256).resolve()),
        }


def _group(record: StudyRecord) -> str:
    """Of one patient's studies the same, where the files name the patient; else of those of one
    Study Instance UID; else of each its own, as a folder's name may be that of many."""
    named = record.key.removeprefix(without_patient(record.key)) or study_uid_of(record.key)
    return hashlib.sha256(named.encode()).hexdigest()[:16] if named else record.id


def _row(record: StudyRecord, decision: Decision | None, names: bool) -> dict[str, Any]:
    opinion = decision.opinion if decision else None
    row = {
        "study": record.id,
        "title": record.title if names else "",
        "added": record.added.isoformat(timespec="seconds"),
        "status": record.status.value,
        "views": len(record.result.views),
        "release": record.release,
        "release_sha256": record.release_sha256,
        "body_part": record.result.body_part,
        "probability": record.result.probability,
        "finding": record.result.finding,
        "superseded_by": record.newer,
    }
    if decision is None or opinion is None:
        return row
    asked = record.reassessed_as(opinion.body_part)
    return row | {
        "as_reader_probability": asked.result.probability if asked else "",
        "as_reader_finding": asked.result.finding if asked else "",
        "as_reader_release": asked.release if asked else "",
        "as_reader_release_sha256": asked.release_sha256 if asked else "",
        "reader": decision.reader,
        "decided": decision.made.isoformat(timespec="seconds"),
        "verdict": opinion.verdict.value,
        "reader_body_part": opinion.body_part,
        "reader_finding": opinion.finding,
        "comment": opinion.comment if names else "",
        "marks": ";".join(f"{m.view + 1}: {_box(m)}" for m in opinion.marks),
    }


def _on_file(mark: Mark, view: ImageResult) -> Mark:
    """A mark that was drawn on the film in a photograph, on the photograph itself."""
    corners = view.photograph and view.photograph.corners
    if not corners:
        return mark
    return Mark(mark.view, *film.in_photograph((mark.x0, mark.y0, mark.x1, mark.y1), corners))


def _box(mark: Mark) -> str:
    return f"{mark.x0:.4f} {mark.y0:.4f} {mark.x1:.4f} {mark.y1:.4f}"
