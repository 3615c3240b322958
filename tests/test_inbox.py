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
from core.pacs.inbox import MAX_ATTEMPTS, Arrived, Inbox
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


def names(inbox: Inbox) -> dict[str, list[str]]:
    """What waits, in its order: by study the objects."""
    return {s.key: sorted(n.partition("_")[2] for n in s.names) for s in inbox.due(0)}


def came(inbox: Inbox, folder: Path, when: int, *objects: str) -> None:
    """These objects of this study come in a certain second."""
    for name in objects:
        inbox.put(folder.name, f"{name}.dcm", f"{name} of {folder.name}".encode(), instead=True)
        for path in folder.glob(f"*{name}.dcm"):
            os.utime(path, (1e9 + when,) * 2)


def done(inbox: Inbox, study: Arrived) -> None:
    """All of it could be read."""
    inbox.done(study, [name for name, _ in study.contents()])


def test_an_object_is_of_the_study_that_it_came_with_last(tmp_path: Path) -> None:
    """Its Study Instance UID was corrected; what is left of the other study is assessed again."""
    wrong, right, moved, stays = "1.2.840.99.2", "1.2.840.99.1", "1.2.840.7.1.1", "1.2.840.7.1.2"
    inbox = Inbox(tmp_path)
    came(inbox, tmp_path / wrong, 1, moved, stays)
    came(inbox, tmp_path / right, 2, moved)
    assert list(names(inbox)) == [wrong, right]  # the correction last, whatever it is called
    for study in inbox.due(0):
        done(inbox, study)
    assert names(inbox) == {wrong: [f"{stays}.dcm"]}
    [rest] = inbox.due(0)
    done(inbox, rest)
    came(inbox, tmp_path / wrong, 3, moved)  # taken back
    inbox = Inbox(tmp_path)
    [again] = inbox.due(0)
    assert len(again.names) == 2
    done(inbox, again)
    assert not names(inbox) and not list((tmp_path / right).glob("*.dcm"))


def test_no_study_is_scored_with_what_another_one_was_scored_with_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late view of the wrong study: it is assessed after the correction, and without it."""
    wrong, right, moved, late = "1.2.840.99.2", "1.2.840.99.1", "1.2.840.7.1.1", "1.2.840.7.1.2"
    inbox = Inbox(tmp_path)
    came(inbox, tmp_path / wrong, 1, moved)
    came(inbox, tmp_path / right, 2, moved)
    came(inbox, tmp_path / wrong, 3, late)
    first = next(inbox.due(0))
    assert first.key == right

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(inbox_module, "write_json", killed)
        done(inbox, first)
    inbox, scored = Inbox(tmp_path), []
    for study in inbox.due(0):
        scored.append((study.key, [name for name, _ in study.contents()]))
        done(inbox, study)
    assert scored == [(right, [f"{moved}.dcm"]), (wrong, [f"{late}.dcm"])]
    assert not names(inbox)


def test_what_is_taken_back_before_the_correction_was_scored(tmp_path: Path) -> None:
    wrong, right, moved = "1.2.840.99.2", "1.2.840.99.1", "1.2.840.7.1.1"
    inbox = Inbox(tmp_path)
    came(inbox, tmp_path / wrong, 1, moved)
    [study] = inbox.due(0)
    done(inbox, study)
    came(inbox, tmp_path / right, 2, moved)
    came(inbox, tmp_path / wrong, 3, moved)  # to the byte as it was
    keys = []
    for study in inbox.due(0):
        keys.append(study.key)
        done(inbox, study)
    assert keys == [right, wrong] and not names(inbox)
    assert not list((tmp_path / right).glob("*.dcm"))


def test_what_could_not_be_read_takes_nothing_out_of_another_study(tmp_path: Path) -> None:
    wrong, right, moved = "1.2.840.99.2", "1.2.840.99.1", "1.2.840.7.1.1"
    inbox = Inbox(tmp_path)
    came(inbox, tmp_path / wrong, 1, moved)
    came(inbox, tmp_path / right, 2, moved)
    first, second = inbox.due(0)
    inbox.done(second, ())
    assert names(inbox) == {wrong: [f"{moved}.dcm"]} and first.contents()


def test_a_study_that_cannot_be_removed_keeps_no_listener_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inbox, object_ = Inbox(tmp_path, keep=-1), "1.2.840.7.1.1"

    def refuses(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(inbox_module.shutil, "rmtree", refuses)
    for when in (1, 2):
        came(inbox, tmp_path / "1.2.840.99.12345678", when, object_)
        [study] = inbox.due(0)
        done(inbox, study)
        inbox.forget_old()
    assert len(list(tmp_path.iterdir())) == 2 and not list(Inbox(tmp_path).due(0))
    assert caplog.text.count("cannot be removed: PermissionError") == 1 + 2 + 2
    came(inbox, tmp_path / "1.2.840.99.2", 3, object_)
    [study] = inbox.due(0)
    done(inbox, study)  # what is being removed is no study that could lose it
    assert len(list(tmp_path.glob(".gone-*/*.dcm"))) == 2


def test_a_kill_while_an_old_study_is_removed_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox(tmp_path, keep=0)
    for n in "12":
        inbox.put("1.2.3", f"{n}.dcm", n.encode())
    [study] = inbox.due(0)
    inbox.done(study)
    os.utime(study.folder / "scored.json", (1e9, 1e9))

    def killed(folder: Path) -> None:
        for name in ("scored.json", study.names[0]):
            (folder / name).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(inbox_module.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            inbox.forget_old()
    assert not list(inbox.due(0)) and Inbox.counts(tmp_path) == (0, 0)
    assert not list(Inbox(tmp_path).due(0)) and not list(tmp_path.iterdir())
