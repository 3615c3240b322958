"""What the reader takes away: CSV, lines of JSON, and the words below a picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import streamlit as st

from core.manifest import Release
from core.notes import notes_of, probability_of
from core.spreadsheet import as_csv
from core.types import BodyPart, ImageResult
from pages import _access, _audit
from pages._theme import RESEARCH_ONLY


@dataclass(frozen=True)
class Record:
    """A result with the body part that the reader chose for it, if any."""

    result: ImageResult
    assessed_as: BodyPart | None = None


def to_csv(records: Iterable[Record]) -> str:
    """A line for each input, with the columns of ``ImageResult.to_row`` and ``assessed_as``."""
    rows = [r.result.to_row() | {"assessed_as": r.assessed_as} for r in records]
    return as_csv(rows, list(rows[0]) if rows else [])


def to_json_lines(records: Iterable[Record]) -> str:
    """The public record of each input, and ``assessed_as``."""
    lines = [r.result.to_json() | {"assessed_as": r.assessed_as} for r in records]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def offer(records: Sequence[Record]) -> None:
    """Draw the way to both; each is in the audit before it is given."""
    actor = _access.actor()  # the download has no session to ask

    def given(kind: str, text: Callable[[Iterable[Record]], str]) -> str:
        digests = _audit.numbered(r.result.sha256 for r in records)
        _audit.write("export.made", actor, kind=kind, **digests)
        return text(records)

    with st.popover("Export data"):
        for label, text, name, mime in (
            ("CSV", to_csv, "results.csv", "text/csv"),
            ("JSON lines", to_json_lines, "results.jsonl", "application/jsonl"),
        ):
            made = partial(given, label.lower(), text)
            key = f"download-{name}"
            st.download_button(label, made, name, mime, key=key, on_click="ignore", width="stretch")


def caption(
    record: Record, release: Release | None, view: int = 1, views: int = 1
) -> tuple[str, ...]:
    """What stands below a picture that is saved: what was found, what of it a reader must know,
    who says so, and the limits.

    release: see ``core.notes.notes_of``. view: its number in a study of so many views. A study's
    finding is the mean of its views, and this is that of the picture alone.
    """
    taken = record.result.photograph
    said = [
        _found(record, release),
        f"View {view} of {views} alone" if views > 1 else "",
        f"From a photograph, {taken.word}" if taken else "",
    ]
    notes = notes_of(record.result, release)
    return (*filter(None, said), *notes, _release(record.result), RESEARCH_ONLY)


def _release(result: ImageResult) -> str:
    """With the networks, where it was the ensemble that answered."""
    members = result.fracture.members if result.fracture else ()
    names = f", ensemble of {' and '.join(m.name for m in members)}" if members else ""
    return f"Release {result.release}{names}"


def _found(record: Record, release: Release | None) -> str:
    """Body part and finding in words; "" where there is no finding."""
    result, fracture = record.result, record.result.fracture
    if fracture is None:
        return ""
    part = record.assessed_as or (result.body_part and result.body_part.label)
    by = " (part chosen by the reader)" if record.assessed_as else ""
    share = probability_of(fracture.probability, release, result.part)
    return f"{part}{by}: {fracture.finding.words}, probability {share}"
