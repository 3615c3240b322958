"""Writes that a crash cut short."""

from __future__ import annotations

import json

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
