"""The inbox and what brings files to it: long names, files that go meanwhile, many studies."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.errors import NotStorable
from core.pacs import inbox as inbox_module
from core.pacs import service
from core.pacs.folder import WatchedFolder
from core.pacs.inbox import MAX_ATTEMPTS, Inbox
from core.settings import ImageLimits
from tests.simulated import encoded, phantom

LIMITS = ImageLimits()
LONG = "患" * 75 + ".png"  # 229 bytes, of the 255 that a name may have


def test_a_long_name_of_letters_of_several_bytes_is_kept(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    for name in (LONG, "患" * 83 + ".pn", "x" + LONG):
        inbox.put("1.2.3", name, name.encode(), instead=True)
    [study] = inbox.due(0)
    assert sorted(data.decode() for _, data in study.contents()) == sorted(
        (LONG, "患" * 83 + ".pn", "x" + LONG)
    )
    assert all(len(os.fsencode(name)) < 128 for name in study.names)
    inbox.put("1.2.3", LONG, b"corrected", instead=True)
    assert len(next(iter(inbox.due(0))).names) == 3


def test_a_file_that_the_inbox_cannot_keep_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    for n, name in enumerate(("a.png", "b.png")):
        (watched / name).write_bytes(encoded(phantom(seed=n), "PNG"))
    inbox = Inbox(tmp_path / "inbox")
    put = inbox.put

    def refuses(key: str, name: str, data: bytes, instead: bool = False) -> None:
        if name == "a.png":
            raise OSError(36, "File name too long", "Jane_Doe.png")
        put(key, name, data, instead)

    folder = WatchedFolder(watched, tmp_path / "taken.jsonl", LIMITS)
    with monkeypatch.context() as full:
        full.setattr(inbox, "put", refuses)
        assert [folder.poll(inbox) for _ in range(4)] == [0, 1, 0, 0]
    assert [study.key for study in inbox.due(0)] == ["b.png"]
    assert caplog.text.count("cannot be kept") == 1 and "Doe" not in caplog.text
    assert folder.poll(inbox) == 1 and len(list(inbox.due(0))) == 2  # once there is room


def test_a_poll_that_fails_holds_up_no_study(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(service, "TROUBLE", 0.001)
    inbox, stop, scored, polled, failed = Inbox(tmp_path), threading.Event(), [], [], []
    name = "_".join(("Jane", "Doe"))  # what a message quotes
    inbox.put("1.2.3", "a.dcm", b"a")

    def fails() -> None:
        failed.append(1)
        if len(failed) == 3:  # else this would never end where a poll holds up what comes after it
            stop.set()
        raise OSError(5, "Input/output error", name)

    def other() -> None:
        polled.append(1)
        if len(polled) == 2:
            stop.set()

    scorer = SimpleNamespace(score=lambda study: scored.append(study.key))
    service.work(inbox, scorer, 0, stop, [fails, other])  # type: ignore[arg-type]
    assert scored == ["1.2.3"] and len(polled) == 2
    assert "OSError" in caplog.text and name not in caplog.text


def test_what_the_database_never_takes_is_an_attempt(tmp_path: Path) -> None:
    class Refused:
        def score(self, study: object) -> None:
            raise NotStorable("The database refuses it.")

    inbox = Inbox(tmp_path)
    inbox.put("1.2.3", "a.dcm", b"a")
    for _ in range(MAX_ATTEMPTS):
        [study] = inbox.due(0)
        assert service.score_one(inbox, Refused(), study)  # type: ignore[arg-type]
    assert not list(inbox.due(0)) and Inbox.counts(tmp_path) == (0, 1)


def test_a_study_that_is_done_is_not_read_again_until_something_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    state = inbox_module._state

    def counted(folder: Path, damaged: set[Path]) -> object:
        read.append(folder.name)
        return state(folder, damaged)

    inbox = Inbox(tmp_path)
    for key in ("1.1", "1.2"):
        inbox.put(key, "a.dcm", b"a")
    for study in inbox.due(0):
        inbox.done(study)
    monkeypatch.setattr(inbox_module, "_state", counted)
    for _ in range(2):  # what is written now may leave the time of the folder as it is
        assert not list(inbox.due(0))
    assert read == ["1.1", "1.2"] * 2
    for folder in tmp_path.iterdir():
        os.utime(folder, (1e9, 1e9))
    for _ in range(3):
        assert not list(inbox.due(0))
    assert read == ["1.1", "1.2"] * 3
    inbox.put("1.2", "a.dcm", b"a corrected", instead=True)
    assert [study.key for study in inbox.due(0)] == ["1.2"]
    (tmp_path / "1.1" / "scored.json").unlink()  # by hand, after a backup came back
    assert [study.key for study in inbox.due(0)] == ["1.1", "1.2"]


def test_a_file_that_is_replaced_while_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox(tmp_path)
    inbox.put("1.2.3", "1.5.dcm", b"a")
    stat, replaced = Path.stat, []

    def meanwhile(path: Path, **how: bool) -> os.stat_result:
        if path.name.endswith("_1.5.dcm") and not replaced:
            replaced.append(path)
            inbox.put("1.2.3", "1.5.dcm", b"a corrected", instead=True)
        return stat(path, **how)

    for look in (lambda: len(list(inbox.due(0))), lambda: Inbox.counts(tmp_path)[0]):
        replaced.clear()
        inbox.put("1.2.3", "1.5.dcm", b"a", instead=True)
        with monkeypatch.context() as raced:
            raced.setattr(Path, "stat", meanwhile)
            assert look() == 1
        assert replaced


def test_a_folder_that_somebody_removes_is_none(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    inbox.put("1.2.3", "a.dcm", b"a")
    (tmp_path / "1.2.4").mkdir()
    (tmp_path / "1.2.4" / "0_a.dcm").symlink_to(tmp_path / "gone")  # of no file
    (tmp_path / "1.2.4" / "study.json").write_text(json.dumps("1.2.4"))
    assert [study.key for study in inbox.due(0)] == ["1.2.3"]
