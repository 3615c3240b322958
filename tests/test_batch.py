"""Folders to tables: every file a row, in order, once, and nothing lost by a crash."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from core import imaging
from core.__main__ import main
from core.batch import inputs, summary, tables
from core.batch.flow import ahead, chunks, prefetched
from core.batch.inputs import Archive, Folder, source_at
from core.batch.journal import Journal, folder_of
from core.batch.progress import Code, Ending
from core.batch.run import Order, Outcome, run
from core.errors import (
    BatchFailed,
    BegunOtherwise,
    EngineUnavailable,
    ImageRejected,
    PathRefused,
    SettingsInvalid,
)
from core.origin import Origin
from core.pacs import inbox
from core.registry import Registry
from core.settings import ROOT, ImageLimits
from core.spreadsheet import harmless
from core.words import percent
from tests.batches import Stand, fill, hostile, scorer
from tests.simulated import encoded, phantom
from tests.test_cli import KEYS
from tests.waiting import eventually


def score(folder: Path, out: Path, cascade: object = None, **options: object) -> Outcome:
    given = {k: options.pop(k) for k in ("batch", "threads", "heatmaps") if k in options}
    order = Order(folder, out, **options)
    return run(order, scorer(cascade or Stand(), **given), threading.Event(), io.StringIO())


def cut_off(folder: Path, out: Path, cascade: object = None, batch: int = 2) -> Outcome:
    """A run that ends after its first batch, as Ctrl-C does it."""
    stop = threading.Event()
    stop.set()
    return run(Order(folder, out), scorer(cascade or Stand(), batch=batch), stop, io.StringIO())


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def lasting(out: Path) -> bytes:
    """The output but for ``milliseconds``, which tells of one run and is in JSON lines alone."""
    return re.sub(rb'"milliseconds": [0-9.]+', b"", out.read_bytes())


def killed_after(folder: Path, out: Path, seconds: float) -> None:
    """Score in a process of its own and kill -9 it some time after its first row."""
    command = [sys.executable, "-m", "tests.batches", str(folder), str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    journal = folder_of(out) / "journal.jsonl"
    before = journal.stat().st_size if journal.exists() else 0
    eventually(
        lambda: journal.exists() and journal.stat().st_size > before,
        pause=lambda _: time.sleep(0.002),
    )
    time.sleep(seconds)
    process.kill()
    assert process.wait() == -signal.SIGKILL  # it had not ended by itself


def test_two_hundred_files_with_thirty_hostile_give_two_hundred_rows(tmp_path):
    folder = fill(tmp_path / "in", 170, 30)
    outcome = score(folder, tmp_path / "out.csv")
    found = rows(tmp_path / "out.csv")
    assert (outcome.total, outcome.rejected, outcome.stopped) == (200, 30, False)
    assert len(found) == 200
    refused = [r for r in found if r["status"] == "rejected"]
    assert len(refused) == 30
    assert all(r["reason"].endswith(".") and not r["finding"] for r in refused)
    names = [r["file"].removeprefix("'") for r in found]
    walked = [str(folder / n) for n in Folder(folder).names()]
    assert names == [n.encode("utf-8", "backslashreplace").decode() for n in walked]
    assert not folder_of(tmp_path / "out.csv").exists()


def test_equal_bytes_are_scored_once_and_have_a_row_each(tmp_path):
    folder, stand = fill(tmp_path / "in", 60), Stand()
    score(folder, tmp_path / "out.csv", stand, batch=7)
    found = rows(tmp_path / "out.csv")
    assert len(found) == 60
    assert stand.seen == len({r["sha256"] for r in found}) == 54
    copies = [r for r in found if r["file"].endswith("9.png")]
    first = found[0]
    assert {r["fracture_probability"] for r in copies} == {first["fracture_probability"]}


def test_milliseconds_are_the_file_s_own_and_its_share_of_the_network_s(tmp_path):
    folder, out = fill(tmp_path / "in", 20, 3), tmp_path / "out.jsonl"
    score(folder, out, Stand(seconds=0.02), batch=5)
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert all(r["milliseconds"] > 0 for r in found)
    took = {r["file"].rpartition("image")[2]: r["milliseconds"] for r in found}
    assert all(ms >= 20 for name, ms in took.items() if name in ("000.png", "018.png"))
    copies = [r["milliseconds"] for r in found if r["file"].endswith("9.png")]
    assert len(copies) == 2 and min(copies) < 20  # read and known, not scored


@pytest.mark.parametrize("kind", [".csv", ".parquet", ".jsonl"])
def test_the_three_formats_hold_the_same(tmp_path, kind):
    folder = fill(tmp_path / "in", 12, 5)
    out = tmp_path / f"out{kind}"
    score(folder, out)
    score(folder, tmp_path / "reference.csv")
    reference = rows(tmp_path / "reference.csv")
    if kind == ".jsonl":
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert {frozenset(r) for r in lines} == {frozenset(KEYS)}
        found = [tables.image_row(r) for r in lines]
    elif kind == ".parquet":
        from pyarrow import parquet

        found = parquet.read_table(out).to_pylist()
    else:
        found = rows(out)
    assert [tuple(r) for r in found] == [tables.IMAGE_COLUMNS] * 17
    for one, other in zip(found, reference, strict=True):
        assert one["file"].removeprefix("'") == other["file"].removeprefix("'")
        assert (one["sha256"], one["status"]) == (other["sha256"], other["status"])
        assert str(one["fracture_probability"] or "") == other["fracture_probability"]


def test_a_name_that_a_spreadsheet_would_run_is_made_harmless(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "=1+1.png").write_bytes(b"no picture")
    monkeypatch.chdir(folder)
    score(Path(), tmp_path / "out.csv")
    assert rows(tmp_path / "out.csv")[0]["file"] == "'=1+1.png"
    for cell in ("=1", "+1", "-1", "@a", "\t=1", "\r=1", "\n=1", " =1"):
        assert harmless(cell) == "'" + cell
    assert harmless("a=1") == "a=1"
    assert harmless(-1.5) == -1.5


def test_rows_by_study(tmp_path):
    folder = fill(tmp_path / "in", 20, 2)
    score(folder, tmp_path / "out.csv", by="study")
    found = rows(tmp_path / "out.csv")
    views = {r["study"].rpartition("in/")[2]: r for r in found}
    assert len(found) == 5  # two patients of two studies, and the hostile ones at the top
    one = views["patient00000/study1"]
    assert (one["views"], one["status"]) == ("5", "ok")
    assert 0 < float(one["fracture_probability"]) < 1
    assert [r["status"] for r in found].count("rejected") == 1


def test_killed_and_resumed_is_byte_for_byte_the_uninterrupted(tmp_path):
    folder = fill(tmp_path / "in", 60, 10)
    for n, kind in enumerate(("csv", "jsonl")):
        score(folder, tmp_path / f"whole.{kind}")
        out = tmp_path / f"killed.{kind}"
        killed_after(folder, out, 0.05 + 0.05 * n)
        assert not out.exists()
        stand = Stand()
        with Journal(out) as journal:
            journal._open()
            written = journal.done
        assert 0 < written < 70
        score(folder, out, stand, resume=True)
        assert stand.seen <= 70 - written
        assert lasting(out) == lasting(tmp_path / f"whole.{kind}")
    assert out.read_bytes() != lasting(out)
    assert (tmp_path / "killed.csv").read_bytes() == lasting(tmp_path / "killed.csv")


def test_a_resumed_run_computes_nothing_again_and_freezes_its_inputs(tmp_path):
    folder, out = fill(tmp_path / "in", 30), tmp_path / "out.csv"
    stand = Stand()
    first = cut_off(folder, out, stand, batch=8)
    assert (first.done, first.total, first.stopped) == (8, 30, True)
    (folder / "a-late-one.png").write_bytes(b"not there when the run began")
    with (folder_of(out) / "journal.jsonl").open("ab") as file:
        file.write(b'{"file": "cut')
    again = score(folder, out, stand, resume=True)
    assert again.total == 30
    assert stand.seen == 27
    assert len(rows(out)) == 30


def test_a_finished_run_is_not_gone_on_with(tmp_path):
    folder, out, stand = fill(tmp_path / "in", 5), tmp_path / "out.csv", Stand()
    assert score(folder, out, resume=True).done == 5  # where there is nothing yet it begins
    whole = out.read_bytes()
    (folder / "a-late-one.png").write_bytes(b"not there when the run began")
    outcome = score(folder, out, stand, resume=True)
    assert outcome.already and not outcome.stopped
    assert (stand.seen, out.read_bytes()) == (0, whole)
    assert not folder_of(out).exists()
    assert score(folder, out).total == 6  # asked for without --resume


def test_a_changed_release_is_noticed(tmp_path):
    folder, out = fill(tmp_path / "in", 10), tmp_path / "out.csv"
    cut_off(folder, out)
    with pytest.raises(BatchFailed, match="another release"):
        score(folder, out, Stand(sha256="1" * 64), resume=True)
    with pytest.raises(BatchFailed, match="interrupted"):
        score(folder, out)
    score(folder, out, resume=True)
    assert len(rows(out)) == 10


def test_another_engine_is_noticed_whatever_asked_for_it(tmp_path):
    folder, out, stand = fill(tmp_path / "in", 4), tmp_path / "out.csv", Stand()
    stand.engine = SimpleNamespace(description="CPU, bf16", setting="torch")
    cut_off(folder, out, stand)
    note = folder_of(out) / "run.json"
    began = json.loads(note.read_text())
    assert began["engine_setting"] == "torch"
    # As an older version told it, with the number of threads.
    note.write_text(json.dumps(began | {"engine": "CPU, 2 threads, bf16"}))
    for other in ("CPU, fp32", "OpenVINO 2025.1, CPU, bf16"):
        stand.engine.description = other
        with pytest.raises(BegunOtherwise, match="another engine"):
            score(folder, out, stand, resume=True)
    stand.engine = SimpleNamespace(description="CPU, bf16", setting="auto")
    assert score(folder, out, stand, resume=True).done == 4


def test_an_archive_that_changed_is_not_gone_on_with(tmp_path):
    """Its members count by their position: another list would leave some out, or do some twice."""
    folder, out = fill(tmp_path / "in", 6), tmp_path / "out.csv"
    names = list(Folder(folder).names())

    def pack(*members: str) -> Path:
        with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
            for name in members:
                archive.write(folder / name, name)
        return tmp_path / "in.zip"

    cut_off(pack(*names), out)
    for changed in (names[::-1], names[:3]):
        with pytest.raises(BatchFailed, match="another list of members"):
            score(pack(*changed), out, resume=True)
    score(pack(*names), out, resume=True)
    assert len(rows(out)) == 6


def test_what_a_run_writes_is_no_input(tmp_path):
    folder = fill(tmp_path / "in", 3)
    out, beside = folder / "out.csv", {"heatmaps": folder / "heat", "summary": folder / "x.html"}
    for _ in range(2):
        outcome = score(folder, out, heatmaps=beside["heatmaps"], summary=beside["summary"])
        assert (outcome.total, outcome.rejected) == (3, 0)
    (folder / "heat.png").write_bytes(b"not the folder of that name")
    assert score(folder, out, **beside).total == 4


def test_heatmaps_are_of_the_whole_run_or_of_none(tmp_path):
    folder, out = fill(tmp_path / "in", 6), tmp_path / "out.csv"
    cut_off(folder, out)
    with pytest.raises(BatchFailed, match="another folder of heatmaps"):
        score(folder, out, resume=True, heatmaps=tmp_path / "heat")


def test_two_runs_into_one_output_are_refused(tmp_path):
    folder, out = fill(tmp_path / "in", 4), tmp_path / "out.csv"
    with Journal(out), pytest.raises(BatchFailed, match="Another run"):
        score(folder, out)
    score(folder, out)
    assert len(rows(out)) == 4


def test_a_file_system_without_locks_is_told_as_such(tmp_path, monkeypatch):
    folder, out = fill(tmp_path / "in", 1), tmp_path / "out.csv"
    for number, sentence in (
        (errno.ENOLCK, "cannot lock files"),
        (errno.ENOSYS, "cannot lock files"),
        (errno.EAGAIN, "Another run"),
        (errno.EACCES, "Another run"),
        (errno.EIO, "cannot be written: Input/output error"),
    ):

        def refuse(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("core.locks.take", refuse)
        with pytest.raises(BatchFailed, match=sentence):
            score(folder, out)
        told = sentence.replace("Another run", "is running")
        with pytest.raises(SettingsInvalid, match=told), inbox.alone(tmp_path / "home"):
            pass


def test_a_full_disk_leaves_the_journal_whole(tmp_path, monkeypatch):
    folder, out, stand = fill(tmp_path / "in", 30), tmp_path / "out.csv", Stand()
    sync, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 5:  # two for what begins a run, and two batches
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BatchFailed, match="disk is full"):
        score(folder, out, stand, batch=5)
    monkeypatch.undo()
    lines = (folder_of(out) / "journal.jsonl").read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 10
    score(folder, out, stand, resume=True)
    score(folder, tmp_path / "whole.csv")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_an_archive_is_read_and_never_unpacked(tmp_path):
    folder = fill(tmp_path / "in", 6, 4)
    archive = tmp_path / "in.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in Folder(folder).names():
            file.write(folder / name, f"../../{name}".replace("\udce9", "e"))
        file.writestr("/etc/passwd", b"root")
        file.writestr("folder/", b"")
        for own in ("__MACOSX/._a.png", "x/Thumbs.db", "desktop.ini", "DICOMDIR", "@eaDir/a.png"):
            file.writestr(own, b"no radiograph")
    score(archive, tmp_path / "out.csv", summary=tmp_path / "s.html")
    found = rows(tmp_path / "out.csv")
    assert len(found) == 11
    assert sum(r["status"] == "ok" for r in found) == 6
    suspected = sum(r["finding"] == "suspected" for r in found)
    assert (tmp_path / "s.html").read_text(encoding="utf-8").count("data:image") == suspected > 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "in.zip", "out.csv", "s.html"]


def test_a_damaged_archive_loses_only_its_damaged_members(tmp_path):
    archive = tmp_path / "in.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for n in range(3):
            file.writestr(f"{n}.png", hostile()["text.png"] * 50)
    data = bytearray(archive.read_bytes())
    data[200] ^= 255
    archive.write_bytes(data)
    source = Archive(archive)
    with source.opened():
        kinds = []
        for name in source.names():
            try:
                kinds.append(len(source.read(name, ImageLimits())))
            except ImageRejected as error:
                kinds.append(error.reason)
    assert kinds == ["The file in the archive is damaged or encrypted.", 900, 900]
    with pytest.raises(BatchFailed, match="no folder or ZIP"):
        source_at(tmp_path / "missing")


def test_nothing_outside_of_the_roots_is_read(tmp_path):
    inside, secret = tmp_path / "inside", tmp_path / "secret.png"
    fill(inside, 2)
    secret.write_bytes((inside / "patient00000/study0_positive/image000.png").read_bytes())
    (inside / "link.png").symlink_to(secret)
    (inside / "out").symlink_to(tmp_path)
    score(inside, tmp_path / "out.csv", roots=(inside,))
    found = {Path(r["file"]).name: r for r in rows(tmp_path / "out.csv")}
    assert found["link.png"]["status"] == "rejected"
    assert found["link.png"]["sha256"] == ""
    assert len(found) == 3
    with pytest.raises(PathRefused):
        score(tmp_path, tmp_path / "out2.csv", roots=(inside,))


def test_an_address_is_read_through_fsspec(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    local = fill(tmp_path / "in", 4, 2)
    for name in Folder(local).names():
        files.pipe(f"/bucket/{name}", (local / name).read_bytes())
    score("memory://bucket", tmp_path / "out.csv")
    found = rows(tmp_path / "out.csv")
    assert [r["status"] for r in found].count("ok") == 4
    assert len(found) == 6
    assert all(r["file"].startswith("memory://") for r in found)


def placed(kind: str, folder: Path) -> tuple[str, Callable[[], object], Callable[[], object]]:
    """The same files as a source of that kind, what makes it go, and what brings it back."""
    if kind == "folder":
        away = folder.with_name("away")
        return str(folder), lambda: folder.rename(away), lambda: away.rename(folder)
    if kind == "mount":
        away = folder.with_name("away")

        def unmount() -> None:
            folder.rename(away)
            folder.mkdir()

        return str(folder), unmount, lambda: (folder.rmdir(), away.rename(folder))
    if kind == "archive":
        path = folder.with_suffix(".zip")
        with zipfile.ZipFile(path, "w") as archive:
            for name in Folder(folder).names():
                archive.write(folder / name, name)
        data = path.read_bytes()

        def lose() -> None:
            os.truncate(path, 0)  # what is open fails as it does where a file server has gone
            path.unlink()

        return str(path), lose, lambda: path.write_bytes(data)
    files = pytest.importorskip("fsspec").filesystem("memory")

    def put() -> None:
        for name in Folder(folder).names():
            files.pipe(f"/going/{name}", (folder / name).read_bytes())

    put()
    return "memory://going", lambda: files.rm("/going", recursive=True), put


@pytest.mark.parametrize("kind", ["folder", "mount", "archive", "address"])
def test_a_source_that_goes_ends_the_run_and_spoils_no_row(tmp_path, kind):
    place, leave, come_back = placed(kind, fill(tmp_path / "in", 60))
    whole, out, stand = tmp_path / "whole.csv", tmp_path / "out.csv", Stand()
    score(place, whole)
    assess = stand.assess

    def lose_it_meanwhile(canvases, part=None):
        if 0 < stand.seen <= 4:
            leave()
        return assess(canvases, part)

    stand.assess = lose_it_meanwhile
    with pytest.raises(BatchFailed, match=r"no longer be read.*--resume"):
        score(place, out, stand, batch=4)
    with Journal(out) as journal:
        journal._open()
        assert 4 <= journal.done < 60
        assert all(r["status"] == "ok" for r in journal.records())
    if kind == "mount":  # not yet back: what is found then is no archive without its files
        with pytest.raises(BatchFailed, match="no longer be read"):
            score(place, out, resume=True)
    come_back()
    score(place, out, resume=True)
    assert out.read_bytes() == whole.read_bytes()


def test_a_file_that_a_server_did_not_give_for_a_moment_is_read_again(tmp_path, monkeypatch):
    """A row is for good, and the server is there again when it is asked."""
    folder, out, asked = fill(tmp_path / "in", 8), tmp_path / "out.csv", []
    real = Folder.read

    def away(self, name, limits):
        asked.append(name)
        if name.endswith(("image003.png", "image005.png")) and asked.count(name) == 1:
            raise ImageRejected("The file could not be read from the disk.")
        return real(self, name, limits)

    monkeypatch.setattr(Folder, "read", away)
    assert score(folder, out, batch=4).rejected == 0 and len(asked) == 10
    monkeypatch.undo()
    score(folder, tmp_path / "whole.csv")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_an_archive_that_is_written_over_ends_the_run_and_spoils_no_row(tmp_path):
    folder, place, out = fill(tmp_path / "in", 30), tmp_path / "in.zip", tmp_path / "out.csv"
    names, stand = list(Folder(folder).names()), Stand()

    def pack(members: list[str]) -> bytes:
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            for name in members:
                archive.write(folder / name, name)
        return data.getvalue()

    place.write_bytes(pack(names))
    assess = stand.assess

    def meanwhile(canvases, part=None):
        if stand.seen == 0:
            place.write_bytes(pack(names[::-1]))  # the same file, as cp writes over it
        return assess(canvases, part)

    stand.assess = meanwhile
    with pytest.raises(BatchFailed, match="no longer be read"):
        score(place, out, stand, batch=1, threads=1)
    with Journal(out) as journal:
        journal._open()
        assert 0 < journal.done < 30 and all(r["status"] == "ok" for r in journal.records())
    with pytest.raises(BatchFailed, match="another list of members"):
        score(place, out, resume=True)


def test_an_archive_that_another_one_was_renamed_over_is_still_there(tmp_path):
    """What is open stays what it was; one that is written over is no longer that."""
    place, new = tmp_path / "in.zip", tmp_path / "new.zip"
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("a.png", b"x")
    source = Archive(place)
    with source.opened():
        assert source.there()
        new.write_bytes(b"of another length")
        new.replace(place)
        assert source.there()
        place.unlink()
        assert not source.there()


def test_a_folder_that_cannot_be_asked_for_is_no_file(tmp_path, monkeypatch):
    """A file system that does not tell in its listing what is a folder may fail at that."""
    fill(tmp_path / "patient", 1)

    class Entry(SimpleNamespace):
        def is_dir(self, follow_symlinks: bool = True) -> bool:
            raise OSError(errno.EIO, "Input/output error")

        is_symlink = is_dir

    monkeypatch.setattr(inputs.os, "scandir", lambda _: nullcontext([Entry(name="patient")]))
    with pytest.raises(BatchFailed, match="cannot be read"):
        list(Folder(tmp_path).names())


def test_a_link_that_cannot_be_followed_is_a_row_alone(tmp_path):
    folder = fill(tmp_path / "in", 2)
    (folder / "circle.png").symlink_to("circle.png")
    assert score(folder, tmp_path / "out.csv").rejected == 1
    [row] = [r for r in rows(tmp_path / "out.csv") if r["reason"]]
    assert row["file"].endswith("circle.png")


def test_a_source_is_asked_once_a_batch_and_only_after_failures(tmp_path, monkeypatch):
    asked = []
    there = Folder.there
    monkeypatch.setattr(Folder, "there", lambda self: asked.append(1) or there(self))
    folder = fill(tmp_path / "in", 10)
    score(folder, tmp_path / "good.csv")
    assert not asked
    for n in range(20):
        (folder / f"gone{n}.png").symlink_to(folder / "nothing")
    assert score(folder, tmp_path / "out.csv", batch=10).rejected == 20
    assert 2 <= len(asked) <= 3


def test_a_server_is_asked_again_before_a_file_is_given_up(tmp_path, monkeypatch):
    files = pytest.importorskip("fsspec").filesystem("memory")
    monkeypatch.setattr(inputs, "PAUSES", (0.0, 0.0))
    for name in Folder(fill(tmp_path / "in", 4)).names():
        files.pipe(f"/weak/{name}", (tmp_path / "in" / name).read_bytes())
    real, calls = type(files).cat_file, []

    def weak(self, path, **options):
        calls.append(path)
        if calls.count(path) < 3:
            raise ConnectionResetError
        return real(self, path, **options)

    monkeypatch.setattr(type(files), "cat_file", weak)
    assert score("memory://weak", tmp_path / "out.csv").rejected == 0
    assert len(calls) == 12

    def never(*_, **__):
        raise RuntimeError("what a service calls a connection that failed")

    monkeypatch.setattr(type(files), "cat_file", never)
    assert score("memory://weak", tmp_path / "rows.csv").rejected == 4  # the folder is there
    monkeypatch.setattr(type(files), "info", never)
    monkeypatch.setattr(type(files), "size", lambda *_: 1)
    with pytest.raises(BatchFailed, match="no longer be read"):
        score("memory://weak", tmp_path / "none.csv")


def test_an_address_without_a_folder_is_told_and_not_an_empty_table(tmp_path, monkeypatch, caplog):
    files = pytest.importorskip("fsspec").filesystem("memory")
    files.pipe("/one/a.png", b"x")
    files.makedirs("/hollow", exist_ok=True)
    for place, sentence in (
        ("memory://mistyped", "There is no folder at memory:///mistyped"),
        ("memory://one/a.png", "is a file: please name the folder"),
    ):
        with pytest.raises(BatchFailed, match=sentence):
            score(place, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    assert score("memory://hollow", tmp_path / "hollow.csv").total == 0

    class NoCredentialsError(Exception):
        pass

    def refuse(*_, **__):
        raise NoCredentialsError("Unable to locate credentials")

    monkeypatch.setattr(type(files), "find", refuse)
    with pytest.raises(BatchFailed, match=r"cannot be listed \(NoCredentialsError\)"):
        score("memory://one", tmp_path / "out.csv")
    assert "Unable to locate credentials" in caplog.text


def test_the_command_line_takes_an_address(tmp_path, weights, capsys):
    fsspec = pytest.importorskip("fsspec")
    local = fill(tmp_path / "in", 2)
    for name in Folder(local).names():
        fsspec.filesystem("memory").pipe(f"/clinic/{name}", (local / name).read_bytes())
    command = ["--weights", str(weights), "batch", "memory://clinic", "--engine", "torch"]
    assert main([*command, "--out", str(tmp_path / "out.csv")]) == 0, capsys.readouterr().err
    assert [r["status"] for r in rows(tmp_path / "out.csv")] == ["ok", "ok"]


def test_special_files_are_rows_with_a_reason(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "dangling.png").symlink_to(folder / "nothing")
    (folder / "__MACOSX").mkdir()
    for own in (".hidden.png", "__MACOSX/a.png", "Thumbs.db", "DICOMDIR"):
        (folder / own).write_bytes(b"x")
    score(folder, tmp_path / "out.csv")
    assert [r["reason"] for r in rows(tmp_path / "out.csv")] == [
        "The file does not exist.",
        "This is not an ordinary file, so there is no picture to read.",
    ]


def test_heatmaps_and_summary(tmp_path):
    folder = fill(tmp_path / "in", 10, 3)
    (folder / "<b>&.png").write_bytes(b"no picture")
    score(folder, tmp_path / "o.csv", heatmaps=tmp_path / "maps", summary=tmp_path / "s.html")
    found = rows(tmp_path / "o.csv")
    names = {f"{r['sha256'][:16]}.png" for r in found if r["status"] == "ok"}
    assert {p.name for p in (tmp_path / "maps").iterdir()} == names
    page = (tmp_path / "s.html").read_text(encoding="utf-8")
    suspected = sum(r["finding"] == "suspected" for r in found)
    assert page.count("data:image/jpeg;base64") == suspected > 0
    assert "14 files" in page and "Not assessed (4)" in page
    assert "<b>&" not in page and "http" not in page


def test_what_a_file_warns_of_stands_in_table_and_summary(tmp_path):
    score(fill(tmp_path / "in", 1, 0), tmp_path / "o.jsonl")
    [record] = map(json.loads, (tmp_path / "o.jsonl").read_text().splitlines())
    said = ("Raw <data>.", "Of a file with 3 frames 1 was assessed.")
    record["origin"] = Origin(frames=3, cautions=said[:1]).to_json()
    assert tables.image_row(record)["cautions"] == " ".join(said)
    assert tables.result_of(record).to_row()["cautions"] == " ".join(said)
    part = {"label": "hand", "probability": 0.6, "probabilities": {"hand": 0.6}}
    fracture = {"probability": 0.9, "finding": "suspected"}
    whole = record | {"reason": None, "body_part": part, "fracture": fracture}
    unsure = "Please check the body part: the program is not sure that this is the hand (60 %)."
    figure = summary._figure(0.9, whole | {"photograph": {"corners": None}}, Stand().release, "")
    assert figure.endswith(
        f"<br>Raw &lt;data&gt;.<br>{said[1]}<br>This looks like a photograph, and was assessed "
        f"as taken.<br>{unsure}</figcaption></figure>"
    )
    release = Registry.open(ROOT / "weights").find("champion")
    [point] = [p for p in release.stages["hand"].operating_points if p.name == "specific"]
    near = whole | {"fracture": {"probability": point.threshold + 4e-5, "finding": "suspected"}}
    share = percent(point.threshold + 4e-5, [point.threshold])
    by = near | {"release_sha256": release.sha256}
    assert f"Suspected, {share}<" in summary._figure(point.threshold + 4e-5, by, release, "")
    share = percent(point.threshold + 4e-5)  # of the stand nobody knows the thresholds
    assert f"Suspected, {share}<" in summary._figure(point.threshold + 4e-5, near, release, "")
    del record["origin"]  # of an older version
    assert tables.image_row(record)["cautions"] is None


def test_a_small_picture_shows_what_was_assessed():
    pixels = np.zeros((80, 160), np.uint8)
    pixels[20:60, 80:] = phantom(40, 80)
    colours = np.dstack([pixels, pixels, pixels // 2])  # a photograph, by its cast
    data = encoded(colours, "PNG")
    cut = [[0.5, 0.25], [1.0, 0.25], [1.0, 0.75], [0.5, 0.75]]
    sizes = []
    for photograph in (None, {"corners": None}, {"corners": cut}):
        record = {"file": "a.png", "sha256": imaging.sha256(data), "reason": None}
        record |= {"release": "r", "release_sha256": "0" * 64, "milliseconds": 1.0}
        record |= {"body_part": None, "fracture": None, "photograph": photograph}
        small = summary.thumbnail(data, record, 120, ImageLimits())
        sizes.append(imaging.decode(small, "small.jpg", ImageLimits()).pixels.shape)
    assert sizes == [(60, 120), (60, 120), (40, 80)]


def test_an_unexpected_error_in_one_file_is_its_row_alone(tmp_path, monkeypatch, caplog):
    from core import imaging

    real = imaging.decode

    def decode(data: bytes, name: str, limits: ImageLimits, digest: str):
        if name.endswith("image003.png"):
            raise RuntimeError("a bug")
        return real(data, name, limits, digest=digest)

    monkeypatch.setattr(imaging, "decode", decode)
    score(fill(tmp_path / "in", 8), tmp_path / "out.csv")
    found = rows(tmp_path / "out.csv")
    assert [r["status"] for r in found].count("rejected") == 1
    assert "the log says why" in next(r["reason"] for r in found if r["reason"])
    assert "a bug" in caplog.text


def test_progress_is_lines_of_json_unless_there_is_a_terminal(tmp_path):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    folder = fill(tmp_path / "in", 5)
    for stream in (io.StringIO(), Terminal()):
        order = Order(folder, tmp_path / f"{stream.isatty()}.csv")
        run(order, scorer(Stand()), threading.Event(), stream)
        if stream.isatty():
            assert "[##############################] 5/5" in stream.getvalue()
        else:
            facts = [json.loads(line) for line in stream.getvalue().splitlines()]
            assert facts[-1]["done"] == facts[-1]["total"] == 5
            assert facts[-1]["seconds_left"] == 0


def test_queues_keep_the_order_and_are_bounded():
    from concurrent.futures import ThreadPoolExecutor

    drawn, running = [], []

    def numbers():
        for n in range(100):
            drawn.append(n)
            yield n

    def slow(n: int) -> int:
        running.append(n)
        time.sleep(0.001 * (n % 3))
        return n * n

    with ThreadPoolExecutor(4) as pool:
        taken = ahead(pool, slow, numbers(), 6)
        assert next(taken) == 0
        assert len(drawn) <= 6
        assert [*taken] == [n * n for n in range(1, 100)]
    drawn.clear()
    queue = prefetched(numbers(), 3)
    assert next(queue) == 0
    time.sleep(0.05)
    assert len(drawn) <= 5
    queue.close()
    assert [t.name for t in threading.enumerate() if t.name == "prefetch"] == []
    assert [*chunks(range(5), 2)] == [[0, 1], [2, 3], [4]]

    def broken():
        yield 1
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        [*prefetched(broken(), 2)]


def test_batch_sizes_agree(cascade, tmp_path):
    folder, found = fill(tmp_path / "in", 9, 2), {}
    for size in (1, 7, 32):
        score(folder, tmp_path / f"{size}.csv", cascade, batch=size)
        found[size] = rows(tmp_path / f"{size}.csv")
    for size in (7, 32):
        for one, other in zip(found[1], found[size], strict=True):
            assert (one["file"], one["finding"]) == (other["file"], other["finding"])
            for name in ("body_part_probability", "fracture_probability"):
                assert float(one[name] or 0) == pytest.approx(float(other[name] or 0), abs=1e-3)


def test_the_command_line_says_what_it_did(weights, tmp_path, capsys):
    folder, out = fill(tmp_path / "in", 2, 2), tmp_path / "out.csv"
    command = ["--weights", str(weights), "batch", str(folder), "--out", str(out)]
    assert main([*command, "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith("4 files, ")
    assert len(rows(out)) == 4
    assert main([*command, "--device", "cpu", "--resume"]) == 0
    assert "already complete" in capsys.readouterr().out


def test_wrong_usage_and_failures(weights, tmp_path, capsys):
    assert main(["batch", str(tmp_path)]) == 2
    assert "usage" in capsys.readouterr().err
    for words, sentence in (
        ([str(tmp_path / "none"), "--out", str(tmp_path / "o.csv")], "no folder"),
        ([str(tmp_path), "--out", str(tmp_path / "o.xlsx")], "must end in"),
    ):
        assert main(["--weights", str(weights), "batch", *words]) == 1
        line, error = capsys.readouterr().err.splitlines()
        assert json.loads(line) == {"ended": "failed", "sentence": error.removeprefix("error: ")}
        assert sentence in error


def test_a_run_that_did_not_reach_its_end_says_so_by_a_code(tmp_path, monkeypatch, capsys):
    """Of which no one is the beginning of a sentence."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stopped = Outcome(1, 3, 0, stopped=True)
    monkeypatch.setattr("core.commands.batch._outcome", lambda *_: stopped)
    command = ["batch", str(tmp_path), "--out", str(tmp_path / "o.csv")]
    assert main(command) == 1
    assert Ending.of(capsys.readouterr().err) == Ending(Code.STOPPED)
    for error, code, sentence in (
        (BegunOtherwise("Another release.", "Remove it."), Code.OTHERWISE, "Another release."),
        (EngineUnavailable("No engine."), Code.ENGINE, "No engine."),
        (
            OSError(28, "No space", "o.csv"),
            Code.FAILED,
            "o.csv cannot be read or written (No space).",
        ),
    ):

        def fail(*_: object, error: Exception = error) -> Outcome:
            raise error

        monkeypatch.setattr("core.commands.batch._outcome", fail)
        assert main(command) == 1
        assert Ending.of(capsys.readouterr().err.splitlines()[0]) == Ending(code, sentence)
        terminal = Terminal()
        Ending.by(error).tell(terminal)
        assert terminal.getvalue() == ""
    for line in ("", "Stopped", '{"ended": "stop', '{"ended": "odd"}', '{"done": 1}', "[1]"):
        assert Ending.of(line) is None


ADDRESS = "http://user:s3cret@host.example/x?token=s3cret"


def test_a_password_is_neither_kept_nor_printed(tmp_path: Path, monkeypatch) -> None:
    """Nor is another one another source."""
    local = fill(tmp_path / "in", 5)
    listed: list[str] = []

    class Served(Folder):
        def names(self):
            listed.append("")
            return super().names()

    monkeypatch.setattr("core.batch.run.source_at", lambda *_: Served(local))
    out = tmp_path / "out.csv"
    cut_off(ADDRESS, out)
    kept = (folder_of(out) / "run.json").read_text()
    assert "s3cret" not in kept and '"http://host.example/x"' in kept
    again = ADDRESS.replace("s3cret", "n3w")
    assert score(again, out, resume=True).done == 5 and len(listed) == 1
    with pytest.raises(BatchFailed, match=r"http://other\.example/x"):
        cut_off(ADDRESS, tmp_path / "b.csv")
        score(ADDRESS.replace("host.", "other."), tmp_path / "b.csv", resume=True)


def test_a_run_begun_before_passwords_were_left_out_goes_on_without_them(
    tmp_path: Path, monkeypatch
) -> None:
    local, out = fill(tmp_path / "in", 5), tmp_path / "out.csv"
    monkeypatch.setattr("core.batch.run.source_at", lambda *_: Folder(local))
    cut_off(ADDRESS, out)
    note = folder_of(out) / "run.json"
    began = json.loads(note.read_text())
    note.write_text(json.dumps(began | {"source": ADDRESS}))  # as an older version wrote it
    with pytest.raises(BatchFailed, match=r"http://other\.example/x") as said:
        score(ADDRESS.replace("host.", "other."), out, resume=True)
    assert "s3cret" not in str(said.value) and json.loads(note.read_text()) == began
    note.write_text(json.dumps(began | {"source": ADDRESS}))
    assert score(ADDRESS, out, resume=True).done == 5


@pytest.mark.parametrize("address", [ADDRESS, "nonsense://user:s3cret@host/x?key=s3cret"])
def test_no_sentence_about_an_address_has_its_password(address: str, monkeypatch) -> None:
    core = pytest.importorskip("fsspec.core")

    def refused(_: str) -> None:
        raise ValueError(f"Protocol not known: {address}")

    class Empty:
        def find(self, _):
            return []

        def isdir(self, _):
            return False

    with monkeypatch.context() as unknown, pytest.raises(BatchFailed) as said:
        unknown.setattr(core, "url_to_fs", refused)
        source_at(address)
    assert "s3cret" not in str(said.value) and "://host" in str(said.value)
    monkeypatch.setattr(core, "url_to_fs", lambda given: (Empty(), given))
    remote = source_at(address)
    with pytest.raises(BatchFailed) as said:
        list(remote.names())
    assert "s3cret" not in str(said.value) + remote.label("a.png")
