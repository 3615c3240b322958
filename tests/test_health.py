"""python -m core health, the log, and what a crash left."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from core import health, logs
from core.__main__ import main
from core.files import remove_old_leftovers
from core.pacs.inbox import Inbox
from core.pacs.outbox import Outbox
from core.settings import Settings
from core.store import Store
from core.store.database import FILE


def told(weights: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    code = main(["--weights", str(weights), "health"])
    return code, json.loads(capsys.readouterr().out)


def test_well(weights: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store.open(Settings(home=home)).close()
    code, said = told(weights, capsys)
    assert code == 0 and said["ok"] is True
    assert said["release"] == {"ok": True, "detail": "random"}
    assert said["store"] == {"ok": True, "detail": "SQLite"}
    assert "GB free" in said["disk"]["detail"]


def test_a_look_removes_nothing(
    weights: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each minute it would go through all pictures of the worklist."""
    monkeypatch.setenv("BONE_RETENTION_DAYS", "30")
    Store.open(Settings(home=home)).close()
    purged: list[Store] = []
    monkeypatch.setattr(Store, "purge", purged.append)
    assert told(weights, capsys)[0] == 0 and main(["audit", "--verify"]) == 0
    assert not purged


def test_a_look_migrates_nothing_and_the_unit_starts_all_the_same(
    weights: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What brings the tables up begins after this look."""
    home.mkdir()
    with sqlite3.connect(home / FILE) as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        database.execute("INSERT INTO alembic_version VALUES ('0001')")
    database.close()
    code, said = told(weights, capsys)
    assert code == 0 and "are not of this version yet" in said["store"]["detail"]
    assert main(["audit"]) == 1 and "are not of this version yet" in capsys.readouterr().err
    with sqlite3.connect(home / FILE) as database:
        assert database.execute("SELECT * FROM alembic_version").fetchall() == [("0001",)]
    database.close()


def test_a_home_that_is_not_used_is_named_and_stays_empty(
    weights: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # the first look leaves nothing that would be taken for a store
        code, said = told(weights, capsys)
        assert code == 0 and said["home"] == str(home)
        assert said["store"]["detail"].startswith("none yet")
        assert "not there yet" in said["disk"]["detail"] and not home.exists()
    assert main(["audit", "--verify"]) == 1 and not home.exists()
    assert f"There is no worklist in {home}" in capsys.readouterr().err
    home.mkdir()
    assert "none yet" in told(weights, capsys)[1]["store"]["detail"] and not [*home.iterdir()]


def test_each_ill_part_is_named(
    weights: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Path(shutil.copytree(weights, tmp_path / "broken"))
    (broken / "random" / "trunk.safetensors").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(health, "LEAST_FREE", 2**70)
    found = health.examine(
        Settings(weights=broken, home=tmp_path / "file" / "home", device="cuda-of-the-moon")
    )
    assert [f.name for f in found] == ["release", "store", "disk", "device", "pacs"]
    assert not any(f.ok for f in found[:4]) and found[4].detail == "not used"
    assert "trunk.safetensors" in found[0].detail
    full = health.examine(Settings(weights=weights, home=home, device="cpu"))
    assert [f.ok for f in full] == [True, True, False, True, True] and "free" in full[2].detail


def test_what_cannot_be_looked_at_is_told(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    def odd(_: Settings) -> str:
        raise ValueError("Expecting value: line 1")

    monkeypatch.setitem(health.CHECKS, "device", odd)
    found = {f.name: f for f in health.examine(Settings(weights=weights, home=tmp_path))}
    assert not found["device"].ok and "(ValueError)" in found["device"].detail
    assert found["pacs"].ok and "Could not look at device" in caplog.text


def test_what_waits_is_told_by_destination(weights: Path, home: Path, tmp_path: Path) -> None:
    settings = Settings(weights=weights, home=tmp_path, device="cpu")
    Inbox(tmp_path / "pacs" / "inbox")
    outbox = Outbox(tmp_path / "pacs" / "outbox")
    assert "; 0 objects wait to be sent, 0 could" in health.examine(settings)[4].detail
    for to, uid in (("OLD@10.0.0.9:104", "1"), ("PACS@h:104", "2"), ("PACS@h:104", "3")):
        outbox.put(to, uid, b"object")
    said = health.examine(settings)[4].detail
    assert "3 objects wait to be sent (1 to OLD@10.0.0.9:104, 2 to PACS@h:104)" in said
    (tmp_path / "pacs" / "outbox" / "x.json").write_text("cut")
    assert "1 to a destination that cannot be read" in health.examine(settings)[4].detail


@pytest.fixture
def log(tmp_path: Path) -> object:
    before = {n: logging.getLogger(n).level for n in ("core", "pages", "training")}
    handler = logs.start(tmp_path)
    yield tmp_path / "logs" / logs.FILE
    logs.stop()
    assert handler not in logging.getLogger().handlers
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_a_line_is_json_with_its_ids(log: Path) -> None:
    logs.request.set("r1")
    try:
        raise ValueError("deep down\nin two lines")
    except ValueError:
        logging.getLogger("pages.x").exception("Unexpected error %s", "e1", extra={"error": "e1"})
    logging.getLogger("core.y").info("Refused %s", "abc")
    logging.getLogger("somebody").info("chatter")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["message"] for line in lines] == ["Unexpected error e1", "Refused abc"]
    assert lines[0]["error"] == "e1" and lines[0]["request"] == "r1"
    assert "deep down" in lines[0]["trace"] and "trace" not in lines[1]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.parent.stat().st_mode) == 0o700  # BONE_HOME


def test_the_log_is_rotated(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_BYTES", 2000)
    logs.start(log.parent.parent)
    for number in range(100):
        logging.getLogger("core").info("line %d", number)
    files = sorted(log.parent.iterdir())
    assert len(files) == 1 + logs.FILES_KEPT
    assert all(f.stat().st_size < 2200 for f in files)


def test_what_a_crash_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    old, new = tmp_path / "a" / ".x.png.abcdefgh", tmp_path / ".y.json.abcdefgh"
    kept = [tmp_path / "z.json", tmp_path / ".hidden", new]
    old.parent.mkdir()
    for path in (old, *kept):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    assert remove_old_leftovers(tmp_path) == 1
    assert not old.exists() and all(p.exists() for p in kept)
