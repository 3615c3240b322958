"""``python -m core listen``: which release it uses, and how."""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.uid import DigitalXRayImageStorageForPresentation

from core.__main__ import main as command
from core.batch.kept import all_batches
from core.cascade import Cascade
from core.commands import listen
from core.engines import choice
from core.errors import DeviceUnavailable, EngineUnavailable
from core.pacs import listener, polls, service
from core.pacs.inbox import Inbox
from core.pacs.listener import Door
from core.pacs.outbox import Outbox
from core.registry import Registry
from core.settings import Settings
from core.store import Store
from core.study import is_uid
from core.types import Mode


def counted(monkeypatch: pytest.MonkeyPatch, cascade: object) -> list[int]:
    """How often the listener loads: this, or it gets the error."""
    loaded: list[int] = []

    def load(_: Settings) -> object:
        loaded.append(1)
        if isinstance(cascade, Exception):
            raise cascade
        return cascade

    monkeypatch.setattr(choice, "load", load)
    return loaded


def test_a_mode_that_is_not_the_default_is_loaded_once(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = json.loads((weights / "manifest.json").read_text())
    manifest["releases"][0]["default"] = "ensemble"
    for part, stage in manifest["releases"][0]["stages"].items():
        if part != "body_part":  # a member of which nothing but its line is needed
            member = {k: stage[k] for k in ("trunk", "branch")} | {"name": "again", "weight": 0.5}
            stage |= {"members": [member], "ensemble": {"operating_points": []}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    settings = Settings(home=tmp_path, weights=tmp_path, mode=Mode.FAST)
    fast = Registry.open(tmp_path).find("champion", Mode.FAST)
    assert fast.sha256 != Registry.open(tmp_path).find("champion").sha256
    loaded = counted(monkeypatch, SimpleNamespace(release=fast))
    scorer = SimpleNamespace(cascade=SimpleNamespace(release=SimpleNamespace(id="", sha256="")))
    for _ in range(3):
        assert polls.follow(scorer, settings)
    assert scorer.cascade.release is fast and len(loaded) == 1


def test_a_processor_that_fails_at_a_promotion_ends_no_listener(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    loaded = counted(monkeypatch, DeviceUnavailable("The graphics processor failed."))
    old = SimpleNamespace(release=SimpleNamespace(id="old", sha256="0" * 64))
    scorer = SimpleNamespace(cascade=old)
    monkeypatch.setattr(polls, "FOLLOW", 0.0)
    look = polls.following(scorer, Settings(home=tmp_path, weights=weights))
    look()
    look()
    assert scorer.cascade is old and len(loaded) == 1  # tried again later, not at once
    assert "The release in use stays old: The graphics processor failed." in caplog.text


def test_an_object_that_is_not_understood_leaves_its_trace_and_no_value(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Damaged:
        context = SimpleNamespace(abstract_syntax=DigitalXRayImageStorageForPresentation)
        value = "Doe^Jane"

        def encoded_dataset(self) -> bytes:
            raise ValueError(self.value)

    door = Door("127.0.0.1", 0, "BONE", (), reserve=0, max_bytes=10)
    assert listener._store(Damaged(), door, Inbox(tmp_path), tmp_path) == 0xC000
    assert "ValueError" in caplog.text and "in encoded_dataset" in caplog.text
    assert "Doe" not in caplog.text


def test_batches_past_their_time_go_without_a_visitor_of_the_app(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, retention_days=30)
    made = {}
    for name, created in (("old", 0.0), ("new", time.time())):
        made[name] = tmp_path / "batches" / name
        made[name].mkdir(parents=True)
        order = {"title": "Doe_Jane.dcm", "source": "/in", "created": created}
        (made[name] / "order.json").write_text(json.dumps(order))
    store = Store.open(settings)
    polls.purge(store, replace(settings, retention_days=None))  # nothing has an end
    assert made["old"].exists()
    for _ in range(2):
        polls.purge(store, settings)
        assert made["new"].exists() and not made["old"].exists()
        told = [e for e in store.audit_lines() if e.event == "batches.purged"]
        assert len(told) == 1
    store.close()


@pytest.mark.parametrize(
    "damage", ["[]", "null", '{"created": "then"}', '{"title": "a", "source": 3, "created": 0}']
)
def test_a_damaged_order_stops_no_purge(tmp_path: Path, damage: str) -> None:
    old, new = (tmp_path / "batches" / name for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "order.json").write_text(damage)
    text = '{"title": "a", "source": "/in", "created": "%s"}'
    (new / "order.json").write_text(text % time.time())  # as text it can be read all the same
    os.utime(old, (0, 0))
    settings = Settings(home=tmp_path, retention_days=30)
    assert [batch.folder for batch in all_batches(tmp_path)] == [new]
    store = Store.open(settings)
    polls.purge(store, settings)
    assert new.exists() and not old.exists()
    (new / "order.json").write_text(text % "nan")  # which is never past its time
    os.utime(new, (0, 0))
    polls.purge(store, settings)
    assert not new.exists()
    store.close()


def test_what_fails_is_not_done_at_every_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []

    def fails() -> None:
        done.append(1)
        raise TypeError("odd")

    poll = service.every(3600.0, fails)
    with pytest.raises(TypeError):
        poll()
    poll()
    assert len(done) == 1


@pytest.mark.parametrize(
    ("uid", "status"),
    [
        ("1.2.840.99.7", 0x0000),
        ("VENDOR-7_a", 0x0000),
        ("2024", 0x0000),
        ("1.2.840.99.3 ", 0x0000),
        ("3.1", 0x0000),
        ("1.2\0.3", 0xC000),
        ("1.2\n", 0xC000),
        ("1.2\udcff", 0xC000),
        ("1" * 65, 0xC000),
        ("", 0xC000),
        (" ", 0xC000),
    ],
)
def test_only_a_study_uid_that_cannot_be_kept_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, uid: str, status: int
) -> None:
    """Vendors write odd ones; none is refused without a word, and the log has what stands in their
    place: they may be any text."""

    class Header(SimpleNamespace):
        def get(self, _: str) -> None:
            return None

    event: Any = SimpleNamespace(
        encoded_dataset=lambda: b"radiograph",
        dataset=Header(StudyInstanceUID=uid, SOPInstanceUID="1.2.9"),
        request=SimpleNamespace(AffectedSOPInstanceUID="1.2.9"),
    )
    inbox = Inbox(tmp_path)
    assert listener._write(event, 100, inbox) == status
    keys = [study.key for study in inbox.due(0)]
    assert len(keys) == (status == 0) and all(map(is_uid, keys))
    if is_uid(uid.strip()):
        assert keys in ([], [uid.strip()])
    plain = uid in ("1.2.840.99.7", "3.1")
    assert ("Study Instance UID" in caplog.text) != plain
    assert plain or all(key in caplog.text for key in keys)
    assert "VENDOR" not in caplog.text and "2024" not in caplog.text.replace("".join(keys), "")


def test_the_engine_is_that_of_the_settings(
    cascade: Cascade, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cascade, "load", lambda *_: cascade)
    settings = Settings(home=tmp_path, engine="torch")
    options, outbox = argparse.Namespace(training_copies=None, send_to=[]), Outbox(tmp_path)
    scorer = listen._scorer(options, settings, outbox)
    assert scorer.cascade is cascade
    scorer.store.close()
    with pytest.raises(EngineUnavailable):  # as in predict and report: nothing was measured here
        listen._scorer(options, replace(settings, engine="openvino-int8"), outbox)


def test_final_reports_are_looked_for_where_something_was_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or is now due to be sent, or each minute: every study that was decided is gone through."""
    clock, polled = [1000.0], []
    monkeypatch.setattr(polls, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    store = Store.open(Settings(home=tmp_path))
    look = polls.when_decided(store, lambda: polled.append(clock[0]), 20.0)

    def at(seconds: float, *events: str) -> list[float]:
        clock[0] = 1000.0 + seconds
        for event in events:
            store.audit(event, "ann")
        polled.clear()
        look()
        return polled

    assert at(0, "decision.made")  # whatever was decided before the start
    assert not at(5, "study.added", "object.sent") and not at(10, "decision.made")
    assert at(20)  # the first one is old enough by now
    assert not at(25) and at(30) and not at(35)
    for event in polls.DECIDED:
        assert not at(40, event) and at(60) and not at(61)
    store.close()


def test_a_report_that_waits_is_tried_each_minute(tmp_path: Path, monkeypatch) -> None:
    clock, polled = [1000.0], []
    monkeypatch.setattr(polls, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    store = Store.open(Settings(home=tmp_path))
    look = polls.when_decided(store, lambda: polled.append(1), 20.0)
    for _ in range(25):
        look()
        clock[0] += 5.0
    assert len(polled) == 3
    store.close()


def test_stow_is_sent_with_the_header_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*begun: Any) -> int:
        sends.append(begun[4])
        return 0

    sends: list[Any] = []
    for name in ("_on_signal", "_keep_values_out_of_the_log"):
        monkeypatch.setattr(listen, name, lambda *_: None)
    monkeypatch.setattr(listen, "_run", run)
    monkeypatch.setenv("BONE_STOW_AUTHORIZATION", "Bearer word")
    assert command(["listen", "--folder", str(tmp_path)]) == 0
    assert sends[0].keywords["authorization"] == "Bearer word"
    assert "word" not in repr(Settings.from_environment())
