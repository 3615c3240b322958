"""The page Review without a browser: the list, one study, and what is saved when."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from html import escape
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from sqlalchemy import select
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.testing.v1 import AppTest

from core import imaging, registry
from core.access import Role
from core.cascade import Cascade
from core.errors import StoreUnavailable
from core.manifest import Release
from core.pipeline import diagnose
from core.registry import Registry
from core.settings import ROOT, Settings
from core.store import Mark, Opinion, Query, Status, Store, Verdict, tables
from core.store.export import to_csv, to_manifest
from core.store.records import Reassessment
from core.study import combine
from core.types import BodyPart, Finding, ImageResult
from pages import (
    _access,
    _audit,
    _review_list,
    _review_report,
    _review_said,
    _review_study,
    _worklist,
)
from pages._theme import percent
from pages._viewer import Prepared
from tests import worklist
from tests.listed import lists, viewers
from tests.simulated import dicom, phantom

APP = str(ROOT / "streamlit_app.py")
AGREE = Opinion(Verdict.AGREE, BodyPart.HAND, Finding.SUSPECTED)


@pytest.fixture
def store(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty worklist, which is that of the page."""
    monkeypatch.setenv("BONE_WEIGHTS", str(weights))
    monkeypatch.setenv("BONE_DEVICE", "cpu")
    monkeypatch.setenv("BONE_HOME", str(tmp_path))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    st.cache_resource.clear()
    st.cache_data.clear()
    found = Store.open(Settings.from_environment())
    yield found
    _audit.store().close()
    found.close()
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def three(store: Store, weights: Path) -> list[str]:
    """Ids of three studies, the most urgent one first."""
    release = Registry.open(weights).find("champion")
    odds = {"calm": 0.1, "urgent": 0.95, "doubtful": 0.5}
    ids = {n: worklist.put(store, release, n, p, 10 * k) for k, (n, p) in enumerate(odds.items())}
    return [ids["urgent"], ids["doubtful"], ids["calm"]]


def page(reader: str = "", study: str = "") -> AppTest:
    app = AppTest.from_file(APP, default_timeout=180)
    app.switch_page("pages/review.py")
    if reader:
        app.session_state["reader"] = reader
    if study:
        app.query_params["study"] = study
    app.run()
    assert not app.exception
    return app


def press(app: AppTest, button: str) -> None:
    """A button of the reader's decision, whose key ends in the study that is open."""
    (found,) = [b for b in app.button if (b.key or "").startswith(f"{button}-")]
    found.click().run()


def text(app: AppTest) -> str:
    return "\n".join(str(e.proto.body) for e in app.get("html"))


def test_what_came_again_is_superseded_and_leads_to_the_newer(store: Store, weights: Path) -> None:
    release = Registry.open(weights).find("champion")
    old = worklist.put(store, release, "Study 1.2.3", 0.9, 0, key="1.2.840.99.3")
    new = worklist.put(store, release, "Study 1.2.3", 0.1, 5, key="1.2.840.99.3")
    for seed in (10, 20):  # two files of one name are no studies of one UID
        worklist.put(store, release, "IMG_1", 0.5, seed)
    app = page()
    titles = list(lists(app)[0]["Study"])
    assert titles == ["Study 1.2.3 · superseded", "IMG_1", "IMG_1", "Study 1.2.3"]
    app = page(study=old)
    assert "Superseded:" in text(app)
    app.button("newer").click().run()
    assert app.query_params["study"] == new and "Superseded:" not in text(app)
    for study in (old, new):  # both read by one: counted as one
        store.decide(study, "bob", AGREE, 0)
    app = page("bob")
    app.toggle(key="agreement").set_value(True).run()
    assert "n&nbsp;=&nbsp;1" in text(app) and "n&nbsp;=&nbsp;2" not in text(app)


def test_an_empty_worklist_says_how_to_fill_it(store: Store) -> None:
    assert "Nothing is on the worklist yet" in text(page())


def test_urgent_first_and_filters(three: list[str]) -> None:
    app = page()
    assert list(lists(app)[0]["Study"]) == ["urgent", "doubtful", "calm"]
    app.text_input(key="review-text").input("calm").run()
    assert list(lists(app)[0]["Study"]) == ["calm"]
    app.text_input(key="review-text").input("nobody").run()
    assert "No study matches" in text(app) and not app.exception


def test_a_reader_disagrees_and_it_is_there_after_a_reload(store: Store, three: list[str]) -> None:
    app = page()
    app.button("start").click().run()
    assert "Enter your name to record a decision" in text(app)
    for name in ("Listener ", "bob\nchief"):  # neither the program's own, nor two lines of a list
        app.text_input(key="reader-review").input(name).run()
        assert "Enter your name to record a decision" in text(
            app
        ) and _worklist.NOT_THIS_NAME in text(app)
    app.text_input(key="reader-review").input("bob").run()
    assert _worklist.NOT_THIS_NAME not in text(app)
    press(app, "verdict-disagree")
    opinion = store.study(three[0]).decisions[0].opinion
    assert opinion == Opinion(Verdict.DISAGREE)  # what with, the reader has not said yet
    app.selectbox[0].select(BodyPart.ELBOW).run()
    app.text_area[0].input("seen elsewhere").run()
    decision = store.study(three[0]).decisions[0]
    assert decision.reader == "bob" and decision.opinion is not None
    assert decision.opinion.body_part == BodyPart.ELBOW
    assert decision.opinion.comment == "seen elsewhere"
    again = page("bob", three[0])
    assert again.text_area[0].value == "seen elsewhere"
    assert "Saved at" in text(again) and not again.exception


def test_a_part_named_by_a_reader_is_asked_and_both_answers_stay(
    store: Store, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = page("bob", three[0])
    press(app, "verdict-disagree")
    assert store.study(three[0]).reassessments == ()
    app.selectbox[0].select(BodyPart.ELBOW).run()
    assert not app.exception
    record = store.study(three[0])
    (asked,) = record.reassessments
    assert record.result.body_part == BodyPart.HAND and record.result.probability == 0.95
    assert asked.result.body_part == BodyPart.ELBOW and asked.asked_by == "bob"
    assert [v.chosen for v in asked.result.views] == [BodyPart.ELBOW] * 2
    shown = text(app)
    assert "95&nbsp;%" in shown and "Body part named by bob" in shown
    assert percent(asked.result.probability or 0.0) in shown
    as_ = app.button_group(f"read-as-{three[0]}-2")
    assert as_.value == BodyPart.ELBOW

    def never(*_: object, **__: object) -> None:
        raise AssertionError("asked twice")

    monkeypatch.setattr("pages._review_asked.ask", never)
    app.run()
    assert "unexpected error" not in text(app)
    # who has not decided does not see what others asked, as little as what they decided
    assert "Body part named by" not in text(page("carol", three[0]))
    press(app, "verdict-agree")
    assert "Body part named by" not in text(app)
    assert store.study(three[0]).reassessments == (asked,)


def test_a_page_looks_its_release_up_once(
    store: Store, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = page("bob", three[0])
    press(app, "verdict-disagree")
    app.selectbox[0].select(BodyPart.ELBOW).run()  # now two answers stand on it
    looked_up: list[str] = []
    used = registry.used

    def counted(folder: Path, name: str, sha256: str) -> Release | None:
        looked_up.append(sha256)
        return used(folder, name, sha256)

    monkeypatch.setattr("core.registry.used", counted)
    app.run()
    assert not app.exception and len(app.button_group(f"read-as-{three[0]}-2").options) == 2
    assert looked_up == [store.study(three[0]).release_sha256]


def report_is(app: AppTest) -> str:
    return next(b.proto.type for b in app.get("download_button") if "Report" in b.proto.label)


def test_a_probability_is_told_from_its_threshold(store: Store, weights: Path) -> None:
    release = Registry.open(weights).find("champion")
    start = release.stages["hand"].operating_points[0].threshold
    near = worklist.put(store, release, "near", start - 0.002)
    app = page("bob", near)
    said = f"{100 * start - 0.2:.1f}&nbsp;%"
    assert f"<span class='number'>{said}</span>" in text(app)
    assert "class='scale'" in text(app) and "How sure is this?" in text(app)  # as on Diagnose
    assert "Agree means: hand, not suspected." in text(app)
    assert report_is(app) == "secondary"
    press(app, "verdict-disagree")
    assert report_is(app) == "primary"
    app.selectbox[0].select(BodyPart.ELBOW).run()
    assert f"Hand {said}" in app.button_group(f"read-as-{near}-2").options


def test_a_part_without_a_model_is_not_asked(store: Store, three: list[str]) -> None:
    app = page("bob", three[0])
    press(app, "verdict-disagree")
    app.selectbox[0].select(BodyPart.OTHER).run()
    assert not app.exception and store.study(three[0]).reassessments == ()
    assert store.study(three[0]).decisions[0].opinion.body_part == BodyPart.OTHER


def made(store: Store, study: str, form: str, reader: str) -> bytes:
    """The report as the button of the page makes it."""
    radiographs = partial(_review_study._radiographs, store)
    return _review_report._made(store, study, radiographs, form, False, "specific", 0.1, reader)


def test_what_is_said_of_a_named_part_is_told_with_its_notes(
    store: Store, three: list[str], weights: Path
) -> None:
    record = store.study(three[0])
    release = Registry.open(weights).find("champion")
    result = replace(record.result, notes=("Only said <there>.", *record.result.notes))
    asked = Reassessment(result, release.id, "f" * 64, "fracture", record.added, "bob")
    said = _review_said.reading_of(record, (asked,), _review_report.Releases())
    named, beside = said.split("<div class='asked'>")
    assert "Only said" not in named and beside.count("Only said &lt;there&gt;.") == 1
    assert "Body part named by bob, in another mode or with other parts of the release" in beside
    assert all(said.count(escape(note)) == 1 for note in record.result.notes)
    lacking = replace(record, older=("x",), missing=2)
    said = _review_said.reading_of(lacking, (), _review_report.Releases())
    assert "2 radiographs of the study that this one replaced are not in it." in said
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "study", lambda _: lacking)
        report = json.loads(made(store, three[0], "json", "bob"))
    assert report["study"]["notes"] == list(lacking.notes)


def test_a_report_is_of_the_study_as_it_is_when_it_is_made(
    store: Store, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = Registry.open(weights).find("champion")
    old = worklist.put(store, release, "Study 1.2.3", 0.9, 0, key="1.2.840.99.3")
    for reader in ("ann", "cy"):
        store.decide(old, reader, AGREE, 0)
    on_click: list[partial[bytes]] = []
    monkeypatch.setattr(
        _review_report, "partial", lambda f, *given: on_click.append(partial(f, *given)) or ""
    )
    app = page("bob", old)
    *_, as_json = on_click
    assert json.loads(as_json())["decisions"] == []  # bob has still to decide
    press(app, "verdict-agree")
    new = worklist.put(store, release, "Study 1.2.3", 0.1, 5, key="1.2.840.99.3")
    store.undo(old, "ann", 1)
    view = store.study(old).result.views[1]
    store.pictures.path(str(view.sha256)).write_bytes(b"damaged")
    said = json.loads(as_json())
    assert said["study"]["superseded_by"] == new
    assert [d["reader"] for d in said["decisions"]] == ["cy", "bob"]
    assert len(said["views"]) == 2


def test_the_report_has_decision_mark_and_remark(
    store: Store, three: list[str], tmp_path: Path
) -> None:
    app = page("bob", three[0])
    assert [b for b in app.get("download_button") if b.proto.label == "Report (PDF)"]
    mark = Mark(1, 0.2, 0.25, 0.5, 0.75)
    store.decide(
        three[0], "bob", Opinion(Verdict.DISAGREE, BodyPart.ELBOW, None, "old", (mark,)), 0
    )
    store.decide(three[0], "carol", Opinion(Verdict.DRAFT, comment="not yet"), 0)
    page("bob", three[0])  # asks the elbow's model
    record = json.loads(made(store, three[0], "json", "bob"))
    (decision,) = record["decisions"]
    assert (decision["reader"], decision["agrees"], decision["comment"]) == ("bob", False, "old")
    assert decision["marks"] == [{"view": 1, "x0": 0.2, "y0": 0.25, "x1": 0.5, "y1": 0.75}]
    assert record["study"]["body_part"] == "hand" and record["study"]["name"] is None
    assert [r["body_part"] for r in record["reassessed"]] == ["elbow"]
    assert record["operating_point"]["point"]["name"] == "specific"
    assert record["predictive_values"]["prevalence"] == 0.1
    (tmp_path / "r.pdf").write_bytes(made(store, three[0], "pdf", "bob"))
    command = ["pdftotext", "-layout", tmp_path / "r.pdf", "-"]
    words = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    words = " ".join(words.split())
    for said in ("Reader disagrees: bob", "Marked on view 2", "20 to 50 % of the width", "old"):
        assert said in words
    assert "Assessed as elbow, as named by a reader" in words and "not yet" not in words
    events = [line for line in store.audit_lines() if line.event == "export.made"]
    assert [json.loads(e.facts)["kind"] for e in events] == ["report json", "report pdf"]


def test_a_report_of_a_release_that_is_gone(
    store: Store, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = store.study(three[0])
    found = _review_report.installed(there)
    assert found is not None and found.stages["hand"].operating_points
    views = tuple(replace(v, release_sha256="0" * 64) for v in there.result.views)
    record = replace(there, release_sha256="0" * 64, result=replace(there.result, views=views))
    assert _review_report.installed(record) is None
    monkeypatch.setattr(store, "study", lambda _: record)
    said = json.loads(made(store, three[0], "json", "bob"))
    assert said["release"] == {
        "id": record.release,
        "sha256": "0" * 64,
        "created": None,
        "mode": None,
        "installed": False,
    }
    assert said["study"]["label_means"] == "fracture" and said["operating_point"] is None


def test_the_browser_knows_who_read_before_and_another_can_say_so(
    store: Store,
    three: list[str],
    cookies: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cookies[_worklist.COOKIE] = "J%C3%BCrgen%20%3Cb%3E"
    app = page(study=three[0])
    assert "Reading as <b>Jürgen &lt;b&gt;</b>" in text(app)
    press(app, "verdict-agree")
    assert store.study(three[0]).decisions[0].reader == "Jürgen <b>"
    app.button("other-reader").click().run()
    assert "Enter your name to record a decision" in text(app)
    app.text_input(key="reader-review").input("bob").run()
    assert "Reading as <b>bob</b>" in text(app)
    monkeypatch.setattr("pages._access.actor", lambda: "ann@example.org")
    app.run()
    assert "Reading as <b>ann@example.org</b>" in text(app)
    assert not [b for b in app.button if b.key == "other-reader"]


def test_a_step_counts_until_the_page_of_the_next_study_was_drawn(
    three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = page("bob", three[0])
    with monkeypatch.context() as cut:
        cut.setattr("pages._review_study.StudyPage.draw", lambda _: st.stop())  # by the next key
        app.button("next").click().run()
    app.query_params["study"] = three[0]  # what a browser sends that has not heard of the step
    app.run()
    assert "Study <b>2</b> of 3" in text(app)
    app.query_params["study"] = three[0]  # the reader goes back
    app.run()
    assert "Study <b>1</b> of 3" in text(app)


def test_no_button_counts_for_a_study_whose_picture_is_not_there_yet(
    store: Store, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agree, pressed while the first study's picture is on the screen and the next one is made."""
    app, made = page("bob", three[0]), _review_study._radiograph
    pressed: list[object] = []

    def slow(*wanted: object) -> object:
        context = get_script_run_ctx()
        assert context is not None
        known = context.session_state._state._new_widget_state.widget_metadata
        for id_, widget in list(known.items()):
            if "verdict-agree" in id_ and not pressed:
                pressed.append(id_)
                widget.callback(*widget.callback_args)
        return made(*wanted)

    monkeypatch.setattr("pages._review_study._radiograph", slow)
    app.button("next").click().run()
    assert not app.exception and pressed and "Study <b>2</b> of 3" in text(app)
    assert not store.study(three[1]).history
    assert [d.reader for d in store.study(three[0]).history] == ["bob"]


def test_a_comment_stays_where_it_could_not_be_saved(
    store: Store, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise StoreUnavailable("Nothing was changed.")

    app = page("bob", three[0])
    app.text_area[0].input("first").run()
    with monkeypatch.context() as cut:
        cut.setattr(Store, "decide", busy)
        app.text_area[0].input("a long remark").run()
    assert app.text_area[0].value == "a long remark" and "Nothing was changed." in text(app)
    assert "not saved yet" in text(app)
    press(app, "verdict-agree")
    opinion = store.study(three[0]).decisions[0].opinion
    assert opinion == replace(AGREE, comment="a long remark", finding=Finding.SUSPECTED)
    assert app.text_area[0].value == "a long remark" and "not saved yet" not in text(app)


def test_a_comment_that_waits_is_saved_by_the_same_verdict_and_kept_from_undo(
    store: Store, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise StoreUnavailable("Nothing was changed.")

    app = page("bob", three[0])
    press(app, "verdict-disagree")
    with monkeypatch.context() as cut:
        cut.setattr(Store, "decide", busy)
        app.text_area[0].input("a long remark").run()
    press(app, "undo")
    assert "Save or clear it, then undo." in text(app)
    assert app.text_area[0].value == "a long remark"
    press(app, "verdict-disagree")
    opinion = store.study(three[0]).decisions[0].opinion
    assert (opinion.verdict, opinion.comment) == (Verdict.DISAGREE, "a long remark")
    assert opinion.finding is None and "not saved yet" not in text(app)
    other = replace(opinion, comment="elsewhere")  # in another window
    store.decide(three[0], "bob", other, 2)
    app.run()
    assert app.text_area[0].value == "elsewhere"


def test_nothing_is_decided_about_a_study_whose_time_is_over(
    store: Store, three: list[str]
) -> None:
    store.decide(three[0], "bob", AGREE, 0)
    store._retention_days = 1
    store.purge(datetime.now(UTC) + timedelta(days=2))
    for reader in ("bob", "carol", ""):
        app = page(reader, three[0])
        assert "<th>bob</th>" in text(app) and "their retention period" in text(app)
        assert "Enter your name" not in text(app) and not app.text_area
        assert not [b for b in app.button if (b.key or "").startswith(("verdict", "undo"))]


def test_undo_takes_back_one_step(store: Store, three: list[str]) -> None:
    app = page("bob", three[1])
    press(app, "verdict-agree")
    press(app, "verdict-second_look")
    assert store.study(three[1]).status is Status.SECOND_LOOK
    press(app, "undo")
    assert store.study(three[1]).status is Status.AGREED
    press(app, "undo")
    assert store.study(three[1]).status is Status.NEW
    press(app, "undo")
    assert "nothing to undo" in text(app)


def test_next_and_previous_keep_to_the_order_of_the_list(three: list[str]) -> None:
    app = page("bob", three[0])
    assert app.button("previous").disabled
    app.button("next").click().run()
    app.button("next").click().run()
    assert app.query_params["study"] == [three[2]] or app.query_params["study"] == three[2]
    assert app.button("next").disabled and "Study <b>3</b> of 3" in text(app)
    app.button("to-list").click().run()
    assert lists(app)


def test_other_readers_are_shown_when_one_has_decided(store: Store, three: list[str]) -> None:
    mark = Mark(0, 0.1, 0.1, 0.4, 0.4)
    store.decide(three[0], "carol", Opinion(*vars(AGREE).values()), 0)
    store.decide(three[0], "carol", Opinion(Verdict.AGREE, BodyPart.HAND, None, "c", (mark,)), 1)
    app = page("bob", three[0])
    assert "1 other reader has decided" in text(app) and "carol" not in text(app)
    assert viewers(app)[0]["others"] == []
    press(app, "verdict-agree")
    assert "<th>carol</th><th>bob</th>" in text(app) and "view 1" in text(app)
    assert viewers(app)[0]["others"] == [{"label": "carol", "box": [0.1, 0.1, 0.4, 0.4]}]
    app.button(f"view-{three[0]}-1").click().run()
    assert viewers(app)[0]["others"] == []


def test_a_second_window_is_told_and_overwrites_nothing(store: Store, three: list[str]) -> None:
    app = page("bob", three[0])
    store.decide(three[0], "bob", AGREE, 0)
    press(app, "verdict-disagree")
    assert "another window" in text(app)
    assert store.study(three[0]).decisions[0].opinion == AGREE


def test_a_comment_that_was_typed_in_one_of_two_windows_is_not_lost(
    store: Store, three: list[str]
) -> None:
    app = page("bob", three[0])
    store.decide(three[0], "bob", Opinion(Verdict.DRAFT, comment="<short>"), 0)
    app.text_area[0].input("A long remark.").run()
    assert app.text_area[0].value == "A long remark." and "another window" in text(app)
    assert "not saved yet" in text(app) and "in the place of “&lt;short&gt;”." in text(app)
    press(app, "verdict-agree")
    said = [d.opinion.comment for d in store.study(three[0]).history if d.opinion]
    assert said == ["<short>", "A long remark."] and "not saved yet" not in text(app)


def test_a_study_that_is_not_there(three: list[str]) -> None:
    assert "not on the worklist" in text(page("bob", "nothing"))


def test_figures_of_agreement(store: Store, three: list[str]) -> None:
    store.decide(three[0], "bob", AGREE, 0)
    app = page("bob")
    app.toggle(key="agreement").set_value(True).run()
    assert "All readers, sensitive" in text(app) and "n&nbsp;=&nbsp;1" in text(app)
    assert "Release random, mode fast." in text(app) and "another release" not in text(app)


def test_agreement_is_of_the_release_in_use(store: Store, three: list[str], weights: Path) -> None:
    """What another release or mode said of a study is no figure of this one."""
    release = Registry.open(weights).find("champion")
    before = replace(release, id="before", sha256="0" * 64)
    old = worklist.put(store, before, "old", 0.95, 90)
    for study in (three[0], old):
        store.decide(study, "bob", AGREE, 0)
    app = page("bob")
    app.toggle(key="agreement").set_value(True).run()
    assert "1 reading is left out, of studies that another release or mode assessed" in text(app)
    shown = text(app)
    assert "n&nbsp;=&nbsp;1" in shown and "n&nbsp;=&nbsp;2" not in shown


def test_without_an_audit_nothing_is_decided(
    store: Store, three: list[str], tmp_path: Path
) -> None:
    app = page("bob", three[0])
    with sqlite3.connect(tmp_path / "bone.sqlite") as connection:
        connection.execute("ALTER TABLE audit RENAME TO elsewhere")
    connection.close()
    press(app, "verdict-agree")
    assert "nothing was changed" in text(app)
    assert store.study(three[0]).decisions == ()


def test_what_is_shown_of_a_study_is_written_down_first(
    store: Store, three: list[str], tmp_path: Path
) -> None:
    def lines() -> list[tuple[str, object]]:
        seen = [(a.event, json.loads(a.facts)) for a in store.audit_lines()]
        known = {"result.shown": "study", "image.opened": "sha256"}
        return [(event, facts[known[event]]) for event, facts in seen if event in known]

    app = page("bob", three[0])
    app.run()
    first = store.study(three[0]).result.views[0].sha256
    assert lines() == [("result.shown", three[0]), ("image.opened", first)]
    with sqlite3.connect(tmp_path / "bone.sqlite") as connection:
        connection.execute("ALTER TABLE audit RENAME TO elsewhere")
    connection.close()
    other = page("bob", three[1])
    assert not viewers(other) and "Agree" not in [b.label for b in other.button]


def test_the_page_with_500_studies_answers_in_under_a_second(store: Store, weights: Path) -> None:
    from core.store import rows
    from core.store.database import Database
    from core.study import StudyResult

    release = Registry.open(weights).find("champion")
    settings = Settings.from_environment()
    database = Database.open("", settings.home)
    with database.writing() as (session, _):
        for n in range(500):
            result = StudyResult(f"k{n}", (), BodyPart.HAND, n / 500, Finding.DOUBTFUL)
            session.add(rows.study_row(f"Study {n}", result, release, f"{n:064d}", "ann"))
    database.close()
    app = page("bob")
    app.run()  # the first run also imports
    seconds = []
    for number in (4, 3, 2):  # of this process: others run beside it
        started = time.process_time()
        app.text_input(key="review-text").input(f"Study {number}").run()
        seconds.append(time.process_time() - started)
        assert len(lists(app)[0]) == 111
    assert min(seconds) < 1, seconds


def add_one(weights: str) -> None:
    from pathlib import Path

    from core.registry import Registry
    from core.study import StudyResult
    from pages import _worklist

    release = Registry.open(Path(weights)).find("champion")
    _worklist.add("A study", StudyResult("k", ()), release, dict, "k")


def test_add_to_worklist_asks_who_reads_and_adds_once(store: Store, weights: Path) -> None:
    app = AppTest.from_function(add_one, args=(str(weights),), default_timeout=180).run()
    app.button("add-k").click().run()
    assert not store.worklist() and "enter your name" in text(app)
    app.text_input(key="reader-k").input("bob")
    app.button("add-k").click().run()
    assert not app.exception
    (entry,) = store.worklist()
    assert entry.title == "A study" and store.study(entry.id).added_by == "bob"
    assert "On the worklist" in text(app) and not app.button


def add_shown(weights: str) -> None:
    from dataclasses import replace
    from pathlib import Path

    import streamlit as st

    from core.registry import Registry
    from core.study import StudyResult
    from core.types import ImageResult
    from pages import _worklist

    release = Registry.open(Path(weights)).find("champion")
    view = ImageResult("a.png", None, "No.", release.id, release.sha256, 1.0)
    letters = str(st.session_state["shown"])
    views = tuple(replace(view, sha256=letter * 64) for letter in letters)
    _worklist.add(letters, StudyResult("1.2.840.99.3", views), release, dict, letters)


def test_what_is_moved_and_taken_back_can_be_added_again(store: Store, weights: Path) -> None:
    app = AppTest.from_function(add_shown, args=(str(weights),), default_timeout=180)
    app.session_state[_worklist.READER] = "bob"
    for shown in ("b", "a", "ac", "a"):
        app.session_state["shown"] = shown
        app.run()
        app.button(f"add-{shown}").click().run()
        assert "On the worklist" in text(app) and not app.button
    app.session_state["shown"] = "b"  # has no picture in common with what was added since
    assert "On the worklist" in text(app.run()) and len(store.worklist()) == 3


def test_who_adds_what_another_reader_has_replaced_is_led_to_that(
    store: Store, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reader, shown in (("ann", "a"), ("ann", "ac"), ("bob", "a")):
        app = AppTest.from_function(add_shown, args=(str(weights),), default_timeout=180)
        app.session_state[_worklist.READER], app.session_state["shown"] = reader, shown
        app.run().button(f"add-{shown}").click().run()
    assert "On the worklist, superseded by a study that ann added." in text(app)
    opened: list[str] = []
    monkeypatch.setattr("streamlit.switch_page", opened.append)
    app.button("newer-a").click().run()
    (newer,) = [e.id for e in store.worklist() if not e.newer]
    assert opened == ["pages/review.py"] and app.session_state[_review_list.GOING] == newer


def two_frames(cascade: Cascade) -> tuple[bytes, list[ImageResult]]:
    """A DICOM file of two different pictures, and the result of each."""
    frames = np.stack([phantom(200, 160, seed=n) for n in (1, 2)])
    data = dicom(frames[0], NumberOfFrames=2, PixelData=frames.tobytes())
    limits = Settings.from_environment().limits
    return data, [diagnose(cascade, data, "a.dcm", limits, frame=n)[1] for n in (1, 2)]


def test_each_frame_of_a_file_is_shown_with_its_own_result(
    store: Store, cascade: Cascade, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, views = two_frames(cascade)
    limits = Settings.from_environment().limits
    pictures = {views[0].sha256 or "": data}
    result = combine("1.2.840.99.3", views, cascade.release)
    study = store.add_study("Study 1.2.3", result, cascade.release, pictures, "ann")
    record = store.study(study)
    shown = _review_study._radiographs(store, record)
    for number, radiograph in enumerate(shown, 1):
        assert radiograph is not None
        assert np.array_equal(radiograph.pixels, imaging.decode(data, "", limits, number).pixels)
    drawn: list[tuple[str, str]] = []

    def viewer(prepared: Prepared, *_: object, about: str, **__: object) -> None:
        drawn.append((prepared.key, about))

    monkeypatch.setattr("pages._review_study.viewer", viewer)
    app = page("bob", study)
    app.button(f"view-{study}-1").click().run()
    assert [about for _, about in drawn[-2:]] == [f"{study}/0", f"{study}/1"]
    assert drawn[-1][0] != drawn[-2][0]


def test_a_view_from_before_frames_were_kept_is_the_next_of_its_file(
    store: Store, cascade: Cascade
) -> None:
    data, views = two_frames(cascade)
    result = combine("1.2.840.99.3", views, cascade.release)
    pictures = {views[0].sha256 or "": data}
    study = store.add_study("s", result, cascade.release, pictures, "listener")
    copies = combine("2", [views[0]] * 3, cascade.release)  # one file under three names
    other = store.add_study("t", copies, cascade.release, pictures, "ann")
    with store._database.writing() as (session, _):
        for row in session.scalars(select(tables.View)):
            row.result = {k: v for k, v in row.result.items() if k != "origin"}
    assert [v.origin.frame for v in store.study(study).result.views] == [1, 2]
    assert [v.origin.frame for v in store.study(other).result.views] == [1, 1, 1]


def test_who_has_still_to_decide_does_not_see_what_others_decided(
    store: Store, three: list[str]
) -> None:
    disagrees = Opinion(Verdict.DISAGREE, BodyPart("forearm"), Finding.NOT_SUSPECTED)
    store.decide(three[0], "ann", AGREE, 0)
    store.decide(three[1], "ann", disagrees, 0)
    store.decide(three[2], "ann", Opinion(Verdict.SECOND_LOOK), 0)
    store.decide(three[1], "bob", Opinion(Verdict.DRAFT, comment="later"), 0)
    seen = list(lists(page("bob"))[0]["Status"])
    assert seen == ["Read by others", "Read by others", "Needs a second look"]
    nameless = ["Read", "Read", "Needs a second look"]
    assert list(lists(page())[0]["Status"]) == nameless  # who has no name yet may be any reader
    app = page(study=three[1])
    assert "soft'>Read." in text(app)
    assert "1 reader has decided. You will see it after you decide." in text(app)
    app = page("cy", three[1])  # and who wrote something has not decided
    assert "Read by others." in text(app) and "1 other reader has decided." in text(app)
    for reader in ("bob", ""):  # nor does a filter tell
        app = page(reader)
        for status, titles in ((Status.AGREED, 2), (Status.DISAGREED, 2), (Status.NEW, 0)):
            app.button_group("review-status").set_value([status]).run()
            assert len(lists(app)[0] if lists(app) else []) == titles
    assert len(store.worklist(Query((Status.AGREED,)))) == 1
    app = page("ann")
    app.button_group("review-status").set_value([Status.AGREED]).run()
    assert list(lists(app)[0]["Study"]) == ["urgent"]
    app = page("bob", three[1])
    assert "Read by others." in text(app) and "Disagreed" not in text(app)
    press(app, "verdict-disagree")
    assert "Needs a second look." in text(app)  # what both say differs
    assert "Forearm" in app.selectbox[0].options


def test_the_csv_keeps_from_a_reader_what_is_still_to_be_decided(
    store: Store, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.decide(three[0], "ann", AGREE, 0)
    store.decide(three[1], "ann", AGREE, 0)
    store.decide(three[1], "bob", AGREE, 0)
    store.decide(three[2], "ann", Opinion(Verdict.SECOND_LOOK), 0)
    said = "CSV and manifest omit what others decided on 2 studies that you have not decided yet"
    assert said in text(page("bob"))
    rows = list(csv.DictReader(io.StringIO(to_csv(store.studies(), True, "bob"))))
    assert [(r["title"], r["reader"], r["status"]) for r in rows] == [
        ("urgent", "", "read_by_others"),
        ("doubtful", "ann", "agreed"),
        ("doubtful", "bob", "agreed"),
        ("calm", "", "second_look"),
    ]
    assert rows[0]["verdict"] == rows[0]["reader_finding"] == ""
    assert to_csv(store.studies(), True).count(",ann,") == 3
    store.decide(three[2], "cy", Opinion(Verdict.DRAFT), 0)  # has not decided, and told nothing
    store.undo(three[2], "ann", 1)
    assert ",cy," not in to_csv(store.studies(), True, "bob")
    assert "others decided on 1 study that you have not decided yet" in text(page("bob"))
    monkeypatch.setattr(_access, "actor", lambda: "chief")  # signed in, and an administrator
    assert "you have not decided yet" not in text(page())


def test_who_has_no_name_is_asked_for_it_to_have_what_is_their_own(
    store: Store, three: list[str]
) -> None:
    store.decide(three[0], "ann", AGREE, 0)
    app = page()
    assert app.text_input[0].key == "reader-own"  # before what needs it
    mine = app.toggle(key="review-mine")
    assert mine.disabled and mine.help
    app.toggle(key="agreement").set_value(True).run()
    assert text(app).count("Decisions on 1 study are left out. Enter your name above") == 2
    for name in ("Listener", "ann"):  # the first is nobody's
        app.text_input(key="reader-own").input(name).run()
    assert "Enter your name" not in text(app) and not app.exception
    assert "Reading as <b>ann</b>" in text(app) and not app.toggle(key="review-mine").disabled


def test_figures_and_data_set_keep_what_is_still_to_be_decided(
    store: Store, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for study in three[:2]:
        store.decide(study, "ann", AGREE, 0)
    store.decide(three[1], "bob", AGREE, 0)
    asked: list[str | None] = []
    monkeypatch.setattr(
        _review_list, "to_manifest", lambda records, pictures, by: asked.append(by) or ""
    )
    monkeypatch.setattr(
        _review_list, "partial", lambda f, *given: f(*given) if f.__name__ == "_manifest" else ""
    )
    app = page("bob")
    app.toggle(key="agreement").set_value(True).run()
    assert "The figures omit what others decided on 1 study that you" in text(app)
    assert "n&nbsp;=&nbsp;1" in text(app) and "n&nbsp;=&nbsp;2" not in text(app)
    monkeypatch.setattr(_access, "actor", lambda: "chief")
    monkeypatch.setattr(_access, "role", lambda: Role.TRAINER)
    assert "The CSV omits what others decided on 2 studies" in text(page())
    assert asked == ["bob", "bob", None]
    manifest = to_manifest(store.studies(), store.pictures, "bob")
    assert three[1] in manifest and three[0] not in manifest


def test_the_filters_stay_while_a_study_is_open(store: Store, three: list[str]) -> None:
    app = page("bob")
    app.text_input(key="review-text").input("a").run()
    app.button_group("review-finding").set_value([Finding.SUSPECTED]).run()
    app.selectbox(key="review-part").select(BodyPart.HAND).run()
    app.toggle(key="review-mine").set_value(True).run()
    before = len(lists(app))
    app.query_params["study"] = three[0]
    app.run()
    app.button("to-list").click().run()
    assert app.text_input(key="review-text").value == "a" and app.toggle(key="review-mine").value
    assert app.button_group("review-finding").value == [Finding.SUSPECTED]
    assert app.selectbox(key="review-part").value == BodyPart.HAND
    assert len(lists(app)) == before and not app.exception


def test_a_part_alone_says_nothing_of_the_finding(store: Store, three: list[str]) -> None:
    app = page("bob", three[0])
    press(app, "verdict-disagree")
    app.selectbox[0].select(BodyPart.ELBOW).run()
    opinion = store.study(three[0]).decisions[0].opinion
    assert opinion == Opinion(Verdict.DISAGREE, BodyPart.ELBOW, None)
    other = page("bob", three[1])
    press(other, "verdict-disagree")
    other.button_group(f"finding-{three[1]}-bob").set_value(Finding.NOT_SUSPECTED).run()
    opinion = store.study(three[1]).decisions[0].opinion
    assert opinion == Opinion(Verdict.DISAGREE, BodyPart.HAND, Finding.NOT_SUSPECTED)
    other.button_group(f"finding-{three[1]}-bob").set_value(None).run()  # with its part
    assert store.study(three[1]).decisions[0].opinion == Opinion(Verdict.DISAGREE)
    assert not Opinion(Verdict.DISAGREE, comment=" \n").says_with_what
    assert "Please give a body part" in text(other)
