"""What the release and the readers say of one study on the page Review, as markup."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from core.notes import probability_of, unreliable
from core.report import another_release
from core.store import Decision, StudyRecord
from core.store.records import Reassessment
from core.study import named
from pages import _reading, _theme
from pages._review_list import VERDICTS
from pages._review_report import Releases


def reading_of(record: StudyRecord, asked: tuple[Reassessment, ...], release_of: Releases) -> str:
    """What the release said in one glance, and beside it what other parts' models say."""
    first = _reading_of(record, "Body part", release_of)
    others = "".join(_asked(a, record, release_of) for a in asked)
    return first + others + _cautions(record.notes, record, release_of)


def _asked(asked: Reassessment, record: StudyRecord, release_of: Releases) -> str:
    by = another_release(asked.release, asked.release_sha256, record.release, record.release_sha256)
    title = f"Body part named by {escape(asked.asked_by)}{f', {escape(by)}' * bool(by)}"
    told = [note for note in asked.result.notes if note not in record.notes]
    said = _reading_of(asked, title, release_of) + _cautions(told, asked, release_of)
    return f"<div class='asked'>{said}</div>"


def _cautions(notes: Iterable[str], said: StudyRecord | Reassessment, release_of: Releases) -> str:
    """Without what ``_reading.explained`` says beside the finding already."""
    result, release, above = said.result, release_of(said), list[str]()
    if release and result.finding and result.body_part:
        above = unreliable(result.finding, result.body_part, release)
    return _reading.cautions(note for note in notes if note not in above)


def _reading_of(said: StudyRecord | Reassessment, title: str, release_of: Releases) -> str:
    result, number, release = said.result, "", release_of(said)
    part = named(result).capitalize() or "Not assessed"
    if result.probability is not None:
        share = probability_of(result.probability, release, result.body_part)
        number = _theme.unbroken(share)
    meant = escape(said.label_means) or "not recorded"
    views = len(result.counted)
    mean = f"<div class='soft'>Mean of {views} views.</div>" if views > 1 else ""
    explained = _reading.explained(result, release) if release else ""
    return (
        f"<dl class='reading'><dt>{title}</dt><dd><div class='value'>{part}</div></dd>"
        f"<dt>Finding: {meant}</dt><dd><div class='value'>{_reading.badge(result.finding)}"
        f"<span class='number'>{number}</span></div>{explained or mean}</dd></dl>"
    )


def side_by_side(decisions: tuple[Decision, ...]) -> str:
    """A table with a column for each reader."""
    said = [(d, d.opinion) for d in decisions if d.opinion is not None]
    rows = [
        ("Verdict", [VERDICTS[o.verdict] for _, o in said]),
        ("Body part", [o.body_part.words.capitalize() if o.body_part else "–" for _, o in said]),
        ("Finding", [_reading.WORDS[o.finding] if o.finding else "–" for _, o in said]),
        ("Mark", [", ".join(f"view {m.view + 1}" for m in o.marks) or "–" for _, o in said]),
        ("Comment", [escape(o.comment) or "–" for _, o in said]),
        ("When (UTC)", [f"{d.made:%Y-%m-%d %H:%M}" for d, _ in said]),
    ]
    head = "".join(f"<th>{escape(d.reader)}</th>" for d, _ in said)
    body = "".join(
        f"<tr><th>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for name, cells in rows
    )
    return f"<table class='details readers'><tr><th></th>{head}</tr>{body}</table>"
