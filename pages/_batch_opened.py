"""The radiograph of a batch that is open in the viewer, beside the table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import PurePath
from typing import Any

import streamlit as st

from core import film, imaging
from core.batch import tables
from core.batch.kept import Batch
from core.errors import ImageRejected
from core.manifest import Release
from core.notes import notes_of, probability_of
from core.settings import Settings
from core.types import BodyPart, Finding, ImageResult, Radiograph
from pages import _access, _audit, _cascade, _downloads, _theme
from pages._reading import badge, cautions
from pages._viewer import Event, Prepared, keys, viewer

CHANGED = "The file has changed since it was assessed, so it is not shown with that result."


@dataclass(frozen=True)
class Made:
    """What was made of a file when it was opened: one value, so that nothing of two files is shown
    together whatever fails in between.

    picture: None where it cannot be read; unread then says why. differs: in what the heatmap is
    not of what scored the batch.
    """

    file: str
    result: ImageResult
    picture: Prepared | None = None
    unread: str = ""
    differs: str = ""


@dataclass
class Opened:
    """Which file a session has open, and what was made of it last.

    A batch that runs draws its page every second: nothing is decoded or assessed twice for that.
    """

    file: str = ""
    made: Made | None = None

    def record(self, records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        """The record of the open file; None where nothing is open or the filters hide it."""
        return next((r for r in records if self.file and r["file"] == self.file), None)

    def draw(
        self,
        records: Sequence[dict[str, Any]],
        batch: Batch,
        settings: Settings,
        scored_by: Release | None,
    ) -> None:
        """The reading, the way to its neighbours in the table, and the picture.

        scored_by: the release that the open file was scored by; None where it is not here.
        """
        place = [r["file"] for r in records].index(self.file)
        record = records[place]
        with st.container(key="card-batch"), _theme.boundary():
            with st.container(horizontal=True, vertical_alignment="center"):
                step = partial(self._step, records)
                first, last = place == 0, place == len(records) - 1
                st.button("Previous", on_click=step, args=(-1,), disabled=first, shortcut="P")
                st.button("Next", on_click=step, args=(1,), disabled=last, shortcut="N")
                st.button("Close", on_click=self._close)
                _theme.html(f"<p class='tally'>{place + 1} of {len(records)}</p>")
            on_event = partial(self._on_event, records)
            reading = _reading(record, batch.short(record["file"]), scored_by)
            if record["sha256"] is None:  # nothing of it was ever read
                _theme.html(reading)
                keys(key="viewer-batch", on_event=on_event)
                return
            try:  # first the picture is made: no name ever stands over the one before it
                made = self._made(record, batch, settings)
            except ImageRejected as error:
                _theme.notice(_theme.sentence(error))
                keys(key="viewer-batch", on_event=on_event)
                return
            _theme.html(reading)
            if said := made.differs or made.unread:
                _theme.notice(said)
            if made.picture is None:
                keys(key="viewer-batch", on_event=on_event)
                return
            with st.container(key="picture"):
                viewer(
                    made.picture,
                    made.result.heatmap,
                    key="viewer-batch",
                    alt=f"Radiograph {PurePath(record['file']).name}",
                    on_event=on_event,
                    caption=_caption(record, made.result, made.differs, scored_by),
                )

    def _made(self, record: dict[str, Any], batch: Batch, settings: Settings) -> Made:
        """Of the open file; raises ImageRejected where it is not the one that was scored."""
        if self.made is None or self.made.file != record["file"]:
            self.made = _make(record, batch, settings)
        return self.made

    def _on_event(self, records: Sequence[dict[str, Any]], event: Event) -> None:
        if event.step:
            self._step(records, event.step)

    def _step(self, records: Sequence[dict[str, Any]], step: int) -> None:
        """To a neighbour in the table as it is filtered and sorted."""
        files = [r["file"] for r in records]
        place = files.index(self.file) + step if self.file in files else -1
        if 0 <= place < len(files):
            self.file = files[place]

    def _close(self) -> None:
        self.file = ""


def _make(record: dict[str, Any], batch: Batch, settings: Settings) -> Made:
    """Decoded, and with the heatmap of ``_again``, each in the audit before it is shown.

    Raises ImageRejected where the file is not the one that was scored.
    """
    file, actor = record["file"], _access.actor()
    data = batch.bytes_of(file, settings)
    digest = hashlib.sha256(data).hexdigest()
    if digest != record["sha256"]:
        raise ImageRejected(CHANGED)
    _audit.write("image.opened", actor, sha256=digest)
    scored = tables.result_of(record)
    try:
        decoded = imaging.decode(data, PurePath(file).name, settings.limits)
        radiograph = film.as_seen(decoded, film.way_of(scored.photograph))
    except ImageRejected as error:  # the reading beside it says the same where it was refused
        return Made(file, scored, unread="" if error.reason == scored.reason else error.reason)
    result, differs = _again(record, radiograph)
    _audit.write("result.shown", actor, **_audit.facts(digest, result))
    return Made(file, result, Prepared.of(radiograph), differs=differs)


def _again(record: dict[str, Any], radiograph: Radiograph) -> tuple[ImageResult, str]:
    """Assessed by the release that is loaded, for its heatmap: that of the part that the batch
    says, whatever this release takes it for; and ``_differs``.

    What was refused has no finding and so no heatmap: it is as the batch has it.
    """
    part = _assessed(record)
    if part is None:
        return tables.result_of(record), ""
    cascade = _cascade.loader().start().result()
    known = part if part in cascade.release.parts else None
    [result] = cascade.predict([radiograph], known)
    if known is None:
        result = replace(result, heatmap=None)
    return result, _differs(record, part, cascade.release)


def _assessed(record: dict[str, Any]) -> BodyPart | None:
    """The part whose fracture model made the finding of a record; None where it has none."""
    return BodyPart(record["body_part"]["label"]) if record["fracture"] else None


def _differs(record: dict[str, Any], part: BodyPart, release: Release) -> str:
    """In which way the release that draws the heatmap is not the one that scored the batch; ""
    where it is the same."""
    if release.sha256 == record["release_sha256"]:
        return ""
    if part not in release.parts:
        return f"No heatmap: release {release.id} has no model for this body part ({part.words})."
    if scored := release.with_digest(record["release_sha256"]):
        if scored.mode == release.mode:  # an optional part came or went, and this one's is the same
            return ""
        return f"The heatmap was made in the mode {release.mode}, the results in {scored.mode}."
    return "The heatmap was made by another release than the results."


def _caption(
    record: dict[str, Any], result: ImageResult, differs: str, scored_by: Release | None
) -> tuple[str, ...]:
    """Below a saved picture: the record of the batch, and what drew the heatmap if another did."""
    scored = tables.result_of(record)
    if not differs:
        scored = replace(scored, heatmap=result.heatmap)
    said = _downloads.caption(_downloads.Record(scored), scored_by)
    if not differs or result.heatmap is None:
        return said
    other = result.release != record["release"]
    return (f"Heatmap by release {result.release}" if other else differs, *said)


def _reading(record: dict[str, Any], name: str, scored_by: Release | None) -> str:
    """Name, body part and finding in two lines, so that the picture has the height; and what to
    beware of, as on Diagnose."""
    said = f"<p class='cardname'><b>{escape(name)}</b></p>"
    notes = notes_of(tables.result_of(record), scored_by)
    below = cautions(notes)
    if record["fracture"] is None:
        return f"{said}<p class='cardreason'>{escape(record['reason'] or '')}</p>{below}"
    part, fracture = record["body_part"], record["fracture"]
    share = probability_of(fracture["probability"], scored_by, BodyPart(part["label"]))
    return (
        f"{said}<p class='value'><span>{escape(part['label'].capitalize())} "
        f"<span class='soft'>recognised, {_theme.percent(part['probability'])}</span></span>"
        f"<span>{badge(Finding(fracture['finding']))} · probability "
        f"{_theme.unbroken(share)}</span></p>{below}"
    )
