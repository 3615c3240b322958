"""The radiograph of a batch that is open beside the table, and what is noted of who saw what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core import imaging
from core.batch import tables
from core.batch.kept import Batch
from core.errors import ImageRejected, StoreUnavailable
from core.manifest import Release
from core.notes import notes_of
from core.registry import Registry
from core.settings import ImageLimits, Settings
from core.store import Store
from core.types import BodyPart, Mode, Photograph
from pages import _audit, _batch_opened, _theme
from pages._batch_opened import Opened
from tests.ensembles import with_members
from tests.listed import keys, lists, viewers
from tests.test_batch_page import finished, page, quiet, settings, text  # noqa: F401  (fixtures)

LIMITS = ImageLimits()


@pytest.fixture
def batch(settings: Settings, tmp_path: Path, quiet: None) -> Batch:  # noqa: F811
    """Of sixteen files, four of them unreadable."""
    return finished(settings, tmp_path)


def opened(app: AppTest, batch: Batch, file: str) -> Opened:
    """A file of the batch is opened, as a row of the table does it."""
    found: Opened = app.session_state["batches"][batch.folder.name].opened
    found.file = file
    app.run()
    assert not app.exception and "An unexpected error" not in text(app)
    return found


def test_a_saved_picture_says_what_the_batch_says(batch):
    *_, good, _ = [record for _, record in batch.records()]
    app = page()
    opened(app, batch, good["file"])
    [told] = viewers(app)
    other, found, *rest = told["caption"]
    assert other == "Heatmap by release random"
    notes = notes_of(tables.result_of(good), None)
    assert notes and rest == [*notes, "Release stand", _theme.RESEARCH_ONLY]
    assert found.startswith(good["body_part"]["label"]) and "probability" in found


def scored_by(batch: Batch, **facts: Any) -> dict[str, Any]:
    """A record of the batch as it would be from the release that is loaded, with these facts."""
    *_, good, _ = [record for _, record in batch.records()]
    release = Registry.open(Settings.from_environment().weights).find("champion")
    good |= {"release": release.id, "release_sha256": release.sha256} | facts
    written(batch, [good])
    return good


@pytest.mark.parametrize("part", ["elbow", "hand", "shoulder"])
def test_the_heatmap_is_of_the_part_that_the_batch_says(batch, part):
    first = {"label": part, "probability": 0.9, "probabilities": {part: 0.9, "other": 0.1}}
    good = scored_by(batch, body_part=first)
    app = page()
    found = opened(app, batch, good["file"])
    assert found.made.result.part == part and viewers(app)[0]["heat"]
    assert "The heatmap was made" not in text(app)


def test_of_a_part_without_a_model_there_is_no_heatmap_and_that_is_said(batch):
    first = {"label": "knee", "probability": 0.9, "probabilities": {"knee": 0.9, "other": 0.1}}
    good = scored_by(batch, body_part=first, release="old", release_sha256="0" * 64)
    app = page()
    opened(app, batch, good["file"])
    [told] = viewers(app)
    assert not told["heat"] and not any("Heatmap by" in line for line in told["caption"])
    assert "No heatmap: release random has no model for this body part (knee)." in text(app)


def test_a_heatmap_of_another_mode_is_said_to_be_of_that_mode(weights, tmp_path):
    with_members(weights, tmp_path, "EfficientNet-Lite2")
    release = Registry.open(tmp_path).find("champion")
    fast, joined = release.in_mode(Mode.FAST), release.in_mode(Mode.ENSEMBLE)
    record = {
        "fracture": {"probability": 0.5},
        "body_part": {"label": "hand"},
        "release_sha256": joined.sha256,
    }
    hand = BodyPart.HAND
    said = _batch_opened._differs(record, hand, fast)
    assert said == "The heatmap was made in the mode fast, the results in ensemble."
    assert _batch_opened._differs(record, hand, joined) == ""
    stages = fast.raw["stages"]
    raw = fast.raw | {"stages": stages | {"elbow": stages["elbow"] | {"optional": True}}}
    without = Release.from_json(raw, Mode.ENSEMBLE, {"elbow": ("e",)})
    assert without.sha256 != joined.sha256
    assert _batch_opened._differs(record, hand, without) == ""  # the hand's network is the same
    other = record | {"release_sha256": "0" * 64}
    said = _batch_opened._differs(other, hand, fast)
    assert said == "The heatmap was made by another release than the results."


REFUSED = {"status": "rejected", "reason": "It is of another body part.", "body_part": None}


def test_a_radiograph_that_was_refused_can_be_looked_at(batch):
    good = scored_by(batch, fracture=None, **REFUSED)
    app = page()
    made = opened(app, batch, good["file"]).made
    [told] = viewers(app)
    assert told["id"] == good["sha256"] and not told["heat"] and made.result.heatmap is None
    assert f"<p class='cardreason'>{REFUSED['reason']}</p>" in text(app)
    assert "The heatmap was made" not in text(app) and not any(
        "probab" in t for t in told["caption"]
    )
    assert [facts["finding"] for e, facts in events() if "finding" in facts] == ["refused"]


def test_what_cannot_be_decoded_is_tried_once_and_says_why(batch, monkeypatch):
    *_, good, broken = [record for _, record in batch.records()]
    app = page()
    for record, again in ((broken, broken["reason"]), (good, "It is larger than the new limit.")):
        tried = []

        def refuse(data: bytes, *_, tried=tried, again=again) -> None:
            tried.append(data)
            raise ImageRejected(again)

        monkeypatch.setattr("core.imaging.decode", refuse)
        opened(app, batch, record["file"])
        app.run()  # as it is drawn every second while the batch runs
        assert len(tried) == 1 and text(app).split("cardname")[1].count(again) == 1
        assert len(keys(app)) == 1 and not viewers(app)


@pytest.mark.parametrize("fails", ["pages._audit.write", "pages._viewer.Prepared.of"])
def test_nothing_of_two_files_is_shown_together_whatever_fails(batch, monkeypatch, fails):
    some = {r["sha256"]: r["file"] for _, r in batch.records() if r["fracture"]}
    first, *_, other = some.values()
    app = page()
    made = opened(app, batch, first).made
    before = _audit.write

    def fail(event: object, *given: Any, **facts: Any) -> None:
        if event == "image.opened":
            return before(event, *given, **facts)
        raise StoreUnavailable("The worklist is not available.")

    with monkeypatch.context() as patch:
        patch.setattr(fails, fail)
        opened(app, batch, other)
        assert "The worklist is not available." in text(app) and not viewers(app)
    found = opened(app, batch, first).made
    assert found.picture.radiograph.sha256 == found.result.sha256 == viewers(app)[0]["id"]
    assert found == made


def test_what_has_no_picture_is_left_by_key(batch):
    *_, good, broken = [record["file"] for _, record in batch.records()]
    app = page()
    opened(app, batch, broken)
    assert len(keys(app)) == 1 and not viewers(app)
    shortcuts = {b.label: b.proto.shortcut for b in app.button}
    assert (shortcuts["Previous"], shortcuts["Next"]) == ("p", "n")
    Path(good).unlink()
    opened(app, batch, good)
    assert len(keys(app)) == 1 and not viewers(app)


def written(batch: Batch, records: list[dict[str, Any]]) -> None:
    """The batch has these records."""
    batch.out.write_text("".join(json.dumps(r) + "\n" for r in records))


def test_a_probability_is_told_from_its_threshold(batch):
    good = scored_by(batch)
    release = Registry.open(Settings.from_environment().weights).find("champion")
    start = release.stages[good["body_part"]["label"]].operating_points[0].threshold
    good["fracture"] |= {"probability": start - 0.002, "finding": "not_suspected"}
    written(batch, [good])
    app = page()
    opened(app, batch, good["file"])
    assert f"{100 * start - 0.2:.1f}&nbsp;%</span></p>" in text(app)


def test_a_photograph_and_an_unsure_part_are_said(batch):
    *_, good, broken = [record for _, record in batch.records()]
    good["body_part"]["probability"] = 0.97
    unsure = json.loads(json.dumps(good)) | {"file": f"{good['file']}.png"}
    unsure["body_part"]["probability"] = 0.94
    good["photograph"] = {"corners": [[0, 0], [1, 0], [1, 1], [0, 1]]}
    written(batch, [good, unsure, broken])
    app = page()
    first, second, third = lists(app)[0]["Note"]
    assert first.startswith("From a photograph") and "check the body part" not in first
    assert second.startswith("Please check the body part")
    assert third == broken["reason"]
    opened(app, batch, good["file"])
    assert "<p class='caution'>From a photograph: the film was cut out" in text(app)
    assert "From a photograph, straightened" in viewers(app)[0]["caption"]


def test_what_is_shown_is_cut_as_it_was_when_it_was_scored(batch):
    """By the record's corners, whatever the rule of today would find."""
    corners = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
    good = scored_by(batch, photograph=Photograph(corners).to_json())
    whole = imaging.decode(batch.bytes_of(good["file"], Settings.from_environment()), "a", LIMITS)
    shown = opened(page(), batch, good["file"]).made.picture
    height, width = whole.pixels.shape
    assert shown.size == pytest.approx((height / 2, width / 2), abs=2)


def test_the_table_goes_with_the_open_row(batch):
    first = next(record for _, record in batch.records() if record["fracture"])
    many = [first | {"file": f"{batch.source}/{n:03}.png"} for n in range(60)]
    many[0] |= {"fracture": None, "status": "rejected", "reason": "No.", "body_part": None}
    written(batch, many)
    app = page()
    app.selectbox(key="batch-order").select("As in the folder").run()
    seen = opened(app, batch, many[24]["file"])
    assert app.number_input(key="batch-page").value == 1
    next(b for b in app.button if b.label == "Next").click().run()
    assert app.number_input(key="batch-page").value == 2
    assert lists(app)[0]["File"].iloc[0] == "025.png" and "Note" not in lists(app)[0]
    app.number_input(key="batch-page").set_value(3).run()  # the reader may look elsewhere
    assert lists(app)[0]["File"].iloc[0] == "050.png"
    next(b for b in app.button if b.label == "Previous").click().run()
    assert app.number_input(key="batch-page").value == 1
    app.multiselect(key="batch-finding").select("rejected").run()  # hides the open one
    assert seen.file == many[24]["file"] and "Note" in lists(app)[0]


def events() -> list[tuple[str, dict[str, Any]]]:
    """What the audit has since the app began to serve."""
    return [
        (e.event, json.loads(e.facts))
        for e in Store.open(Settings.from_environment()).audit_lines()
    ][1:]


def test_what_is_shown_is_in_the_audit_first(batch, monkeypatch):
    given = {}
    monkeypatch.setattr(
        "streamlit.download_button", lambda label, data, *_, **__: given.update({label: data})
    )
    app = page()
    app.run()  # nothing again
    result, pictures = events()
    digests = {record["sha256"] for _, record in batch.records() if record["sha256"]}
    number = {"batch": batch.folder.name}
    assert result == ("result.shown", number) and pictures[0] == "image.opened"
    assert set(pictures[1].values()) == digests | {batch.folder.name}
    given["CSV of all 16"]()
    next(b for b in app.button if b.label == "Delete permanently").click().run()
    assert events()[2:] == [
        ("export.made", number | {"kind": "csv"}),
        ("batch.deleted", number),
    ]


def test_what_cannot_be_in_the_audit_is_not_shown(batch, monkeypatch):

    def full(*_, **__):
        raise StoreUnavailable("The worklist is not available.")

    app = page()
    with monkeypatch.context() as patch:
        patch.setattr("pages._audit.write", full)
        app.session_state["batches-told"] = set()
        app.run()
        assert "The worklist is not available." in text(app) and not lists(app)
        next(b for b in app.button if b.label == "Delete permanently").click().run()
        assert batch.folder.exists()
    app.run()
    assert lists(app)


def test_a_start_that_cannot_be_in_the_audit_is_stopped(batch, monkeypatch):
    batch.out.unlink()
    stopped = []

    def stop(self: Batch) -> None:
        stopped.append(self)

    monkeypatch.setattr(Batch, "stop", stop)
    app = page()
    next(b for b in app.button if b.label == "Resume").click().run()
    assert events()[-1] == ("batch.started", {"batch": batch.folder.name}) and not stopped

    def full(*_, **__):
        raise StoreUnavailable("The worklist is not available.")

    monkeypatch.setattr("pages._audit.write", full)
    next(b for b in app.button if b.label == "Resume").click().run()
    assert "The worklist is not available." in text(app) and stopped == [batch]


def test_one_file_is_one_file_and_the_scale_has_its_end(batch, monkeypatch):
    (batch.folder / "log").write_text('{"done": 1, "total": 1, "rejected": 0}\n')
    drawn = []
    monkeypatch.setattr("streamlit.plotly_chart", lambda figure, **_: drawn.append(figure))
    assert "<b>1</b> file, <b>0</b> not assessed." in text(page())
    assert drawn[-1].layout.xaxis.tickvals[-1] == 100 and drawn[-1].layout.margin.r >= 30
