"""What may be read from the disk on somebody's word: the allowed folders and nothing else."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from core.errors import CascadeError, PathRefused
from core.roots import OUTSIDE, resolve


@pytest.fixture
def disk(tmp_path):
    """allowed/ with a file and a folder, secret/ beside it."""
    (tmp_path / "allowed" / "below").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "allowed" / "below" / "a.png").write_bytes(b"a")
    (tmp_path / "secret" / "b.png").write_bytes(b"b")
    return tmp_path.resolve()


def refused(path, *roots) -> str:
    with pytest.raises(PathRefused) as error:
        resolve(path, roots)
    assert isinstance(error.value, CascadeError)
    return str(error.value)


def test_files_and_folders_inside_are_allowed(disk):
    roots = (disk / "allowed",)
    inside = disk / "allowed" / "below"
    assert resolve(inside / "a.png", roots) == inside / "a.png"
    assert resolve(str(inside), roots) == inside
    assert resolve(disk / "allowed", roots) == disk / "allowed"
    assert resolve(inside / ".." / "below" / "a.png", roots) == inside / "a.png"


def test_what_is_outside_and_what_is_missing_get_the_same_sentence(disk):
    allowed = disk / "allowed"
    for path in (
        disk / "secret" / "b.png",
        allowed / ".." / "secret" / "b.png",
        allowed / "missing.png",
        disk / "secret" / "missing.png",
        disk / "allowed-too",
        disk,
        Path("/etc/passwd"),
        f"{allowed}/below/a.png\0.txt",
        f"{allowed}/{'x' * 5000}",
        f"{allowed}/below/a.png/further",
        f"{allowed}/\ud800",
    ):
        assert refused(path, allowed) == OUTSIDE


ODD = (
    "/allowed/../secret/b.png",
    "/allowed/below/../../secret/b.png",
    "/allowed/./.././secret/b.png",
    "//secret//b.png",
    "/allowed/%2e%2e/secret/b.png",
    "/allowed/..%2fsecret%2fb.png",
    "/allowed/\uff0e\uff0e/secret/b.png",
    "/allowed/..\\secret\\b.png",
    "/allowed/below/a.png/../../../secret/b.png",
    "/allowed/\n/../../secret/b.png",
    "/allowed/ ../secret/b.png",
    "/allowed/*/../../secret/b.png",
)
ELSEWHERE = (
    "/proc/self/environ",
    "/proc/self/root/etc/passwd",
    "/proc/self/fd/0",
    "/dev/stdin",
    "//etc/passwd",
)
NO_PATH = ("file:///etc/passwd", "~root/.ssh", "$HOME", "\\\\host\\share", "s3://bucket/a.png")


@pytest.mark.parametrize("path", [*ODD, *ELSEWHERE, *NO_PATH])
def test_what_is_written_oddly_leads_nowhere_else(disk, path):
    whole = f"{disk}{path}" if path in ODD else path
    said = refused(whole, disk / "allowed")
    assert said == OUTSIDE or (path in NO_PATH and "whole path" in said)


def test_a_folder_whose_name_begins_like_a_root_is_outside(disk):
    (disk / "allowed-too").mkdir()
    assert refused(disk / "allowed-too", disk / "allowed") == OUTSIDE


def test_links_count_where_they_lead(disk):
    allowed = disk / "allowed"
    (allowed / "out").symlink_to(disk / "secret")
    (allowed / "file").symlink_to(disk / "secret" / "b.png")
    (allowed / "loop").symlink_to(allowed / "loop")
    (disk / "in").symlink_to(allowed)
    for path in (allowed / "out", allowed / "out" / "b.png", allowed / "file", allowed / "loop"):
        assert refused(path, allowed) == OUTSIDE
    assert resolve(disk / "in" / "below", (allowed,)) == allowed / "below"
    assert resolve(allowed / "below", (disk / "in",)) == allowed / "below"


def test_devices_pipes_and_sockets_are_refused(disk, monkeypatch):
    allowed = disk / "allowed"
    os.mkfifo(allowed / "pipe")
    assert "neither a file nor a folder" in refused(allowed / "pipe", allowed)
    assert "neither a file nor a folder" in refused("/dev/null", Path("/dev"))
    monkeypatch.chdir(allowed)  # the name of a socket may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert "neither a file nor a folder" in refused(allowed / "socket", allowed)


def test_relative_paths_are_refused_and_no_roots_allow_nothing(disk, monkeypatch):
    monkeypatch.chdir(disk / "allowed")
    assert "whole path" in refused("below/a.png", disk / "allowed")
    assert "whole path" in refused("", disk / "allowed")
    assert refused(disk / "allowed" / "below") == OUTSIDE
    assert refused(disk / "allowed" / "below", disk / "missing") == OUTSIDE
