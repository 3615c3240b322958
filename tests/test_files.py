"""Writes that a crash cut short."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from core import files


def test_an_event_after_a_cut_line_has_its_own_line(tmp_path):
    path = tmp_path / "events.jsonl"
    files.append_event(path, {"seen": 1})
    with path.open("a") as file:
        file.write('{"seen": 2, "lo')
    files.append_event(path, {"seen": 3})
    files.append_event(path, {"seen": 4})
    lines = path.read_text().splitlines()
    assert [json.loads(lines[i])["seen"] for i in (0, 2, 3)] == [1, 3, 4]


def test_an_event_is_appended_without_reading_all_before_it(tmp_path):
    path = tmp_path / "events.jsonl"
    before = 2**40  # bytes, none of them on the disk
    with path.open("wb") as file:
        file.truncate(before)
    files.append_event(path, {"seen": 1})
    with path.open("rb") as file:
        file.seek(before)
        assert file.read() == b'\n{"seen": 1}\n'


def test_what_a_killed_write_left_is_removed_and_nothing_else(tmp_path):
    def killed(path):
        path.write_text("half")
        (tmp_path / f"{path.name[:-8]}12345678").write_text("half")  # another one's, never renamed
        raise KeyboardInterrupt

    (tmp_path / "checkpoint.pt").write_text("whole")
    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(tmp_path / "checkpoint.pt", killed)
    assert len(list(tmp_path.iterdir())) == 2
    files.remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert (tmp_path / "checkpoint.pt").read_text() == "whole"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_folder_is_taken_from_others_and_never_given_back_to_anybody(tmp_path):
    files.make_private(tmp_path / "new" / "home")
    assert mode(tmp_path / "new" / "home") == 0o700
    for before, after in ((0o755, 0o700), (0o2775, 0o700), (0o555, 0o500), (0o1777, 0o1777)):
        (tmp_path / "old").mkdir(exist_ok=True)
        (tmp_path / "old").chmod(before)
        files.make_private(tmp_path / "old")
        assert mode(tmp_path / "old") == after
    (tmp_path / "old").chmod(0o700)


def test_a_private_file_is_its_owners(tmp_path):
    files.write_atomically(tmp_path / "a", lambda p: p.write_text("x"), private=True)
    files.write_atomically(tmp_path / "b", lambda p: p.write_text("x"))
    assert mode(tmp_path / "a") == 0o600 and mode(tmp_path / "b") & 0o400


def test_a_file_system_without_modes_is_written_to(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    files.write_json(tmp_path / "a.json", [1])
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
