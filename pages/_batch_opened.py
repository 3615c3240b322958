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
from core.types import BodyPart, Finding, ImageResult
from pages import _access, _audit, _cascade, _downloads, _theme
from pages._reading import badge
from pages._viewer import Event, Prepared, keys, viewer

CHANGED = "The file has changed since it was scored, so it is not shown with that result."


@dataclass
class Opened:
    """Which file a session has open, and what was made of it last.

    A batch that runs draws its page every second: nothing is decoded or assessed twice for that.
    """

    file: str = ""
    made_of: str = ""
    picture: Prepared | None = None
    result: ImageResult | None = None
    differs: str = ""  # in what the heatmap is not of what scored the batch

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
                _theme.html(f"<p class='soft'>{place + 1} of {len(records)}</p>")
            on_event = partial(self._on_event, records)
            reading = _reading(record, batch.short(record["file"]), scored_by)
            if record["body_part"] is None:  # it could not be read
                _theme.html(reading)
                keys(key="viewer-batch", on_event=on_event)
                return
            try:  # first the picture is made: no name ever stands over the one before it
                picture, result = self._made(record, batch, settings)
            except ImageRejected as error:
                _theme.notice(_theme.sentence(error))
                keys(key="viewer-batch", on_event=on_event)
                return
            _theme.html(reading)
            if self.differs:
                _theme.notice(self.differs)
            with st.container(key="picture"):
                viewer(
                    picture,
                    result.heatmap,
                    key="viewer-batch",
                    alt=f"Radiograph {PurePath(record['file']).name}",
                    on_event=on_event,
                    caption=_caption(record, result, self.differs, scored_by),
                )

    def _made(
        self, record: dict[str, Any], batch: Batch, settings: Settings
    ) -> tuple[Prepared, ImageResult]:
        """Decoded, and assessed again by the release that is loaded, for its heatmap: that of the
        part that the batch says, whatever this release takes it for.

        Raises ImageRejected where the file is not the one that was scored.
        """
        file = record["file"]
        if self.made_of != file or self.picture is None or self.result is None:
            data, actor = batch.bytes_of(file, settings), _access.actor()
            digest = hashlib.sha256(data).hexdigest()
            if digest != record["sha256"]:
                raise ImageRejected(CHANGED)
            _audit.write("image.opened", actor, sha256=digest)
            decoded = imaging.decode(data, PurePath(file).name, settings.limits)
            scored = tables.result_of(record).photograph
            radiograph = film.as_seen(decoded, film.way_of(scored))
            cascade, part = _cascade.loader().start().result(), _assessed(record)
            known = part if part in cascade.release.parts else None
            [result] = cascade.predict([radiograph], known)
            self.result = result if known else replace(result, heatmap=None)
            self.differs = _differs(record, cascade.release)
            _audit.write("result.shown", actor, **_audit.facts(digest, self.result))
            self.picture, self.made_of = Prepared.of(radiograph), file
        return self.picture, self.result

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


def _assessed(record: dict[str, Any]) -> BodyPart | None:
    """The part whose fracture model made the finding of a record; None where it has none."""
    return BodyPart(record["body_part"]["label"]) if record["fracture"] else None


def _differs(record: dict[str, Any], release: Release) -> str:
    """In which way the release that draws the heatmap is not the one that scored the batch; ""
    where it is the same, and where there was nothing to draw."""
    part = _assessed(record)
    if part is None or release.sha256 == record["release_sha256"]:
        return ""
    if part not in release.parts:
        return (
            f"There is no heatmap: release {release.id} has no model of this part ({part.words})."
        )
    if scored := release.with_digest(record["release_sha256"]):
        if scored.mode == release.mode:  # an optional part came or went, and this one's is the same
            return ""
        return f"The heatmap is of the mode {release.mode}, and the batch of {scored.mode}."
    return "The heatmap is of another release than the batch."


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
    below = "".join(f"<p class='caution'>{escape(note)}</p>" for note in notes)
    if record["fracture"] is None:
        return f"{said}<p class='cardreason'>{escape(record['reason'] or '')}</p>{below}"
    part, fracture = record["body_part"], record["fracture"]
    share = probability_of(fracture["probability"], scored_by, BodyPart(part["label"]))
    return (
        f"{said}<p class='value'><span>{escape(part['label'].capitalize())} "
        f"{_theme.percent(part['probability'])}</span>"
        f"<span>{badge(Finding(fracture['finding']))} "
        f"{_theme.unbroken(share)}</span></p>{below}"
    )
