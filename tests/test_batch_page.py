"""The page Batch: a run is a process of its own, and the table tells what it has done so far."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from core import locks
from core.batch import kept
from core.batch.inputs import Archive, Folder
from core.batch.journal import Journal, folder_of
from core.batch.kept import Batch
from core.batch.progress import Code, Ending, Progress
from core.batch.run import Order, run
from core.engines import vino
from core.errors import (
    BatchFailed,
    CascadeError,
    EngineUnavailable,
    ImageRejected,
    PathRefused,
    StoreUnavailable,
)
from core.process import Process
from core.registry import Registry
from core.settings import ROOT, Settings
from core.store import Store
from pages import _batch_results, _retention, _theme
from tests.batches import Stand, fill, scorer
from tests.listed import lists, viewers
from tests.waiting import eventually

APP = str(ROOT / "streamlit_app.py")


@pytest.fixture(autouse=True)
def settings(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("BONE_WEIGHTS", str(weights))
    monkeypatch.setenv("BONE_DEVICE", "cpu")
    monkeypatch.setenv("BONE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BONE_ROOTS", str(tmp_path / "radiographs"))
    (tmp_path / "radiographs").mkdir()
    st.cache_resource.clear()
    yield Settings.from_environment()
    st.cache_resource.clear()


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are ordered and no process is started."""
    monkeypatch.setattr(kept.Batch, "_start", lambda self: None)


def finished(settings: Settings, tmp_path: Path) -> kept.Batch:
    """A batch as its process leaves it behind."""
    folder = fill(tmp_path / "radiographs" / "in", 12, 4)
    batch = kept.of_folder(str(folder), settings)
    log = io.StringIO()
    run(Order(folder, batch.out), scorer(Stand()), threading.Event(), log)
    (batch.folder / "log").write_text(log.getvalue())
    return batch


class NoThread:
    @staticmethod
    def start() -> None:
        """Nothing runs."""


def page() -> AppTest:
    app = AppTest.from_file(APP, default_timeout=180).run()
    return app.switch_page("pages/batch.py").run()


def text(app: AppTest) -> str:
    return "\n".join(str(e.proto.body) for e in app.get("html"))


def test_a_dropped_batch_runs_to_its_end_in_a_process_of_its_own(settings, tmp_path):
    folder = fill(tmp_path / "in", 2, 1)
    files = [(p.name, p.read_bytes()) for p in sorted(folder.rglob("*.png"))]
    batch = kept.of_files(files, settings)
    assert batch.running
    with pytest.raises(BatchFailed, match="Another batch"):
        kept.of_files(files, settings)
    eventually(lambda: not batch.running)
    assert batch.finished, (batch.folder / "log").read_text()
    assert os.getpgid(os.getpid()) != Process.read(batch.folder).pid
    found = [r for _, r in batch.records()]
    assert [r["file"] for r in found] == [name for name, _ in files]
    assert batch.progress().done == batch.progress().total == 3
    assert batch.bytes_of(files[0][0], settings) == files[0][1]
    batch.remove()
    assert not batch.folder.exists()
    assert kept.all_batches(settings.home) == []


def test_two_servers_begin_one_batch_after_the_other(settings, tmp_path, monkeypatch):
    """Another open file is to the lock what another process is."""
    begun, refused = [], []
    monkeypatch.setattr(Batch, "_start", begun.append)
    other = put(settings, "other", "a.png", 1000.0, "a.png")

    def begin() -> None:
        with pytest.raises(BatchFailed, match="Another batch") as caught:
            kept.of_folder(str(tmp_path / "radiographs"), settings)
        refused.append(caught)

    ours = threading.Thread(target=begin)
    with (other.folder.parent / ".claims").open("w") as file:
        locks.take(file)  # the other server looks, and then begins
        ours.start()
        ours.join(0.2)
        assert ours.is_alive() and not begun
        Process.of(os.getpid()).write(other.folder)
    ours.join()
    assert refused and not begun and kept.all_batches(settings.home) == [other]


def test_names_of_dropped_files_decide_no_path(settings, tmp_path, quiet):
    files = [("../../evil.png", b"a"), ("../../evil.png", b"b"), ("/etc/passwd", b"c")]
    batch = kept.of_files(files, settings)
    everything = {p for p in tmp_path.rglob("*") if p.is_file() and "home" in p.parts}
    assert {p.name for p in everything} == {".claims", "dropped.zip", "order.json"}
    with Archive(batch.source).opened():
        assert len([*Archive(batch.source).names()]) == 3
    with pytest.raises(ImageRejected, match="no longer"):
        batch.bytes_of("/etc/shadow", settings)


def test_a_dropped_archive_is_kept_as_it_is(settings, quiet):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a.png", b"x")
    batch = kept.of_files([("pictures.zip", data.getvalue())], settings)
    assert batch.source.read_bytes() == data.getvalue()
    assert batch.title == "pictures.zip"


def test_an_archive_among_other_files_is_asked_for_alone(settings, quiet):
    app = page()
    app.file_uploader[0].set_value([("a.zip", b"PK", ""), ("b.png", b"x", "")]).run()
    assert kept.ARCHIVE_ALONE in text(app)
    assert next(b for b in app.button if b.label == "Assess the files").disabled
    app.file_uploader[0].set_value([("a.zip", b"PK", "")]).run()
    assert kept.ARCHIVE_ALONE not in text(app)
    assert not next(b for b in app.button if b.label == "Assess the files").disabled


def test_only_allowed_folders(settings, tmp_path, quiet):
    with pytest.raises(PathRefused):
        kept.of_folder(str(tmp_path), settings)
    with pytest.raises(PathRefused):
        kept.of_folder("/etc", settings)
    inside = tmp_path / "radiographs" / "a.txt"
    inside.write_text("x")
    with pytest.raises(BatchFailed, match="folder or a ZIP"):
        kept.of_folder(str(inside), settings)
    assert kept.all_batches(settings.home) == []


def test_empty_page(settings):
    app = page()
    assert not app.exception
    assert "No batch yet" in text(app)
    assert str(settings.roots[0]) in text(app)


def test_without_a_folder_on_the_server_no_dead_field_is_shown(settings, monkeypatch):
    monkeypatch.delenv("BONE_ROOTS")
    app = page()
    assert "BONE_ROOTS" in text(app) and not app.text_input and not app.exception
    assert "Assess the folder" not in [b.label for b in app.button]


def test_a_batch_that_runs_is_listed_as_it_comes(settings, tmp_path, quiet, monkeypatch):
    """What is more suspicious would go before what was read already."""
    batch = finished(settings, tmp_path)
    files = [batch.short(r["file"]) for _, r in batch.records()]
    assert list(lists(page())[0]["File"]) != files
    monkeypatch.setattr(kept.Batch, "running", True)
    app = page()
    assert list(lists(app)[0]["File"]) == files
    assert app.selectbox(key="batch-order-running").disabled  # and says which order it is


def test_the_table_filters_and_sorts(settings, tmp_path, quiet):
    batch = finished(settings, tmp_path)
    app = page()
    assert not app.exception
    assert "Not assessed</span>&nbsp;<b>4</b></span></span> · 16 files" in text(app)
    [table] = lists(app)
    assert len(table) == 16
    assert table["Picture"].str.startswith("data:image/jpeg").sum() == 12
    assert (table["Finding"] == "Not assessed").sum() == 4
    [told] = [e.proto for e in app.get("bidi_component") if e.proto.component_name == "rows"]
    below = [row["below"] for row in json.loads(told.json)["rows"]]
    assert below == list(table["Note"]) and sum(map(bool, below)) >= 4  # where it has no column
    assert table["Probability"].dropna().is_monotonic_decreasing  # the most suspected first
    app.selectbox(key="batch-order").select("As in the folder").run()
    assert list(lists(app)[0]["File"]) == [batch.short(r["file"]) for _, r in batch.records()]
    app.multiselect(key="batch-finding").select("rejected").run()
    assert len(lists(app)[0]) == 4
    assert "An unexpected error" not in text(app)


def test_a_row_opens_in_the_viewer_beside_the_table(settings, tmp_path, quiet):
    batch = finished(settings, tmp_path)
    *_, good, broken = [r["file"] for _, r in batch.records()]
    app = page()
    opened = app.session_state["batches"][batch.folder.name].opened
    opened.file = good
    app.selectbox(key="batch-order").select("As in the folder").run()
    assert not app.exception and "An unexpected error" not in text(app)
    assert f"<b>{batch.short(good)}</b>" in text(app) and "15 of 16" in text(app)
    assert opened.made.picture.radiograph.sha256 == opened.made.result.sha256
    first = opened.made
    app.run()
    assert opened.made is first  # a batch that runs draws its page every second
    events = [line.event for line in Store.open(settings).audit_lines()]
    assert events.count("image.opened") == events.count("result.shown") == 2  # the table, and it
    next(b for b in app.button if b.label == "Next").click().run()
    assert f"<b>{batch.short(broken)}</b>" in text(app) and "16 of 16" in text(app)
    buttons = {b.label: b for b in app.button}
    assert buttons["Next"].disabled and not buttons["Previous"].disabled
    buttons["Previous"].click().run()
    assert opened.file == good
    app.multiselect(key="batch-finding").select("rejected").run()  # hides the open one
    assert "15 of 16" not in text(app) and opened.file == good
    app.multiselect(key="batch-finding").unselect("rejected").run()
    next(b for b in app.button if b.label == "Close").click().run()
    assert opened.file == "" and {b.label for b in app.button}.isdisjoint({"Next", "Close"})


def test_a_file_that_changed_is_not_shown_with_its_old_result(settings, tmp_path, quiet):
    batch = finished(settings, tmp_path)
    records = [r for _, r in batch.records() if r["status"] == "ok"]
    good, other = records[0], next(r for r in records if r["sha256"] != records[0]["sha256"])
    Path(good["file"]).write_bytes(Path(other["file"]).read_bytes())
    app = page()
    assert lists(app)[0]["Picture"].str.startswith("data:image/jpeg").sum() == 11
    app.session_state["batches"][batch.folder.name].opened.file = good["file"]
    app.run()
    assert "The file has changed since it was assessed" in text(app)
    assert not viewers(app) and "Suspected" not in text(app).split("has changed")[1]


def test_an_archive_inside_the_roots_is_opened_as_one(settings, tmp_path, quiet):
    folder = fill(tmp_path / "in", 3)
    archive = tmp_path / "radiographs" / "some.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in Folder(folder).names():
            file.write(folder / name, name)
    batch = kept.of_folder(str(archive), settings)
    run(Order(archive, batch.out), scorer(Stand()), threading.Event(), io.StringIO())
    records = [record for _, record in batch.records()]
    assert len(records) == 3
    for record in records:
        data = batch.bytes_of(record["file"], settings)
        assert hashlib.sha256(data).hexdigest() == record["sha256"]
    outside = replace(settings, roots=(tmp_path / "home",))
    with pytest.raises(ImageRejected):
        batch.bytes_of(records[0]["file"], outside)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_each_member_of_one_name_is_opened_as_itself(settings, tmp_path, quiet):
    folder = fill(tmp_path / "in", 3)
    archive = tmp_path / "radiographs" / "flat.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in Folder(folder).names():
            file.write(folder / name, "image1.png")
    batch = kept.of_folder(str(archive), settings)
    run(Order(archive, batch.out), scorer(Stand()), threading.Event(), io.StringIO())
    records = [record for _, record in batch.records()]
    digests = [hashlib.sha256(batch.bytes_of(r["file"], settings)).hexdigest() for r in records]
    assert digests == [r["sha256"] for r in records] and len(set(digests)) == 3
    assert lists(page())[0]["Picture"].str.startswith("data:image/jpeg").all()


@pytest.mark.parametrize("gone", [True, False])
def test_an_archive_that_is_gone_or_damaged_is_a_sentence_of_its_rows(
    settings, tmp_path, quiet, gone
):
    folder = fill(tmp_path / "in", 2)
    archive = tmp_path / "radiographs" / "some.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in Folder(folder).names():
            file.write(folder / name, name)
    batch = kept.of_folder(str(archive), settings)
    run(Order(archive, batch.out), scorer(Stand()), threading.Event(), io.StringIO())
    archive.unlink() if gone else archive.write_bytes(b"PK\x03\x04 half a copy")
    app = page()
    assert len(lists(app)[0]) == 2 and len(app.get("download_button")) == 2
    _, record = next(batch.records())
    app.session_state["batches"][batch.folder.name].opened.file = record["file"]
    app.run()
    said = "or there is nothing at it" if gone else "The ZIP archive is damaged"
    assert said in text(app) and len(lists(app)[0]) == 2 and not viewers(app)


def test_a_file_whose_name_is_no_utf_8_is_opened(settings, tmp_path, quiet):
    folder = tmp_path / "radiographs" / "in"
    folder.mkdir()
    for name in (b"Mueller_\xfc.png", rb"Mueller_\udce4.png"):  # the second one is called that
        (folder / os.fsdecode(name)).write_bytes(name)
    batch, source = kept.of_folder(str(folder), settings), Folder(folder)
    found = {name: batch.bytes_of(source.label(name), settings) for name in source.names()}
    assert len(found) == 2 and all(os.fsencode(name) == data for name, data in found.items())


def test_a_folder_that_is_called_all_can_be_chosen(settings):
    one = put(settings, "a", "a.zip", 1000.0, "All/1.png")
    record = json.loads(one.out.read_text())
    rows = [record, record | {"file": "b/2.png"}]
    one.out.write_text("".join(json.dumps(r) + "\n" for r in rows))
    app = page()
    assert len(lists(app)[0]) == 2
    app.selectbox(key="batch-source").select("All").run()
    assert list(lists(app)[0]["File"]) == ["All/1.png"]


TRACE = "ERROR:core.batch.scoring:A file could not be decoded.\n" + 900 * "  File x, line 1, in é\n"


def told(how: Code | CascadeError | OSError) -> str:
    """The line by which a process says in its log how it ended."""
    stream = io.StringIO()
    (Ending(how) if isinstance(how, Code) else Ending.by(how)).tell(stream)
    return stream.getvalue()


def test_progress_stays_however_much_is_logged_after_it(settings):
    batch = put(settings, "a", "a.dcm", 1000.0, "of-ann.dcm")
    lines = ['{"done": 1, "total": 9, "rejected": 0}', '{"done": 480, "total": 999, "rejected": 3}']
    log = batch.folder / "log"
    for after in ("", TRACE, 9 * TRACE, '{"done": 4', '{"level": 1}\n'):
        log.write_text("\n".join(lines) + "\n" + after)
        assert (batch.progress().done, batch.progress().total) == (480, 999)
    log.write_text(lines[0] + "\n" + TRACE + told(BatchFailed("The disk is full.")) + "error: …\n")
    assert batch.failure() == "The disk is full." and batch.progress().done == 1
    log.write_text(TRACE)
    assert batch.progress() == Progress()


def test_a_batch_that_was_cut_off_does_not_look_stopped(settings, tmp_path, quiet, monkeypatch):
    folder = fill(tmp_path / "radiographs" / "in", 3)
    batch = kept.of_folder(str(folder), settings)
    assert batch.failure() == ""  # nothing has begun yet
    Process(2**22 + 1, "another boot").write(batch.folder)
    log, line = batch.folder / "log", '{"done": 1, "total": 3, "rejected": 0}\n'
    for after in ("", TRACE):  # killed, and crashed
        log.write_text(line + after)
        said = text(page())
        assert "Interrupted after <b>1</b> of 3" in said and kept.CUT_OFF in said
    log.write_text(line + told(Code.STOPPED) + "Stopped, in whatever words.\n")
    said = text(page())
    assert "Stopped after <b>1</b> of 3" in said and kept.CUT_OFF not in said
    log.write_text("")
    with monkeypatch.context() as patch:  # while it loads the model it is ended at once
        patch.setattr(Process, "alive", True)
        patch.setattr(kept.os, "kill", lambda *_: None)
        batch.stop()
    assert batch.failure() == ""


def test_what_an_older_version_left_in_words_alone_was_cut_off_and_goes_on(
    settings, tmp_path, commands
):
    batch = kept.of_folder(str(fill(tmp_path / "radiographs" / "in", 3)), settings)
    cut_off(batch, release="random", release_sha256="0")
    note = folder_of(batch.out) / "run.json"
    began = json.loads(note.read_text())
    del began["engine_setting"]
    note.write_text(json.dumps(began))
    (batch.folder / "log").write_text("error: The run was begun with another release (…).\n")
    assert batch.failure() == kept.CUT_OFF and not batch.refused
    batch.start()
    assert len(commands) == 2 and "--engine" not in commands[-1]


def test_a_full_disk_stops_no_stop(settings, tmp_path, quiet, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    folder, ended = fill(tmp_path / "radiographs" / "in", 3), []
    batch = kept.of_folder(str(folder), settings)
    Process(2**22 + 1, "another boot").write(batch.folder)
    with monkeypatch.context() as patch:
        patch.setattr(Process, "alive", True)
        patch.setattr(kept.os, "kill", lambda *told: ended.append(told))
        patch.setattr(Path, "touch", full)
        batch.stop()
    assert len(ended) == 1


def test_what_goes_on_after_a_stop_and_is_killed_was_cut_off(settings, monkeypatch):
    batch = put(settings, "a", "a.dcm", 1000.0, "of-ann.dcm")
    batch.out.unlink()
    begun = SimpleNamespace(pid=os.getpid(), wait=lambda: 0)
    monkeypatch.setattr(kept.subprocess, "Popen", lambda *_, **__: begun)
    (batch.folder / "stopped").touch()
    batch.start()
    assert batch.running
    Process(2**22 + 1, "another boot").write(batch.folder)
    assert not batch.running and batch.failure() == kept.CUT_OFF


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Of the processes that are started, of which none runs."""
    found: list[list[str]] = []
    ended = SimpleNamespace(pid=2**22 + 1, wait=lambda: 0)
    monkeypatch.setattr(
        kept.subprocess, "Popen", lambda command, **_: found.append(command) or ended
    )
    return found


def cut_off(batch: Batch, **began: str) -> None:
    """As its process leaves it that was begun so, and stopped after its first file."""
    folder, stop = Path(batch.source), threading.Event()
    stop.set()
    run(Order(folder, batch.out), scorer(Stand(), batch=1), stop, io.StringIO())
    note = folder_of(batch.out) / "run.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | began))


def test_a_batch_goes_on_with_the_release_and_the_engine_that_it_began_with(
    settings, tmp_path, weights, commands
):
    """Another release is the champion by now, and another engine the one that is taken."""
    release = Registry.open(weights).releases["random"]
    batch = kept.of_folder(str(fill(tmp_path / "radiographs" / "in", 3)), settings)
    assert "--release" not in commands[-1] and "--engine" not in commands[-1]
    cut_off(batch, release="random", release_sha256=release.sha256)
    program = ["--release", "random", "--mode", release.mode.value]
    note = folder_of(batch.out) / "run.json"
    for setting in ("torch", "openvino-int8"):
        began = json.loads(note.read_text()) | {"engine_setting": setting}
        note.write_text(json.dumps(began))
        batch.start()
        assert commands[-1][3:8] == [*program, "batch"]
        assert commands[-1][9:11] == ["--engine", setting]
    note.write_text(json.dumps(json.loads(note.read_text()) | {"release_sha256": "0"}))
    batch.start()  # the process says that this one is gone
    assert "--release" not in commands[-1]


def test_a_batch_that_cannot_go_on_can_begin_again(settings, tmp_path, commands):
    folder = fill(tmp_path / "radiographs" / "in", 3)
    batch = kept.of_folder(str(folder), settings)
    cut_off(batch, release="of last week")
    with pytest.raises(BatchFailed) as refused:
        run(
            Order(folder, batch.out, resume=True), scorer(Stand()), threading.Event(), io.StringIO()
        )
    (batch.folder / "log").write_text(f"{told(refused.value)}error: {refused.value}\n")
    app = page()
    assert f"another release (of last week, now stand).{kept.CHANGED}" in text(app)
    assert str(settings.home) not in text(app) and len(lists(app)[0]) == 1
    away = folder.rename(tmp_path / "away")
    for _ in ("gone", "a server that is not mounted"):
        next(b for b in app.button if b.label == "Assess all again").click().run()
        assert len(lists(app)[0]) == 1 and len(commands) == 1
        folder.mkdir(exist_ok=True)
    assert f"There is nothing in {folder} now." in text(app)
    folder.rmdir()
    away.rename(folder)
    next(b for b in app.button if b.label == "Assess all again").click().run()
    assert not folder_of(batch.out).exists() and len(commands) == 2
    run(Order(folder, batch.out), scorer(Stand()), threading.Event(), io.StringIO())
    assert len([*batch.records()]) == 3 and len(list(folder.rglob("*.png"))) == 3


def test_a_batch_whose_engine_is_gone_can_go_on_later_or_begin_again(
    settings, tmp_path, commands, monkeypatch
):
    batch = kept.of_folder(str(fill(tmp_path / "radiographs" / "in", 3)), settings)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineUnavailable) as unavailable:
        vino.library()
    said = str(unavailable.value)
    (batch.folder / "log").write_text(told(unavailable.value))
    assert not batch.refused  # there is nothing that could be kept
    cut_off(batch)
    app = page()
    assert said in text(app)
    assert {b.label for b in app.button} >= {"Resume", "Assess all again"}
    batch.start()
    assert folder_of(batch.out).exists()
    (batch.folder / "log").write_text(told(unavailable.value))
    batch.start(anew=True)
    assert not folder_of(batch.out).exists()


def test_what_another_session_began_again_is_not_deleted_by_an_older_page(
    settings, tmp_path, commands
):
    batch = kept.of_folder(str(fill(tmp_path / "radiographs" / "in", 3)), settings)
    cut_off(batch)
    (batch.folder / "log").write_text(told(Code.STOPPED))
    batch.start(anew=True)
    assert len([*batch.records()]) == 1 and len(commands) == 2


def test_the_rows_of_a_batch_that_another_session_began_again_are_its_new_ones(
    settings, tmp_path, commands
):
    batch = kept.of_folder(str(fill(tmp_path / "radiographs" / "in", 3)), settings)
    cut_off(batch)
    app = page()
    with Journal(batch.out) as journal:
        journal.remove()
    cut_off(batch)
    journal = folder_of(batch.out) / "journal.jsonl"
    record = json.loads(journal.read_text()) | {"file": str(batch.source / "new.png")}
    journal.write_text(json.dumps(record) + "\n")
    assert list(lists(app.run())[0]["File"]) == ["new.png"]


def test_a_stopped_batch_can_go_on_and_says_why_it_failed(settings, tmp_path, quiet):
    folder = fill(tmp_path / "radiographs" / "in", 3)
    batch = kept.of_folder(str(folder), settings)
    (batch.folder / "log").write_text(
        '{"done": 1, "total": 3, "rejected": 0, "per_second": 2.0, "seconds_left": 1.0}\n'
        + told(BatchFailed("The disk is full."))
    )
    app = page()
    assert "Stopped after <b>1</b> of 3" in text(app)
    assert "The disk is full." in text(app)
    assert {b.label for b in app.button} >= {"Resume", "Delete permanently"}
    next(b for b in app.button if b.label == "Delete permanently").click().run()
    assert not batch.folder.exists() and len(list(folder.rglob("*.png"))) == 3
    assert "Stopped after" not in text(app) and not app.exception


def test_the_most_suspected_are_those_of_the_most_urgent_finding(settings, tmp_path, quiet):
    """Each part has thresholds of its own, so a share alone orders nothing."""
    batch = finished(settings, tmp_path)
    records = [json.loads(line) for line in batch.out.read_text().splitlines()]
    assessed = [r for r in records if r["fracture"]]
    for record, found, share in zip(
        assessed, ("doubtful", "suspected", "not_suspected"), (0.5, 0.4, 0.45), strict=False
    ):
        record["fracture"] |= {"finding": found, "probability": share}
    some = [*assessed[:3], next(r for r in records if not r["fracture"])]
    batch.out.write_text("".join(json.dumps(r) + "\n" for r in some))
    app = page()
    for order, expected in (
        ("Most suspicious first", ["Suspected", "Doubtful", "Not suspected", "Not assessed"]),
        ("Least suspicious first", ["Not suspected", "Doubtful", "Suspected", "Not assessed"]),
    ):
        app.selectbox(key="batch-order").select(order).run()
        assert list(lists(app)[0]["Finding"]) == expected


def test_what_another_tab_began_is_neither_begun_again_nor_deleted(
    settings, tmp_path, quiet, monkeypatch
):
    folder = fill(tmp_path / "radiographs" / "in", 3)
    batch = kept.of_folder(str(folder), settings)
    other = replace(batch, folder=tmp_path / "home" / "batches" / "another")
    monkeypatch.setattr(Batch, "running", property(lambda self: self.folder == batch.folder))
    begun: list[Batch] = []
    monkeypatch.setattr(Batch, "_start", begun.append)
    batch.start()
    assert not begun
    with pytest.raises(BatchFailed, match="Another batch is running"):
        other.start()
    with pytest.raises(BatchFailed, match="stop it first"):
        batch.remove()
    assert batch.folder.exists()
    monkeypatch.setattr(Batch, "running", False)
    batch.out.write_bytes(b"")
    batch.start()  # a page that was drawn before it ended still says "Resume"
    assert not begun


def test_a_damaged_archive_is_refused_by_its_name(settings):
    with pytest.raises(BatchFailed, match=r"The archive bad\.zip is damaged"):
        kept.of_files([("bad.zip", b"PK\x03\x04 and no end")], settings)
    assert not list((settings.home / "batches").iterdir())


def test_new_records_are_read_once(settings, tmp_path, quiet):
    batch = finished(settings, tmp_path)
    journal = folder_of(batch.out) / "journal.jsonl"
    whole = batch.out.read_bytes()
    batch.out.unlink()
    journal.parent.mkdir()
    lines = whole.splitlines(keepends=True)
    journal.write_bytes(lines[0] + lines[1] + lines[2][:9])
    found = [*batch.records()]
    assert len(found) == 2
    journal.write_bytes(b"".join(lines[:5]))
    assert len([*batch.records(found[-1][0])]) == 3


def test_the_download_is_the_table_of_the_command_line(settings, tmp_path, quiet, monkeypatch):
    batch = finished(settings, tmp_path)
    given = {}
    monkeypatch.setattr(
        st, "download_button", lambda label, data, *_, **__: given.update({label: data})
    )
    _batch_results._downloads(batch, 16, 16, _batch_results._Filters())
    found = list(csv.DictReader(io.StringIO(given["CSV of all 16"]().decode())))
    assert len(found) == 16
    assert given["JSON lines of all 16"]() == batch.out.read_bytes()


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], bytes]]:
    """The downloads of Batch, by their labels."""
    found: dict[str, Callable[[], bytes]] = {}

    def button(label: str, data: Callable[[], bytes], *_: object, **__: object) -> None:
        if " of " in label:
            found[label] = data

    monkeypatch.setattr(st, "download_button", button)
    return found


def test_the_download_is_what_the_filters_leave_and_says_so(settings, tmp_path, quiet, given):
    finished(settings, tmp_path)
    app = page()
    assert set(given) == {"CSV of all 16", "JSON lines of all 16"}
    given.clear()
    app.multiselect(key="batch-finding").select("rejected").run()
    assert set(given) == {"CSV of 4 of 16", "JSON lines of 4 of 16"}
    found = list(csv.DictReader(io.StringIO(given["CSV of 4 of 16"]().decode())))
    assert [r["status"] for r in found] == ["rejected"] * 4
    lines = given["JSON lines of 4 of 16"]().splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["rejected"] * 4


def test_a_download_of_more_than_the_table_reads_has_the_true_number(
    settings, tmp_path, quiet, given, monkeypatch
):
    finished(settings, tmp_path)
    monkeypatch.setattr(_batch_results, "MOST_ROWS", 5)
    app = page()
    assert set(given) == {"CSV of all 16", "JSON lines of all 16"}
    given.clear()
    app.multiselect(key="batch-finding").select("rejected").run()
    assert set(given) == {"CSV of the filtered rows", "JSON lines of the filtered rows"}
    data = given["CSV of the filtered rows"]().decode()
    assert len(list(csv.DictReader(io.StringIO(data)))) == 4


def put(settings: Settings, name: str, title: str, created: float, file: str) -> Batch:
    """A finished batch of one file that was refused."""
    folder = settings.home / "batches" / name
    folder.mkdir(parents=True)
    order = {"title": title, "source": str(folder / "dropped.zip"), "created": created}
    (folder / "order.json").write_text(json.dumps(order))
    record = {"file": file, "sha256": None, "status": "rejected", "reason": "No.", "fracture": None}
    record |= {"body_part": None, "release": "r", "release_sha256": "0", "milliseconds": 1.0}
    (folder / "results.jsonl").write_text(json.dumps(record) + "\n")
    (folder / "log").write_text('{"done": 1, "total": 1, "rejected": 1}\n')
    return Batch.read(folder)


def shown(app: AppTest) -> str:
    """The file in the table; "" where no batch is shown."""
    found = lists(app)
    return found[0]["File"][0] if found else ""


def test_two_batches_of_one_second_and_name_are_told_apart(settings):
    """A browser sends the label of a choice back, and of two alike the last one would be meant."""
    put(settings, "a", "IM0001.dcm", 1000.25, "of-ann.dcm")
    put(settings, "b", "IM0001.dcm", 1000.5, "of-bob.dcm")
    put(settings, "c", "IM0001.dcm", 1035.0, "of-cid.dcm")
    app = page()
    choice = app.selectbox(key="batch-choice")
    assert len(set(choice.options)) == 3 and shown(app) == "of-cid.dcm"
    assert [o[-4:] for o in choice.options[1:]] == [" (b)", " (a)"]  # which stay theirs
    for number, file in ((1, "of-bob.dcm"), (2, "of-ann.dcm"), (1, "of-bob.dcm")):
        app.selectbox(key="batch-choice").select_index(number).run()
        assert shown(app) == file
        assert shown(app.run()) == file


def click(app: AppTest, label: str) -> AppTest:
    """With AppTest's page run by itself: on the way through the navigation a click is lost."""
    (button,) = [b for b in app.button if b.label == label]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pages._streamlit.through_navigation", lambda: None)
        return button.click().run()


def test_dropped_files_stay_while_another_page_is_looked_at(settings, quiet, monkeypatch):
    freed: list[str] = []
    monkeypatch.setattr("pages._streamlit.give_back", freed.extend)
    app = page()

    def drop(*names: str) -> None:
        app.file_uploader[0].set_value([(name, name.encode(), "") for name in names]).run()

    for names in (("a.png", "b.png"), ("c.png",)):
        drop(*names)
        app.switch_page("pages/metrics.py").run()
        app.switch_page("pages/batch.py").run()
    assert "Dropped before: a.png and 2 more" in text(app) and not freed
    click(app, "Remove")
    assert "Dropped before" not in text(app) and len(freed) == 3
    drop("d.png")
    app.switch_page("pages/metrics.py").run()
    app.switch_page("pages/batch.py").run()
    drop("e.png")
    click(app, "Assess the files")
    [batch] = kept.all_batches(settings.home)
    assert [batch.bytes_of(f"{n}.png", settings) for n in "de"] == [b"d.png", b"e.png"]
    assert len(freed) == 5 and "Dropped before" not in text(app) and not app.exception


def test_a_second_click_shows_the_batch_that_the_first_one_began(settings, tmp_path, monkeypatch):
    """It may come so soon that the run of the first one does not get to showing it."""
    monkeypatch.setattr(Batch, "_start", lambda self: Process.of(os.getpid()).write(self.folder))
    older = put(settings, "older", "a.png", 1000.0, "a.png")
    app = page()
    folders = [fill(tmp_path / "radiographs" / name, 1, 0) for name in ("in", "other")]
    app.text_input(key="batch-folder").set_value(str(folders[0])).run()
    for _ in range(2):
        click(app, "Assess the folder")
        newest, _older = kept.all_batches(settings.home)
        assert app.session_state["batch-shown"] == newest.folder.name
        assert "Another batch" not in text(app) and not app.exception
        app.session_state["batch-shown"] = older.folder.name
    app.text_input(key="batch-folder").set_value(str(folders[1])).run()
    click(app, "Assess the folder")
    assert "Another batch" in text(app) and len(kept.all_batches(settings.home)) == 2


def test_a_second_click_shows_nobody_else_s_batch(settings, monkeypatch):
    freed: list[str] = []
    monkeypatch.setattr("pages._streamlit.give_back", freed.extend)
    monkeypatch.setattr(Batch, "_start", lambda self: Process.of(os.getpid()).write(self.folder))
    app = page()
    app.file_uploader[0].set_value([("a.png", b"a", "")]).run()
    # The first click's batch had not begun when its run was cut short.
    asked = [f.id for files in app.session_state["batch-files"] for f in files]
    app.session_state["batch-asked"] = asked, "none"
    other = kept.of_files([("b.png", b"b")], settings)
    click(app, "Assess the files")
    assert "Another batch" in text(app) and kept.all_batches(settings.home) == [other]
    assert [f.name for files in app.session_state["batch-files"] for f in files] == ["a.png"]
    assert not freed


def test_the_batch_that_is_shown_stays_until_the_reader_chooses(settings):
    put(settings, "a", "a.dcm", 1000.0, "of-ann.dcm")
    put(settings, "b", "b.dcm", 2000.0, "of-bob.dcm")
    app = page()
    assert shown(app) == "of-bob.dcm"
    put(settings, "c", "c.dcm", 3000.0, "of-cid.dcm")  # a colleague's
    assert shown(app.run()) == "of-bob.dcm"
    app.selectbox(key="batch-choice").select_index(2).run()
    assert shown(app) == "of-ann.dcm"
    put(settings, "d", "d.dcm", 4000.0, "of-dan.dcm")
    assert shown(app.run()) == "of-ann.dcm"
    app.switch_page("pages/diagnose.py").run()
    app.switch_page("pages/batch.py").run()
    assert shown(app) == "of-ann.dcm"


def test_a_deleted_batch_is_said_to_be_gone_and_no_other_stands_in_its_place(settings):
    put(settings, "a", "a.dcm", 1000.0, "of-ann.dcm")
    other = put(settings, "b", "b.dcm", 2000.0, "of-bob.dcm")
    app = page()
    app.button(key="deleted-b").click().run()
    assert not other.folder.exists() and shown(app) == "" and "has been deleted" in text(app)
    assert "batches" not in app.session_state
    assert not [b for b in app.button if b.label == "Delete permanently"]
    app.selectbox(key="batch-choice").select_index(0).run()
    assert shown(app) == "of-ann.dcm" and "has been deleted" not in text(app)


def test_the_question_before_a_deletion_names_the_batch_and_is_its_own(settings):
    one = put(settings, "a", "a.dcm", 1000.0, "of-ann.dcm")
    two = put(settings, "b", "b.dcm", 2000.0, "of-bob.dcm")
    app = page()
    asked = app.button(key="deleted-b")
    assert "<b>b.dcm</b>" in text(app)
    app.session_state["batch-shown"] = "a"  # while the question of the other one is still open
    app.run()
    asked.click().run()
    assert one.folder.exists() and not two.folder.exists()


def test_a_batch_that_cannot_be_deleted_says_so_and_stays_in_the_list(settings, monkeypatch):
    one = put(settings, "a", "a.dcm", 1000.0, "of-ann.dcm")
    (one.folder / "dropped.zip").write_bytes(b"x")
    app, unlink = page(), Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == "dropped.zip":
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        app.button(key="deleted-a").click().run()
    assert kept.NOT_DELETED in text(app) and kept.all_batches(settings.home) == [one]
    assert not one.out.exists()
    next(b for b in app.button if b.label == "Delete permanently").click().run()
    assert not one.folder.exists()


def test_a_session_keeps_only_the_batch_that_is_shown(settings):
    for number in range(3):
        put(settings, f"{number}", f"{number}.dcm", 1000.0 * number, f"of-{number}.dcm")
    app = page()
    for number in range(3):
        app.selectbox(key="batch-choice").select_index(number).run()
        assert list(app.session_state["batches"]) == [f"{2 - number}"]
    app.selectbox(key="batch-choice").select_index(0).run()
    told = [e for e in Store.open(settings).audit_lines() if e.event == "result.shown"]
    assert len(told) == 3  # one line for each batch and session


def test_a_damaged_archives_name_is_shown_and_not_logged(settings, caplog):
    with pytest.raises(BatchFailed) as caught:
        kept.of_files([("MUSTERMANN_MAX_1950.zip", b"PK\x03\x04 and no more")], settings)
    said = _theme.sentence(caught.value)
    assert said == "The archive MUSTERMANN_MAX_1950.zip is damaged or incomplete."
    assert "MUSTERMANN" not in caplog.text and "BatchFailed at kept.py:" in caplog.text
    assert "Shown to the reader: BatchFailed" in caplog.text


def no_audit(*_: object, **__: object) -> None:
    raise StoreUnavailable("The audit is away.")


def test_dropped_files_are_private_and_go_when_their_time_is_over(settings, quiet, monkeypatch):
    monkeypatch.setattr(kept.time, "strftime", lambda _: "then")
    old = kept.of_files([("Doe_Jane.dcm", b"x")], settings)
    new, crashed = kept.of_files([("b.dcm", b"x")], settings), settings.home / "batches" / "x"
    crashed.mkdir()
    (crashed / "dropped.zip").write_bytes(b"x")  # and then the power failed
    assert old.source.stat().st_mode & 0o777 == 0o600
    assert old.folder.stat().st_mode & 0o777 == 0o700
    for folder in (old.folder, crashed):
        os.utime(folder, (0, 0))
    order = json.loads((old.folder / "order.json").read_text())
    (old.folder / "order.json").write_text(json.dumps(order | {"created": 0.0}))
    at_work = Batch.read(old.folder)
    with monkeypatch.context() as patch:
        patch.setattr(Batch, "running", property(lambda self: self.folder == at_work.folder))
        assert [b.folder for b in kept.past(settings.home, 30)] == [crashed]
    _retention.purge(settings)  # nothing has an end
    assert old.folder.exists()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "audit", no_audit)
        _retention.purge(replace(settings, retention_days=30))
    assert old.folder.exists()  # where the audit cannot be written, nothing is deleted
    _retention.purge(replace(settings, retention_days=30))
    assert not old.folder.exists() and not crashed.exists()
    assert [b.folder for b in kept.all_batches(settings.home)] == [new.folder]


def test_one_thread_removes_what_is_past_its_time_and_survives_what_goes_wrong(
    settings, monkeypatch, caplog
):
    began, rounds = [], []
    monkeypatch.setattr(_retention, "_once", threading.Lock())
    monkeypatch.setattr(_retention.threading, "Thread", lambda **how: began.append(how) or NoThread)
    for days in (None, 30, 30):
        _retention.start(replace(settings, retention_days=days))
    assert len(began) == 1 and began[0]["daemon"]

    def broken(*_):
        rounds.append(1)
        if len(rounds) == 3:
            raise KeyboardInterrupt
        raise RuntimeError("full of odd things")

    monkeypatch.setattr(Store, "open", broken)
    monkeypatch.setattr(_retention.time, "sleep", lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        began[0]["target"](*began[0]["args"])
    assert caplog.text.count("past its time could not be removed") == 2
