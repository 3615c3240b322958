"""The pages without a browser: what is on them, and what is computed when."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import streamlit as st
from PIL import Image
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFileRec
from streamlit.testing.v1 import AppTest

from core import display
from core.cascade import Cascade
from core.errors import CascadeError, StoreUnavailable
from core.explain import hottest
from core.notes import notes_of
from core.origin import Origin
from core.registry import Registry
from core.settings import ROOT
from core.types import (
    BodyPart,
    BodyPartPrediction,
    Finding,
    FracturePrediction,
    Heatmap,
    ImageResult,
    MemberPrediction,
    OperatingPoint,
    Photograph,
    Radiograph,
)
from pages import (
    _audit,
    _cascade,
    _downloads,
    _drops,
    _kept,
    _reading,
    _scoring,
    _sources,
    _study,
    _theme,
    _viewer,
)
from pages import _scoring as scoring
from tests.listed import keys, lists, viewers
from tests.simulated import encoded, phantom
from tests.waiting import PATIENCE

APP = str(ROOT / "streamlit_app.py")


@pytest.fixture(autouse=True)
def _fresh(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has loaded nothing, on the CPU, without samples."""
    monkeypatch.setenv("BONE_WEIGHTS", str(weights))
    monkeypatch.setenv("BONE_DEVICE", "cpu")
    monkeypatch.setattr(_sources, "SAMPLES", tmp_path / "samples")
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


@pytest.fixture
def app() -> AppTest:
    return AppTest.from_file(APP, default_timeout=180).run()


def picture(seed: int = 0) -> bytes:
    return encoded(phantom(200, 160, seed=seed), "PNG")


def text(app: AppTest) -> str:
    """Everything that is written on the page, with its markup."""
    return "\n".join(str(e.proto.body) for e in app.get("html"))


def upload(app: AppTest, *files: tuple[str, bytes]) -> AppTest:
    app.file_uploader[0].set_value([(name, data, "image/png") for name, data in files])
    return finished(app.run())


def as_given(app: AppTest) -> AppTest:
    """The page with its studies in the order of the files."""
    app.session_state[_kept.KEPT] = {"order": "As given"}
    return app


def finished(app: AppTest) -> AppTest:
    """The page when nothing is awaited: a browser asks for the rest by itself."""
    for _ in range(50):
        if not app.get("progress"):
            return app
        app.run()
    raise AssertionError("it is still reading")


def test_first_page_says_what_to_do_and_imports_no_torch() -> None:
    script = (
        "import sys; from streamlit.testing.v1 import AppTest; from pages import _cascade;"
        "_cascade.Loader.start = lambda self: __import__('concurrent.futures').futures.Future();"
        f"app = AppTest.from_file({APP!r}, default_timeout=170).run();"
        "assert app.file_uploader and not app.exception;"
        "assert not {'torch', 'cv2', 'pydicom'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=180)


def test_empty_state(app: AppTest) -> None:
    assert not app.exception
    assert "elbow, the hand and the shoulder" in text(app)
    assert _theme.RESEARCH_ONLY in text(app)


def choice(app: AppTest, label: str) -> object:
    return next(box for box in app.selectbox if label in box.label)


def test_no_download_is_made_before_it_is_asked_for(app: AppTest) -> None:
    """What is there at once is asked for by the browser, and may have gone with the next run."""

    def addresses() -> list[str]:
        return [b.proto.url for b in app.get("download_button")]

    before = addresses()
    upload(app, ("a.png", picture()))
    after = addresses()
    assert before and len(after) > len(before) and not any(before + after)


def test_three_files_one_of_them_broken(app: AppTest) -> None:
    files = ("a.png", picture()), ("broken.png", b"no picture"), ("b.png", picture(1))
    upload(as_given(app), *files)
    assert not app.exception
    page = text(app)
    assert page.count("calibrated") == 1 and len(viewers(app)) == 1
    summary = lists(app)[0]
    assert list(summary["Study"]) == ["a.png", "broken.png", "b.png"]
    assert "not a picture" in summary["Note"][1]
    assert "Sensitivity" in page and "Specificity" in page
    assert "on 40 validation radiographs" in page
    assert page.count("how often it points right was not measured") == 1
    assert "Release random" in page
    app.button("next").click().run()
    assert "not a picture" in text(app) and not viewers(app) and len(keys(app)) == 1
    assert not [b for b in app.get("download_button") if "Report" in b.proto.label]


def test_point_prevalence_and_second_run_do_not_score_again(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(app, ("a.png", picture()))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("scored twice")

    monkeypatch.setattr(Cascade, "predict", never)
    assert "95&nbsp;%" in text(app) and "Of those called" not in text(app)
    assert "Move the slider to the prevalence" in text(app)
    app.slider[0].set_value(50).run()
    assert "(PPV)</td><td><b>66&nbsp;%" in text(app)  # .95 / (.95 + .5)
    app.button_group("point").set_value("specific").run()
    assert "doubtful counts as negative (below 70&nbsp;%): this study is negative." in text(app)
    assert "(NPV)</td><td><b>64&nbsp;%" in text(app)  # .9 / (.9 + .5)
    assert "An unexpected error" not in text(app)


def test_part_chosen_by_the_reader_is_marked(app: AppTest) -> None:
    upload(app, ("a.png", picture()))
    choice(app, "Assess as").select("shoulder").run()
    assert "Chosen by the reader" in text(app)
    assert "Recognised as" in text(app)
    choice(app, "Assess as").select("recognised").run()
    assert "Chosen by the reader" not in text(app)


@pytest.mark.parametrize(
    ("thresholds", "told"),
    [
        ((0.12, 0.37), ["0", "12", "37", "100&nbsp;%"]),
        ((0.05, 0.54), ["5", "54", "100&nbsp;%"]),  # as the hand's, which had none
        ((0.30, 0.93), ["0", "30", "93"]),
    ],
)
def test_the_scale_tells_every_threshold(thresholds: tuple[float, float], told: list[str]) -> None:
    points = [OperatingPoint("", t, 0.9, 0.9, 40) for t in thresholds]
    ends = _reading._scale(0.2, Finding.DOUBTFUL, points).split("<div class='ends'>")[1]
    assert re.findall(r"<span[^>]*>([^<]+)</span>", ends) == told


def test_a_reader_who_sees_another_body_part_gets_no_finding(app: AppTest) -> None:
    upload(app, ("a.png", picture()))
    choice(app, "Assess as").select("shoulder").run()
    assert "Not assessed" not in text(app)
    choice(app, "Assess as").select("other").run()
    assert "Chosen by the reader" in text(app) and "Recognised as" in text(app)
    assert "A reader named another body part" in text(app)
    assert "Not assessed" in text(app)
    *_, result = app.session_state["scoring"].results._values.values()
    assert (result.status, result.chosen, result.fracture) == ("rejected", BodyPart.OTHER, None)
    choice(app, "Assess as").select("hand").run()
    assert "Not assessed" not in text(app)


def test_the_first_study_is_there_while_the_others_are_read(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pages._results.AT_ONCE", -1.0)  # nothing after the first view
    files = [("s/a.png", picture()), ("s/b.png", picture(1)), ("c.png", picture(2))]
    app.file_uploader[0].set_value([(name, data, "image/png") for name, data in files])
    app.run()
    page = text(app)
    assert "<b>s (2 views)</b>" in page and "From 1 of 2 views so far." in page
    assert (
        len(viewers(app)) == 1
        and "1 of 3 radiographs assessed" in app.get("progress")[0].proto.text
    )
    assert list(lists(app)[0]["Views"]) == [2, 1]
    assert "Not assessed yet" in lists(app)[0]["Finding"][1]
    reports = [b for b in app.get("download_button") if "Report" in b.proto.label]
    assert reports and all(b.proto.disabled for b in reports)
    # the reader goes on without waiting: the other study is read first
    app.button("next").click().run()
    assert "<b>c.png</b>" in text(app) and "2 of 3" in app.get("progress")[0].proto.text
    monkeypatch.setattr("pages._results.AT_ONCE", 60.0)
    app.button("previous").click().run()
    assert "Mean of 2 views." in text(app) and not app.get("progress")
    assert not app.exception


def test_many_files_have_a_summary_and_one_study(app: AppTest) -> None:
    files = [(f"{n}.png", picture(n)) for n in range(5)]
    upload(app, *files, ("broken.png", b"no picture"))
    assert not app.exception
    ordered = lists(app)[0]
    ranks = [list(_reading.WORDS.values()).index(w) for w in ordered["Finding"][:5]]
    assert ranks == sorted(ranks) and list(ordered["Study"])[-1] == "broken.png"
    for _, same in ordered[:5].groupby("Finding"):
        assert same["Probability"].is_monotonic_decreasing
    assert len(viewers(app)) == 1 and ordered["Study"].iloc[0] != "0.png"
    assert "<b>0.png</b>" in text(app)  # which was there first: nothing jumps when all is read
    app.button_group("order").set_value("As given").run()
    summary = lists(app)[0]
    assert list(summary["Study"]) == ["0.png", "1.png", "2.png", "3.png", "4.png", "broken.png"]
    assert summary["Probability"].notna().sum() == 5
    app.button("next").click().run()
    assert "<b>1.png</b>" in text(app)


def test_files_that_are_too_large_to_be_kept_are_told_of(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [(f"{n}.png", picture(n)) for n in range(3)]
    monkeypatch.setattr(_sources, "MOST_CARRIED", sum(len(data) for _, data in files[1:]))
    upload(app, *files)
    assert "are no longer available" not in text(app)
    app.switch_page("pages/metrics.py").run()
    finished(app.switch_page("pages/diagnose.py").run())
    assert list(lists(app)[0]["Study"]) == ["1.png", "2.png"]
    assert "1 of the dropped files are no longer available" in text(app)
    upload(app, files[0])
    assert "are no longer available" not in text(app)  # they may have come again
    assert list(lists(app)[0]["Study"]) == ["1.png", "2.png", "0.png"]


def test_what_is_dropped_next_is_what_is_shown(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ids are those of a browser: what lies in the drop zone keeps its own."""
    monkeypatch.setattr(_drops, "ONE_DROP", 0)
    given: list[_sources.Source] = []
    monkeypatch.setattr(_sources, "drop_zone", lambda limits: list(given))

    def dropped(id_: str, name: str, data: bytes) -> str:
        given.append(_sources.Source(id_, name, lambda: data, size=len(data)))
        return text(finished(app.run()))

    as_given(app)
    assert "<b>a.png</b>" in dropped("1", "a.png", picture())
    assert "<b>b.png</b>" in dropped("2", "b.png", picture(1))
    assert "<b>c.png</b>" in dropped("3", "c.png", b"no picture")
    assert "<b>a.png</b>" in dropped("4", "a.png", picture())  # it is asked for again
    app.button("next").click().run()
    assert "<b>b.png</b>" in text(app) and not app.exception


def test_the_study_that_stays_when_all_is_read_says_what_is_more_suspicious(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"a.png": b"no picture", "b.png": picture()}
    given = [_sources.Source(n, n, lambda d=d: d, size=len(d)) for n, d in files.items()]
    monkeypatch.setattr(_sources, "drop_zone", lambda limits: given)
    said = text(finished(app.run()))
    assert "<b>a.png</b>" in said  # the first of the drop, which is the last by what was found
    assert "Study <b>2</b> of 2 <span class='soft'>1 more suspicious</span>" in said
    app.button("previous").click().run()
    assert "Study <b>1</b> of 2</p>" in text(app) and not app.exception


def dropped_files(monkeypatch: pytest.MonkeyPatch, most: int) -> list[_sources.Source]:
    """What lies in the drop zone of a page that reads so many files: the list to put them into."""
    from pages import _results

    monkeypatch.setattr(_drops, "ONE_DROP", 0)
    monkeypatch.setattr(_results, "MOST_FILES", most)
    given: list[_sources.Source] = []
    monkeypatch.setattr(_sources, "drop_zone", lambda limits: list(given))
    return given


def drop_file(given: list[_sources.Source], name: str, data: bytes) -> None:
    given.append(_sources.Source(str(len(given)), name, lambda: data, size=len(data)))


def test_what_is_dropped_last_is_read_however_much_was_there(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = dropped_files(monkeypatch, most=2)
    drops = ("a.png", "b.png"), ("c.png",), ("b.png",), ("d.png", "e.png", "f.png")
    for drop, left in zip(drops, ("ab", "ac", "bc", "de"), strict=True):
        for name in drop:
            drop_file(given, name, picture(ord(name[0])))
        as_given(app)
        assert f"<b>{drop[0]}</b>" in text(finished(app.run()))
        assert list(lists(app)[0]["Study"]) == [f"{name}.png" for name in left]
    assert "Only 2 of 6 files are assessed here" in text(app) and not app.exception


def test_a_later_drop_takes_no_view_out_of_a_study(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the whole of it said, a part must not say otherwise: it goes as a whole."""
    given = dropped_files(monkeypatch, most=4)
    for drop in (("s/0.png", "s/1.png", "s/2.png"), ("a.png", "b.png"), ("c.png",)):
        for name in drop:
            drop_file(given, name, picture(len(given)))
        finished(as_given(app).run())
        page = text(app)
        assert "not assessed: this page" not in page
    assert list(lists(app)[0]["Study"]) == ["a.png", "b.png", "c.png"]
    assert "Only 3 of 6 files are assessed here" in page and not app.exception


def test_a_study_that_the_limit_cut_is_removed_whole_and_forgotten(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pages import _results

    monkeypatch.setattr(_results, "MOST_FILES", 3)
    cut = [(f"s/{n}.png", picture(1 + n)) for n in range(4)]
    upload(as_given(app), ("a.png", picture()), *cut, ("t.png", picture(7)))
    app.button("next").click().run()
    choice(app, "Assess as").select("shoulder").run()
    memory = app.session_state["scoring"]
    assert "2 of its files were not assessed" in text(app) and len(memory.chosen) == 2
    gone = set(memory.drops.of)
    (remove,) = [b for b in app.button if b.label == "Remove this study"]
    finished(remove.click().run())
    assert list(lists(app)[0]["Study"]) == ["a.png", "t.png"]
    left = {s.id for s in app.session_state["carried"]}
    assert len(gone - left) == 4 and not memory.chosen
    assert {*memory.drops.of} == {*memory.drops.brought} == {*memory.headers} == left
    assert {*memory.digests._values} == left
    assert len(memory.results._values) == len(memory.pictures._values) == 2
    assert not app.exception


def test_a_study_stays_on_the_page_when_its_first_view_is_taken_out(app: AppTest) -> None:
    alone, views = ("a.png", picture()), [(f"s/{n}.png", picture(1 + n)) for n in range(2)]
    upload(as_given(app), alone, *views)
    app.button("next").click().run()
    assert "s (2 views)" in text(app)
    memory = app.session_state["scoring"]
    gone = next(s for s in app.session_state["dropped"] if s.name == "s/0.png")
    drop_zone = _sources.drop_zone
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            _sources, "drop_zone", lambda limits: [s for s in drop_zone(limits) if s.id != gone.id]
        )
        app.run()
    assert "<b>s/1.png</b>" in text(app) and memory.drops.of and not app.exception


def test_a_study_can_be_removed_whatever_it_was_dropped_with(app: AppTest) -> None:
    files = [("a.png", picture()), ("b.png", picture(1)), ("b.png", picture(1)), ("c.png", b"no")]
    upload(as_given(app), *files)
    app.button("next").click().run()
    (remove,) = [b for b in app.button if b.label == "Remove this study"]
    remove.click().run()
    assert list(lists(app)[0]["Study"]) == ["a.png", "c.png"] and "no picture" not in text(app)
    assert "not a picture" in text(app)  # what came after it is looked at
    (remove,) = [b for b in app.button if b.label == "Remove this study"]
    remove.click().run()
    assert "<b>a.png</b>" in text(app) and not lists(app) and not app.exception


def test_the_computers_own_files_and_archives_are_no_views(app: AppTest) -> None:
    own = ("x/.DS_Store", "x/Thumbs.db", "DICOMDIR", "__MACOSX/a.png")
    upload(app, ("x/a.png", picture()), *[(name, b"no") for name in own], ("b.zip", b"PK"))
    assert not lists(app) and "<b>x/a.png</b>" in text(app)
    assert "4 system files were skipped" in text(app)
    assert "please drop them on the page Batch" in text(app) and not app.exception


MEGABYTE = 2**20


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What a session keeps, without a page."""
    state: dict[str, object] = {}
    monkeypatch.setattr("streamlit.session_state", state)
    return state


def of(name: str, megabytes: int = 1) -> _sources.Source:
    return _sources.Source(name, name, name.encode, size=megabytes * MEGABYTE)


def test_photographs_of_two_patients_never_have_one_name(
    held: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    camera: dict[str, object] = {}
    monkeypatch.setattr("streamlit.camera_input", lambda *_, **told: camera.update(told))
    for one in ("a", "b", "", "c"):
        if not one:
            _sources.remove({"a"})
            continue
        _sources._camera(0)
        held[camera["key"]] = SimpleNamespace(file_id=one, getvalue=bytes)
        camera["on_change"]()
    names = {s.id: s.name for s in _sources.photographed()}
    when = r", \d{4}-\d\d-\d\d \d\d\.\d\d\.\d\d\.jpg"
    assert re.fullmatch(f"Photograph 2{when}", names["b"]), names
    assert re.fullmatch(f"Photograph 3{when}", names["c"])
    _sources.clear()  # what was taken before may stand on the worklist
    held[camera["key"]] = SimpleNamespace(file_id="d", getvalue=bytes)
    camera["on_change"]()
    [taken] = _sources.photographed()
    assert taken.name.startswith("Photograph 4, ")


def test_the_parts_are_those_of_the_release_of_the_session(
    held: dict[str, object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    releases = [{"id": i, "stages": {"body_part": {}, i: {}}} for i in ("hand", "elbow")]
    manifest = {"aliases": {"champion": "elbow"}, "releases": releases}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setenv("BONE_WEIGHTS", str(tmp_path))
    assert _cascade.parts() == ("elbow",)
    held[_cascade.PINNED] = "hand"  # it began before the other was promoted
    assert _cascade.parts() == ("hand",)


def test_a_part_whose_model_is_not_installed_is_not_named(
    held: dict[str, object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "trunk").touch()
    member = {"trunk": "trunk", "branch": "member"}
    stages = {
        "body_part": {"trunk": "trunk", "branch": "part"},
        "hand": {"trunk": "trunk", "branch": "hand"},
        "leg": {"trunk": "trunk", "branch": "leg", "members": [member], "optional": True},
    }
    manifest = {"aliases": {"champion": "r"}, "releases": [{"id": "r", "stages": stages}]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setenv("BONE_WEIGHTS", str(tmp_path))
    for file, parts in ("leg", ("hand",)), ("member", ("hand", "leg")):
        assert _cascade.parts() == ("hand",)
        (tmp_path / file).touch()  # somebody copies it to its place
        assert _cascade.parts() == parts


def test_the_audit_names_the_part_that_a_reader_chose() -> None:
    seen = BodyPartPrediction(BodyPart.ELBOW, 0.9, {BodyPart.ELBOW: 0.9})
    said = FracturePrediction(0.2, Finding.NOT_SUSPECTED)
    shown = ImageResult("a", "1" * 64, None, "r", "2" * 64, 1.0, seen, said)
    facts = {"sha256": "1" * 64, "release": "r", "part": "elbow", "finding": "not_suspected"}
    assert _audit.facts("1" * 64, shown) == facts
    chosen = replace(shown, chosen=BodyPart.HAND)
    assert _audit.facts("1" * 64, chosen) == facts | {"part": "hand", "recognised": "elbow"}


def drop_zone_alone() -> None:
    import streamlit as st

    from core.settings import ImageLimits
    from pages import _sources

    st.markdown(" ".join(source.name for source in _sources.drop_zone(ImageLimits())))


@pytest.mark.parametrize("kind", ["Folder", "Camera"])
def test_what_was_dropped_stays_whatever_is_dropped_next(kind: str) -> None:
    app = AppTest.from_function(drop_zone_alone).run()
    app.file_uploader[0].set_value([("ann.png", b"x", "image/png")]).run()
    for other in (kind, "Files"):
        app.button_group("kind").set_value(other).run()
        assert app.markdown[0].value == "ann.png" and not app.exception


def test_what_is_taken_out_pushes_nothing_out(held: dict[str, object]) -> None:
    held["dropped"] = [of("ann", 200), of("bob", 200), of("cid", 200)]
    _sources.remove({"cid"})
    assert [s.name for s in held["carried"]] == ["ann", "bob"] and not _sources.let_go()


def test_a_study_that_there_is_no_room_for_goes_as_a_whole(held: dict[str, object]) -> None:
    """What the whole of it said, a part must not say otherwise."""
    memory = held["scoring"] = _scoring.Session()
    views = [of(f"p{n // 3}/{n % 3}", 60) for n in range(9)]
    held["carried"] = views[:6]
    held["dropped"] = views[6:]
    memory.drops.came(views[:6])
    memory.drops.latest -= 60
    again = replace(views[0], id="again")  # so its study is not the oldest
    memory.drops.came([*views, again])
    memory.drops.once([*views, again])
    _sources._carry()
    assert [s.name for s in held["carried"]] == [s.name for s in (*views[:3], *views[6:])]
    assert _sources.let_go().startswith("3 of the dropped files")


def test_the_last_study_stays_however_large(held: dict[str, object]) -> None:
    memory = held["scoring"] = _scoring.Session()
    small, *large = held["carried"] = [of("a.png"), of("s/1.png", 300), of("s/2.png", 300)]
    memory.drops.came([small])
    memory.drops.latest -= 60
    memory.drops.came([small, *large])
    for _ in range(2):
        _sources._carry()
        assert held["carried"] == large and _sources.let_go().startswith("1 of the dropped files")


def test_what_the_page_has_not_seen_yet_is_no_older_than_what_it_has(
    held: dict[str, object],
) -> None:
    memory = held["scoring"] = _scoring.Session()
    old, new = of("a.png", 300), of("s/1.dcm", 300)
    memory.drops.came([old])
    held["carried"], held["dropped"] = [old], [new]
    _sources._carry()
    assert held["carried"] == [new] and not memory.drops.of.keys() & {new.id}
    held["carried"] = [new, of("s/2.dcm", 300)]
    _sources._carry()
    assert len(held["carried"]) == 2


def test_a_photograph_that_there_is_no_room_for_is_told_of(
    held: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sources, "MOST_PHOTOGRAPHS", 2)
    camera: dict[str, object] = {}
    monkeypatch.setattr("streamlit.camera_input", lambda *_, **told: camera.update(told))
    _sources._camera(0)
    for one in "abc":
        assert not _sources.let_go()
        held[camera["key"]] = SimpleNamespace(file_id=one, getvalue=bytes)
        camera["on_change"]()
    assert _sources.let_go().startswith("Photograph 1, ")
    assert [s.id for s in _sources.photographed()] == ["b", "c"]


def test_what_is_no_view_is_not_kept_beside_the_drop_zone(
    held: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[str] = []
    monkeypatch.setattr("pages._streamlit.give_back", given_back.extend)
    held["carried"] = [of("ann.dcm", 100)]
    held["dropped"] = [of("all.zip", 450), of("Thumbs.db"), of("bob.dcm")]
    assert _sources.left_out() == (1, 1)
    _sources._carry()
    assert [s.name for s in held["carried"]] == ["ann.dcm", "bob.dcm"] and not _sources.let_go()
    assert given_back == ["all.zip", "Thumbs.db"] and _sources.left_out() == (0, 0)


def test_order_and_method_stay_while_another_page_is_looked_at(app: AppTest) -> None:
    upload(app, *[(f"{n}.png", picture(n)) for n in range(2)], ("0.png", b"no picture"))
    app.button_group("order").set_value("As given").run()
    choice(app, "Heatmap method").select("Eigen-CAM").run()
    before = list(lists(app)[0]["Note"])
    app.switch_page("pages/metrics.py").run()
    finished(app.switch_page("pages/diagnose.py").run())
    assert app.button_group("order").value == "As given"
    assert list(lists(app)[0]["Note"]) == before
    assert choice(app, "Heatmap method").value == "Eigen-CAM"


def test_a_study_without_the_method_that_was_chosen_changes_no_choice() -> None:
    """A member's map is there in one mode alone, or of one part."""

    def page() -> None:
        import streamlit as st

        from pages import _study

        lacking = st.session_state.get("lacking")
        _study._methods = lambda _: ["Grad-CAM"] if lacking else ["Grad-CAM", "Grad-CAM, Lite2"]
        _study._choose_method(None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_study, "_methods", _study._methods)  # and back afterwards
        app = AppTest.from_function(page).run()
        app.selectbox[0].select("Grad-CAM, Lite2").run()
        for lacking, shown in ((True, "Grad-CAM"), (False, "Grad-CAM, Lite2")):
            app.session_state["lacking"] = lacking
            assert app.run().selectbox[0].value == shown and not app.exception


def test_the_view_that_is_looked_at_is_there_whatever_is_wanted_of_it(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A corner that was moved by key: while the page had no picture, keys led to the next study."""
    upload(app, *[(f"s/{n}.png", picture(n)) for n in range(2)])
    first, second = app.session_state["dropped"]
    app.button(f"view-{first.id}-1").click().run()
    before = viewers(app)[0]["key"]
    monkeypatch.setattr("pages._results.AT_ONCE", -1.0)
    app.session_state["scoring"].ways[second.id] = ((0, 0), (0.9, 0), (0.9, 1), (0, 1))
    app.run()
    assert len(viewers(app)) == 1 and viewers(app)[0]["key"] != before and not app.exception


@pytest.mark.parametrize("decoded", [True, False])
def test_a_key_that_comes_before_the_next_study_is_there_means_no_other(
    held: dict[str, object], decoded: bool
) -> None:
    studies = [SimpleNamespace(key=n, sources=[SimpleNamespace(id=n)]) for n in "abc"]
    card = _study.StudyCard(studies[1], None, None, None, {})
    for step in (1, -1):
        (card._on_event if decoded else card._beyond)(_viewer.Event("", step=step))
    assert held["beyond"] == 1 and held["leave"]


def test_keys_lead_on_from_what_could_not_be_read(app: AppTest) -> None:
    upload(app, ("a.png", b"no picture"))
    app.session_state["leave"] = True  # as after a key
    app.run()
    assert "leave" not in app.session_state and len(keys(app)) == 1


def test_a_study_that_the_limit_cuts_says_so(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    from pages import _results

    monkeypatch.setattr(_results, "MOST_FILES", 2)
    upload(app, *[(f"s/{n}.png", picture(n)) for n in range(3)], ("t/3.png", picture(3)))
    assert "Only 2 of 4 files are assessed here" in text(app)
    assert "1 of its files was not assessed" in text(app) and not lists(app)


def test_views_of_one_study_come_together_and_can_be_regrouped(app: AppTest) -> None:
    names = (
        "XR_HAND/patient1/study1_positive/image1.png",
        "XR_HAND/patient1/study1_positive/b.png",
    )
    upload(app, (names[0], picture()), (names[1], picture(1)), ("alone.png", picture(2)))
    summary = lists(app)[0]
    assert list(summary["Views"]) == [2, 1]
    page = text(app)
    assert "(2 views)" in page and "Mean of 2 views." in page
    records = app.session_state["scoring"].results
    assert len(records._values) == 3
    app.button("together").click().run()
    assert "(3 views)" in text(app) and not lists(app)
    app.button("apart").click().run()
    assert list(lists(app)[0]["Views"]) == [2, 1]
    choice(app, "View 2").select("A new study").run()
    assert list(lists(app)[0]["Views"]) == [1, 1, 1]
    choice(app, "View 1").select(choice(app, "View 1").options[-1]).run()
    assert sorted(lists(app)[0]["Views"]) == [1, 2]
    assert not app.exception


def test_the_body_part_is_corrected_for_all_views_of_a_study(app: AppTest) -> None:
    upload(app, ("s/a.png", picture()), ("s/b.png", picture(1)))
    choice(app, "Assess as").select("elbow").run()
    memory = app.session_state["scoring"]
    assert list(memory.chosen.values()) == [BodyPart.ELBOW] * 2
    assert "Chosen by the reader" in text(app)
    first = next(iter(memory.chosen))  # as where two studies were put together
    memory.chosen = {first: BodyPart.ELBOW}
    app.run()
    assert choice(app, "Assess as").value == "mixed"
    choice(app, "Assess as").select("elbow").run()  # as it was said for one of them: for both
    assert list(memory.chosen.values()) == [BodyPart.ELBOW] * 2
    assert choice(app, "Assess as").value == "elbow" and not app.exception


def test_a_view_of_its_own_is_alone_whatever_was_moved_to_it(app: AppTest) -> None:
    upload(app, ("s/a.png", picture()), ("s/b.png", picture(1)), ("s/c.png", picture(2)))
    memory = app.session_state["scoring"]
    choice(app, "View 1").select("A new study").run()
    assert sorted(lists(app)[0]["Views"]) == [1, 2]
    drops = memory.drops
    own, other = (k for k in drops.of if k in drops.moved), list(drops.of)
    one = next(own)
    drops.moved[next(k for k in other if k != one)] = drops.moved[one]
    app.session_state["shown"] = (one,)
    app.run()
    assert list(lists(app)[0]["Views"]) == [2, 1]
    choice(app, "View 1").select("A new study").run()
    assert list(lists(app)[0]["Views"]) == [1, 1, 1] and not app.exception


def test_another_heatmap_method_is_computed_once(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(app, ("a.png", picture()))
    choice(app, "Assess as").select("hand").run()
    asked = []
    explain = Cascade.explain

    def counted(self: Cascade, radiograph: object, part: BodyPart, method: str) -> Heatmap:
        asked.append((part, method))
        return explain(self, radiograph, part, method)

    monkeypatch.setattr(Cascade, "explain", counted)
    choice(app, "Heatmap method").select("LayerCAM").run()
    (awaited,) = app.session_state["scoring"].heatmaps._values.values()
    assert awaited.result(PATIENCE).method == "LayerCAM"
    app.slider[0].set_value(30).run()
    assert "is being computed" not in text(app)
    assert asked == [(BodyPart.HAND, "LayerCAM")]
    assert not app.exception


def test_the_page_is_there_while_a_slow_heatmap_is_computed(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(app, ("a.png", picture()))
    choice(app, "Assess as").select("hand").run()
    go_on, explain = threading.Event(), Cascade.explain

    def slow(self: Cascade, radiograph: object, part: BodyPart, method: str) -> Heatmap:
        assert go_on.wait(PATIENCE)
        return explain(self, radiograph, part, method)

    monkeypatch.setattr(Cascade, "explain", slow)
    choice(app, "Heatmap method").select("Eigen-CAM").run()
    assert "Eigen-CAM is being computed" in text(app) and len(viewers(app)) == 1
    app.slider[0].set_value(30).run()  # the reader goes on meanwhile
    assert "Eigen-CAM is being computed" in text(app)
    go_on.set()
    (awaited,) = app.session_state["scoring"].heatmaps._values.values()
    awaited.result(PATIENCE)
    app.run()
    assert "is being computed" not in text(app) and not app.exception


def test_clear_all_gives_the_memory_of_uploads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = MemoryUploadedFileManager("/upload")
    monkeypatch.setattr("streamlit.runtime.exists", lambda: True)
    holder = SimpleNamespace(uploaded_file_mgr=manager)
    monkeypatch.setattr("streamlit.runtime.get_instance", lambda: holder)
    context = SimpleNamespace(session_id="mine")
    monkeypatch.setattr("pages._streamlit.get_script_run_ctx", lambda: context)
    for session, names in {"mine": "abcd", "another": "e"}.items():
        for name in names:
            manager.add_file(session, UploadedFileRec(name, f"{name}.png", "image/png", bytes(9)))
    held = {
        key: [_sources.Source(n, n, bytes, size=9)]
        for key, n in zip(_sources.HELD, "abc", strict=True)
    }
    monkeypatch.setattr("streamlit.session_state", dict(held))
    _sources.clear()
    assert [f.file_id for f in manager.get_files("mine", list("abcd"))] == ["d"]
    assert len(manager.get_files("another", ["e"])) == 1


def test_clear_all_forgets(app: AppTest) -> None:
    upload(app, ("a.png", picture()))
    assert app.session_state["scoring"].results and "class='tallies'" not in text(app)
    assert "Removes the file from this page." in text(app)
    app.button("clear").click().run()
    assert "scoring" not in app.session_state
    assert not viewers(app)


def test_damaged_weights_are_named_and_nothing_is_predicted(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "weights"
    shutil.copytree(weights, damaged)
    path = damaged / "random" / "trunk.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    monkeypatch.setenv("BONE_WEIGHTS", str(damaged))
    app = AppTest.from_file(APP, default_timeout=180).run()
    _cascade.loader().start().exception()
    app.run()
    assert not app.exception
    assert "random/trunk.safetensors is damaged" in text(app)
    assert "No model" in text(app)
    assert not app.file_uploader
    path.write_bytes((weights / "random" / "trunk.safetensors").read_bytes())
    app.button[0].click().run()
    assert app.file_uploader


def test_damaged_weights_with_a_file_already_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BONE_WEIGHTS", str(tmp_path))
    app = AppTest.from_file(APP, default_timeout=180).run()
    upload(app, ("a.png", picture()))
    assert not app.exception
    assert "There is no manifest.json" in text(app)
    assert not viewers(app)


def test_a_setting_without_meaning_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BONE_DEVICE", "abacus")
    app = AppTest.from_file(APP, default_timeout=180).run()
    assert not app.exception
    assert text(app).count("BONE_DEVICE must be") == 1


def test_unexpected_error_has_a_number_and_no_trace_on_the_screen(
    app: AppTest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(_scoring, "diagnose", fail)
    upload(app, ("a.png", picture()))
    assert not app.exception
    assert "in the log as error" in text(app)
    assert "secret detail" not in text(app)
    assert "secret detail" in caplog.text


def test_samples_are_offered_and_read(app: AppTest, tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    folder.mkdir()
    (folder / "one.png").write_bytes(picture())
    (folder / "manifest.csv").write_text(
        "id,source,part,positive,file,title\n"
        "s1,simulated,hand,0,one.png,Hand\ns2,simulated,hand,0,missing.png,Gone\n"
    )
    app.run()
    assert [b.label for b in app.button] == ["Hand"]
    app.button("try-s1").click().run()
    assert "calibrated" in text(app)


def test_every_sample_has_a_thumbnail_that_shows_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_sources, "SAMPLES", ROOT / "samples")
    found = _sources.samples()
    assert {s.path.suffix for s in found} == {".png", ".dcm"}
    for sample in found:
        head, _, small = sample.thumbnail.partition(",")
        assert head == "data:image/jpeg;base64"  # no address that holds for one run alone
        grey = np.asarray(Image.open(io.BytesIO(base64.b64decode(small))).convert("L"))
        assert grey.std() > 20, sample.id


def test_damaged_sample_manifest_offers_nothing(app: AppTest, tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "manifest.csv").write_text("nonsense\n1\n")
    assert not app.run().exception
    assert not app.button


def test_markup_in_a_file_name_stays_text(app: AppTest) -> None:
    upload(app, ("<img src=x onerror=alert(1)>.png", picture()))
    assert "<img" not in text(app)
    assert "&lt;img src=x" in text(app)


def test_a_file_name_in_a_label_is_no_markdown(app: AppTest) -> None:
    name = "**bold**_1_ [a](b) :red[c] $x$.png"
    upload(app, (name, picture()), ("b.png", picture(1)))
    label = next(box.label for box in app.selectbox if box.label.startswith("View 1"))
    assert label == f"View 1, {_theme.plain(name)}, belongs to"
    escaped = r"\*\*bold\*\*\_1\_ \[a\](b) :" + _theme.WORD_JOINER + r"red\[c\] \$x\$.png"
    assert _theme.plain(name) == escaped
    assert _theme.plain("View 1: AP") == "View 1: AP"


def test_reports_and_tables_are_in_the_audit_before_they_are_given(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, written = {}, []
    monkeypatch.setattr(
        "streamlit.delta_generator.DeltaGenerator.download_button",
        lambda self, label, data, *_, **__: given.update({label: data}),
    )
    monkeypatch.setattr(
        st, "download_button", lambda label, data, *_, **__: given.update({label: data})
    )
    upload(app, ("a.png", picture()))
    choice(app, "Assess as").select("hand").run()

    def noted(event: str, actor: str, **facts: object) -> None:
        written.append((event, facts))

    monkeypatch.setattr(_audit, "write", noted)
    digest = {"sha256_1": hashlib.sha256(picture()).hexdigest()}
    for label in ("CSV", "JSON lines", "JSON", "Report (PDF)"):
        assert given[label]()
    assert written == [
        ("export.made", {"kind": "csv"} | digest),
        ("export.made", {"kind": "json lines"} | digest),
        ("export.made", {"kind": "report json", "names": False} | digest),
        ("export.made", {"kind": "report pdf", "names": False} | digest),
    ]

    def full(*_: object, **__: object) -> None:
        raise StoreUnavailable("The worklist is not available.")

    monkeypatch.setattr(_audit, "write", full)
    for made in given.values():
        with pytest.raises(StoreUnavailable):
            made()


def test_a_method_that_failed_is_not_said_to_be_the_map_and_can_be_tried_again(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(app, ("a.png", picture()))
    choice(app, "Assess as").select("hand").run()
    asked, told = [], []
    pointed = _reading.pointed
    monkeypatch.setattr(
        _reading, "pointed", lambda release, method: told.append(method) or pointed(release, method)
    )

    def failing(self: Cascade, radiograph: object, part: BodyPart, method: str) -> Heatmap:
        asked.append(method)
        raise CascadeError("The method failed.")

    monkeypatch.setattr(Cascade, "explain", failing)
    choice(app, "Heatmap method").select("LayerCAM").run()
    (awaited,) = app.session_state["scoring"].heatmaps._values.values()
    assert isinstance(awaited.exception(PATIENCE), CascadeError)
    app.run()
    assert "The method failed." in text(app) and viewers(app)[0]["method"] == "Grad-CAM"
    assert told[-1] == "Grad-CAM" and asked == ["LayerCAM"]
    choice(app, "Heatmap method").select("Grad-CAM").run()
    choice(app, "Heatmap method").select("LayerCAM").run()
    (awaited,) = app.session_state["scoring"].heatmaps._values.values()
    assert awaited.exception(PATIENCE) and asked == ["LayerCAM"] * 2


def test_heatmaps_of_views_that_are_looked_at_no_more_are_not_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One worker computes those of all sessions: nobody waits for what nobody looks at."""
    go_on, computed = threading.Event(), []
    monkeypatch.setattr(scoring.imaging, "decode", lambda data, *_: data)
    monkeypatch.setattr(scoring.film, "as_seen", lambda radiograph, way: radiograph)

    def explain(radiograph: bytes, *_: object) -> Heatmap:
        assert go_on.wait(PATIENCE)
        computed.append(radiograph)
        return result().heatmap

    cascade = SimpleNamespace(release=SimpleNamespace(sha256="r"), explain=explain)
    found = SimpleNamespace(heatmap=result().heatmap, part=BodyPart.HAND)
    ours, other = scoring.Session(), scoring.Session()

    def asked(session: scoring.Session, name: bytes, method: str = "Eigen-CAM"):
        source = _sources.Source(name.decode(), name.decode(), lambda: name)
        return session.heatmap(source, found, method, cascade, None)

    first = asked(ours, b"a")
    for name in (b"b", b"c", b"d"):
        last = asked(ours, name)
    colleague = asked(other, b"of another")
    go_on.set()
    assert colleague.result(PATIENCE) and last.done() and first.done()
    assert computed == [b"a", b"d", b"of another"]
    go_on.clear()
    running, waiting = asked(other, b"e"), asked(ours, b"f")
    assert asked(ours, b"f", "Grad-CAM") is None and waiting.cancelled()
    again = asked(ours, b"f")
    monkeypatch.setattr(st, "session_state", {"scoring": ours})
    _sources.clear()
    assert again.cancelled()
    go_on.set()
    assert running.result(PATIENCE)


def result(**changes: object) -> ImageResult:
    values = {
        "file": "a.png",
        "sha256": "0" * 64,
        "reason": None,
        "release": "r1",
        "release_sha256": "1" * 64,
        "milliseconds": 1.0,
        "body_part": BodyPartPrediction(BodyPart.HAND, 0.9, {BodyPart.HAND: 0.9}),
        "fracture": FracturePrediction(0.83, Finding.SUSPECTED),
        "heatmap": Heatmap(np.ones((7, 7), np.float32), "Grad-CAM"),
    }
    return ImageResult(**(values | changes))


def test_csv_has_every_input_and_no_formula() -> None:
    records = [
        _downloads.Record(result(file="=cmd|'/c calc'!A0.png")),
        _downloads.Record(result(), BodyPart.ELBOW),
        _downloads.Record(result(reason="Empty.", body_part=None, fracture=None, heatmap=None)),
    ]
    rows = list(csv.DictReader(io.StringIO(_downloads.to_csv(records))))
    assert [r["status"] for r in rows] == ["ok", "ok", "rejected"]
    assert rows[0]["file"].startswith("'=")
    assert rows[1]["assessed_as"] == "elbow"
    assert float(rows[0]["fracture_probability"]) == 0.83
    assert rows[2]["reason"] == "Empty."


def test_json_lines_are_the_public_records() -> None:
    (line,) = _downloads.to_json_lines([_downloads.Record(result())]).splitlines()
    assert json.loads(line) == result().to_json() | {"assessed_as": None}


def test_a_saved_picture_says_what_it_is(weights: Path) -> None:
    said = _downloads.caption(_downloads.Record(result(), BodyPart.ELBOW), None)
    assert said[0].startswith("elbow (part chosen by the reader): ")
    assert said[-1] == _theme.RESEARCH_ONLY and any("Release" in line for line in said)
    taken = replace(result(), photograph=Photograph(((0, 0), (1, 0), (1, 1), (0, 1))))
    said = _downloads.caption(_downloads.Record(taken), None, 2, 3)
    assert {"View 2 of 3 alone", "From a photograph, straightened"} < set(said)
    foot = "The header names a foot, and the picture was taken for one of a hand."
    warned = replace(result(), origin=Origin(cautions=(foot,)))
    said = _downloads.caption(_downloads.Record(warned), None)
    assert set(notes_of(warned, None)) <= set(said) and any(foot in line for line in said)
    assert "Release r1" in said
    members = tuple(MemberPrediction(name, 0.8, 0.5) for name in ("ResNet50", "Lite2"))
    joined = replace(result(), fracture=FracturePrediction(0.8, Finding.SUSPECTED, members))
    said = _downloads.caption(_downloads.Record(joined), None)
    assert "Release r1, ensemble of ResNet50 and Lite2" in said
    members = (replace(members[0], probability=0.97), replace(members[1], probability=0.03))
    torn = replace(result(), fracture=FracturePrediction(0.6, Finding.DOUBTFUL, members))
    said = _downloads.caption(_downloads.Record(torn), Registry.open(weights).find("champion"))
    assert any("The networks contradict each other" in line for line in said)
    refused = result(reason="Empty.", body_part=None, fracture=None, heatmap=None)
    assert "probability" not in " ".join(_downloads.caption(_downloads.Record(refused), None))


def test_a_saved_picture_tells_a_probability_from_its_threshold(weights: Path) -> None:
    release = Registry.open(weights).find("champion")
    start = release.stages["elbow"].operating_points[0].threshold
    close = FracturePrediction(start - 0.002, Finding.NOT_SUSPECTED)
    near = _downloads.Record(result(fracture=close, chosen=BodyPart.ELBOW), BodyPart.ELBOW)
    said = f"probability {100 * start - 0.2:.1f} %"
    assert _downloads.caption(near, release)[0].endswith(said)
    assert not _downloads.caption(near, None)[0].endswith(said)  # nobody knows the threshold


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"),
        (0.004, "&lt;1"),
        (0.005, "&lt;1"),
        (0.125, "12"),
        (0.995, "&gt;99"),
        (0.996, "&gt;99"),
        (1.0, "100"),
    ],
)
def test_percent_is_never_more_certain_than_the_probability(value: float, words: str) -> None:
    assert _theme.percent(value) == f"{words}&nbsp;%"


def test_findings_differ_by_word_and_shape() -> None:
    badges = [_reading.badge(f) for f in (*Finding, None)]
    assert len(set(badges)) == 4
    css = (ROOT / "pages" / "_theme.css").read_text()
    assert all(f".finding.{f.value} i" in css for f in Finding)


def unpacked(message: bytes) -> tuple[dict[str, object], list[bytes]]:
    """What the component reads: header and blobs."""
    size = int.from_bytes(message[:4], "little")
    header, start, blobs = json.loads(message[4 : 4 + size]), 4 + size, []
    for length in header["blobs"]:
        blobs.append(message[start : start + length])
        start += length
    assert start == len(message)
    return header, blobs


def test_viewer_gets_every_grey_value_and_a_bounded_picture() -> None:
    deep = phantom(300, 200, bits=16)
    shown = Radiograph(deep, "a", "0" * 64, "DICOM", (0.1, 0.2), ("A note.",))
    prepared = _viewer.Prepared.of(shown)
    heatmap = Heatmap(np.eye(7, dtype=np.float32), "Grad-CAM")
    header, (pixels, heat, colours) = unpacked(_viewer._message(prepared, heatmap, {"alt": "x"}))
    sent = np.frombuffer(zlib.decompress(pixels), "<u2").reshape(header["height"], header["width"])
    assert (sent == deep).all() and header["bits"] == 16
    assert len(heat) == header["heat"]["width"] * header["heat"]["height"]
    assert len(colours) == 768 * len(header["colours"])
    assert all(p["high"] > p["low"] for p in header["presets"])
    assert header["region"]["label"].endswith(" mm")
    assert ("Note", "A note.") in _reading.facts(prepared)
    large = _viewer.Prepared.of(Radiograph(phantom(3000, 2500, bits=12), "a", "", "DICOM"))
    height, width = large.radiograph.pixels.shape
    assert (
        height * width <= 1.001 * _viewer.MOST_PIXELS and abs(width / height - 2500 / 3000) < 0.001
    )


def test_size_of_the_hottest_region_in_millimetres() -> None:
    heat = np.zeros((100, 50), np.float32)
    heat[20:40, 10:20] = 0.8
    heat[60:62, 30:33] = 0.5  # hot, but not connected with the peak
    heat[38, 30:33] = 0.39  # not half as hot
    region = hottest(heat)
    assert (region.width, region.height) == (10 / 50, 20 / 100)
    assert region.outline.min(0).tolist() == [10.5 / 50, 20.5 / 100]
    assert hottest(np.zeros((5, 5), np.float32)) is None
    prepared = _viewer.Prepared.of(
        Radiograph(phantom(100, 50), "a", "0" * 64, "DICOM", pixel_spacing=(0.5, 2.0))
    )
    assert _viewer.region_size(prepared, region.width, region.height) == "20 × 10 mm"
    unknown = _viewer.Prepared.of(Radiograph(phantom(100, 50), "a", "0" * 64, "PNG"))
    assert _viewer.region_size(unknown, 0.1, 0.1) == ""


@pytest.mark.parametrize(
    ("sent", "event"),
    [
        ({"kind": "go", "view": "v", "step": -1}, _viewer.Event("v", step=-1)),
        ({"kind": "go", "view": "v", "step": 7}, None),
        ({"kind": "decision", "view": "v", "value": 3}, _viewer.Event("v", decision=3)),
        ({"kind": "decision", "view": "v", "value": 4}, None),
        (
            {"kind": "mark", "view": "v", "mark": "0.1 0.2 0.3 0.4"},
            _viewer.Event("v", mark="0.1 0.2 0.3 0.4"),
        ),
        ({"kind": "mark", "view": "v", "mark": "0.3 0.2 0.1 0.4"}, None),
        ({"kind": "mark", "view": "v", "mark": "nan 0 1 1"}, None),
        ({"kind": "mark", "view": "v", "mark": ["0"]}, None),
        ("text", None),
        (None, None),
    ],
)
def test_what_the_browser_sends_is_checked(sent: object, event: object) -> None:
    assert _viewer._event(sent) == event


def test_each_event_of_the_browser_is_taken_once_and_in_its_order() -> None:
    inbox, taken = _viewer.Inbox(), []

    def sent(number: int, decision: int, session: str = inbox.session) -> dict[str, object]:
        shared = {"kind": "decision", "view": "v", "session": session}
        return shared | {"number": number, "value": decision}

    assert inbox.take([sent(8, 2), sent(7, 1)], lambda e: taken.append(e.decision)) == 2
    assert inbox.take([sent(7, 1), sent(8, 2), sent(9, 3)], lambda e: taken.append(e.decision)) == 1
    assert taken == [1, 2, 3]
    of_before = [sent(10, 1, "a session that is over")]
    for nothing in (of_before, None, "text", [None, 1, {}, {"number": "x"}]):
        assert inbox.take(nothing, lambda e: taken.append(e.decision)) == 0

    def cut_short(_: object) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        inbox.take([sent(11, 1)], cut_short)
    assert inbox.take([sent(11, 1)], lambda e: taken.append(e.decision)) == 1
    assert taken == [1, 2, 3, 1]


def test_shallow_pictures_are_shown_as_they_are_and_deep_ones_stretched() -> None:
    grey = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    assert display.to_8_bit(grey, 1000) is grey
    deep = phantom(3000, 1500, bits=12)
    shown = display.to_8_bit(deep, 1440)
    assert shown.shape == (1440, 720) and shown.dtype == np.uint8
    assert shown.max() > 250 and shown.min() < 5
    assert "stretched" in display.window(deep)[2]
    flat = np.full((40, 40), 7, np.uint8)
    assert display.to_8_bit(flat, 100).max() == 0


def test_memory_is_bounded() -> None:
    memory: _scoring.Bounded[int, int] = _scoring.Bounded(3)
    for n in range(5):
        memory.get(n, lambda n=n: n)
    memory.get(2, lambda: -1)
    memory.get(9, lambda: 9)
    assert [n in memory for n in (0, 1, 2, 3, 4, 9)] == [False, False, True, False, True, True]


def test_two_loose_files_of_one_name_are_two_studies():
    """Two telephones both name a picture IMG_1.jpg: two patients must not share one mean."""
    memory = scoring.Session()
    one, two = (SimpleNamespace(id=i, name="IMG_1.jpg") for i in ("first", "second"))
    keys = [memory.drops.study_of(s) for s in (one, two, one, two)]
    assert keys == ["IMG_1.jpg", "IMG_1.jpg (2)"] * 2
    folder = [SimpleNamespace(id=n, name=f"knee/{n}.png") for n in ("a", "b")]
    assert len({memory.drops.study_of(s) for s in folder}) == 1
