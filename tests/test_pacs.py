"""The listener against dcmtk and Orthanc, and its parts: inbox, outbox, sender, folder."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE, evt

from core.__main__ import main
from core.cascade import Cascade
from core.commands import listen
from core.dicom_out import reply
from core.dicom_out.encoding import encoded as encoded_file
from core.errors import SettingsInvalid, StoreUnavailable
from core.pacs import outbox as outbox_module
from core.pacs import sender, service, tls
from core.pacs.folder import WatchedFolder
from core.pacs.inbox import KEEP_SECONDS, MAX_ATTEMPTS, Inbox
from core.pacs.outbox import Outbox
from core.pacs.scoring import StudyScorer
from core.settings import ImageLimits, Settings
from core.store import Store
from tests.listening import Listening, listening, sent, storescu, studies
from tests.ports import free_port
from tests.simulated import dicom, encoded, phantom
from tests.waiting import eventually

LIMITS = ImageLimits()
SAMPLES = Path(__file__).parent.parent / "samples"
dcmtk = pytest.mark.skipif(not shutil.which("storescu"), reason="dcmtk is not installed")
orthanc = pytest.mark.skipif(not shutil.which("Orthanc"), reason="Orthanc is not installed")


def worklist(home: Path) -> list[str]:
    """Titles of the studies on the worklist, sorted."""
    if not list(home.glob("*.db")) and not list(home.glob("*.sqlite*")):
        return []
    store = Store.open(Settings(home=home))
    try:
        return sorted(entry.title for entry in store.worklist())
    finally:
        store.close()


# The network


@pytest.mark.stress
@dcmtk
def test_ten_studies_over_two_associations_with_a_kill(weights: Path, tmp_path: Path) -> None:
    sent = studies(tmp_path / "sent", 10, views=2)
    home = tmp_path / "home"
    first = Listening(weights, home)
    echo = ["echoscu", "-aet", "ROUTER", "-aec", "BONE", "127.0.0.1", str(first.port)]
    assert subprocess.run(echo, check=False).returncode == 0
    senders = [storescu(first.port, *sent[:5]), storescu(first.port, *sent[5:])]
    for one in senders:
        said, _ = one.communicate(timeout=120)
        assert one.returncode == 0, said
    first.stop(9)  # everything was answered for, nothing need have been scored
    assert len(list((home / "pacs" / "inbox").glob("*/*.dcm"))) == 20
    with listening(weights, home):
        titles = eventually(lambda: len(found := worklist(home)) == 10 and found)
    assert len(set(titles)) == 10
    store = Store.open(Settings(home=home))
    assert {e.views for e in store.worklist()} == {2}
    assert store.verify_audit().problems == ()
    store.close()


@dcmtk
def test_who_may_send_and_what_a_full_disk_answers(weights: Path, tmp_path: Path) -> None:
    [study] = studies(tmp_path / "sent", 1)
    options = ["--allow", "ROUTER", "--reserve", "1e12"]
    with listening(weights, tmp_path / "home", *options) as running:
        stranger = storescu(running.port, study, calling="STRANGER")
        assert "Rejected" in stranger.communicate(timeout=120)[0] and stranger.returncode != 0
        router = storescu(running.port, study)
        assert "OutOfResources" in router.communicate(timeout=120)[0]
    assert not list((tmp_path / "home").glob("pacs/inbox/*/*.dcm"))


def test_one_listener_at_a_time(weights: Path, tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    second = pytest.raises(AssertionError, match="running with this BONE_HOME already")
    with listening(weights, tmp_path / "home"), second:
        Listening(weights, tmp_path / "home", "--folder", str(watched))


def test_other_machines_only_with_a_list_of_senders(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="--allow"):
        Listening(weights, tmp_path, "--host", "0.0.0.0")


class Archive:
    """A running Orthanc."""

    def __init__(self, folder: Path, listener_port: int) -> None:
        self.http, self.dicom = free_port(), free_port()
        script = folder / "route.lua"
        script.write_text(
            "function OnStableStudy(id, tags, metadata)\n"
            "  RestApiPost('/modalities/bone/store', id)\n"
            "end\n"
        )
        settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "StableAge": 1,
            "DicomModalities": {"bone": ["BONE", "127.0.0.1", listener_port]},
            "LuaScripts": [str(script)],
            "Plugins": [],
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        with (folder / "orthanc.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log
            )
        eventually(self.answers)

    def answers(self) -> bool:
        try:
            return bool(self.get("/system"))
        except OSError:
            return False

    def get(self, path: str) -> object:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=60) as answer:
            return json.load(answer)

    def post(self, data: bytes) -> None:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}/instances", data)
        urllib.request.urlopen(request, timeout=60).close()


@contextmanager
def archive(folder: Path, listener_port: int) -> Iterator[Archive]:
    folder.mkdir()
    running = Archive(folder, listener_port)
    try:
        yield running
    finally:
        running.process.terminate()
        running.process.wait(120)


@orthanc
def test_orthanc_gets_its_study_back_assessed(weights: Path, tmp_path: Path) -> None:
    port = free_port()
    with archive(tmp_path / "orthanc", port) as pacs:
        options = ["--port", str(port), "--allow", "ORTHANC"]
        options += ["--send-to", f"ORTHANC@127.0.0.1:{pacs.dicom}"]
        with listening(weights, tmp_path / "home", *options):
            pacs.post((SAMPLES / "elbow_lateral_124.dcm").read_bytes())

            def modalities() -> list[str]:
                series = pacs.get("/series?expand")
                return sorted(s["MainDicomTags"]["Modality"] for s in series)  # type: ignore

            def routed() -> int:
                found = pacs.get("/changes?limit=1000")["Changes"]  # type: ignore[index]
                return sum(c["ChangeType"] == "StableStudy" for c in found)

            eventually(lambda: modalities() == ["DOC", "DX", "OT", "PR", "SR"])
            [study] = pacs.get("/studies?expand")  # type: ignore[misc]
            original = pydicom.dcmread(SAMPLES / "elbow_lateral_124.dcm")
            assert study["MainDicomTags"]["StudyInstanceUID"] == original.StudyInstanceUID
            assert len(study["Series"]) == 5
            eventually(lambda: routed() >= 2)  # stable again, so it was routed once more
            time.sleep(2)  # and nothing new comes of that
            assert len(pacs.get("/instances")) == 5  # type: ignore[arg-type]
            assert len(worklist(tmp_path / "home")) == 1
    # Nor does the archive stop at our own reports, before a view that came late.
    assert "Error in RestApiPost" not in (tmp_path / "orthanc" / "orthanc.log").read_text()


# Its parts


def test_inbox_waits_until_a_study_is_quiet(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    inbox.put("1.2.3", "a.dcm", b"a")
    inbox.put("1.2.3", "a.dcm", b"a")
    inbox.put("../../etc", "../b\n.dcm", b"b")
    assert not list(inbox.due(60))
    found = {s.key: s for s in inbox.due(0)}
    assert set(found) == {"1.2.3", "../../etc"}
    assert found["1.2.3"].contents() == [("a.dcm", b"a")]
    assert all(p.is_relative_to(tmp_path) for p in tmp_path.rglob("*"))
    inbox.done(found["1.2.3"])
    assert [s.key for s in Inbox(tmp_path).due(0)] == ["../../etc"]
    inbox.put("1.2.3", "c.dcm", b"c")
    late = next(s for s in inbox.due(0) if s.key == "1.2.3")
    assert len(late.names) == 2  # scored again, with the first one


def test_what_was_acknowledged_and_not_scored_outlives_what_was(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    for key in ("1.1", "1.2", "1.3"):
        inbox.put(key, "a.dcm", key.encode())
    scored, late, failing = inbox.due(0)
    inbox.done(scored)
    inbox.done(late)
    for _ in range(MAX_ATTEMPTS):
        inbox.failed(replace(failing, attempts=MAX_ATTEMPTS - 1))
    inbox.put("1.2", "b.dcm", b"a view that comes late")
    long_ago = time.time() - KEEP_SECONDS - 60
    for marker in tmp_path.glob("*/scored.json"):
        os.utime(marker, (long_ago, long_ago))
    for file in failing.folder.glob("*_*"):
        os.utime(file, (long_ago - 60, long_ago - 60))
    inbox.forget_old()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1.2", "1.3"]
    assert [study.key for study in inbox.due(0)] == ["1.2"]  # and 1.3 rests
    assert Inbox.counts(tmp_path) == (1, 1)


def test_a_clock_that_is_set_back_delays_nothing(tmp_path: Path, monkeypatch) -> None:
    inbox, outbox = Inbox(tmp_path / "inbox"), Outbox(tmp_path / "outbox")
    inbox.put("1.2.3", "a.dcm", b"a")
    outbox.put("X@localhost:1", "1.2", b"one")
    [file] = tmp_path.glob("inbox/1.2.3/*_a.dcm")
    now = file.stat().st_mtime
    monkeypatch.setattr(outbox_module.time, "time", lambda: now + 2)
    assert not list(inbox.due(5))  # another view may come
    assert sent(outbox, lambda _, items: [False] * len(items)) == 0 and not outbox.due()
    monkeypatch.setattr(outbox_module.time, "time", lambda: now - 7200)
    assert [study.key for study in inbox.due(5)] == ["1.2.3"] and len(outbox.due()) == 1


def test_what_was_scored_stays_no_longer_than_it_may(tmp_path: Path, monkeypatch) -> None:
    """For a retention of a day, that is a day."""
    began: list[Inbox] = []
    monkeypatch.setattr(listen, "_run", lambda *given: began.append(given[2]) or 0)
    monkeypatch.setattr(listen, "_on_signal", lambda _: None)
    monkeypatch.setattr(listen, "_keep_values_out_of_the_log", lambda: None)
    parser = argparse.ArgumentParser()
    listen.add_arguments(parser)
    options = parser.parse_args(["--folder", str(tmp_path)])
    for days, kept in ((1, 0), (30, 1), (None, 1)):
        settings = Settings(home=tmp_path / "home", retention_days=days)
        assert listen.run(options, settings) == 0
        inbox = began.pop()
        inbox.put("1.2.3", "a.dcm", b"a")
        [study] = inbox.due(0)
        inbox.done(study)
        os.utime(study.folder / "scored.json", (time.time() - 2 * 86400,) * 2)
        inbox.forget_old()
        assert len(list(study.folder.parent.iterdir())) == kept
        shutil.rmtree(study.folder, ignore_errors=True)


@pytest.mark.parametrize("note", ["scored.json", "study.json"])
@pytest.mark.parametrize("damage", [b"", b"\x00\xff", b"[1]", b'{"attempts": "x"}'])
def test_a_damaged_note_is_told_once_and_stops_nothing(
    tmp_path: Path, note: str, damage: bytes, caplog, monkeypatch
) -> None:
    scored = []
    scorer = SimpleNamespace(score=lambda study: scored.append((study.key, study.contents())))
    inbox = Inbox(tmp_path)
    inbox.put("1.2.3", "a.dcm", b"a")
    [study] = inbox.due(0)
    inbox.failed(study)
    (study.folder / note).write_bytes(damage)
    assert Inbox.counts(tmp_path) == (1, 0)
    caplog.clear()
    for _ in range(3):
        [study] = inbox.due(0)
    assert caplog.text.count("is damaged") == (damage[:1] != b"{" or note == "study.json")
    assert service.score_one(inbox, scorer, study) and not list(inbox.due(0))
    assert scored == [("1.2.3", [("a.dcm", b"a")])]


def test_scoring_goes_on_after_anything(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(service, "TROUBLE", 0.01)
    stop, looks = threading.Event(), []

    def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            stop.set()
        raise ValueError("what a damaged file makes of it")

    service.work(Inbox(tmp_path), None, 0, stop, [look])  # type: ignore[arg-type]
    assert len(looks) == 3


def test_the_whole_inbox_is_tidied_once_an_hour(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(service, "PAUSE", 0.001)
    inbox, stop, looks, tidied = Inbox(tmp_path), threading.Event(), [], []
    monkeypatch.setattr(inbox, "forget_old", lambda: tidied.append(len(looks)))

    def look() -> None:
        looks.append(1)
        if len(looks) == 5:
            stop.set()

    service.work(inbox, None, 0, stop, [look])  # type: ignore[arg-type]
    assert len(looks) == 5 and tidied == [1]


def test_an_object_that_comes_again_corrected_is_no_second_view(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    inbox.put("1.2.3", "1.5.dcm", b"a", instead=True)
    inbox.put("1.2.3", "1.1.5.dcm", b"other", instead=True)
    [study] = inbox.due(0)
    inbox.done(study)
    inbox.put("1.2.3", "1.5.dcm", b"a corrected", instead=True)
    [again] = inbox.due(0)
    assert sorted(again.contents()) == [("1.1.5.dcm", b"other"), ("1.5.dcm", b"a corrected")]


def test_names_that_differ_in_more_than_plain_characters_are_two_files(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    long = "x" * 90 + ".png"
    names = ["Hand (1).png", "Hand [1].png", "Hand-1-.png", f"a{long}", f"b{long}"]
    for name in names:
        inbox.put("study", name, name.encode(), instead=True)
    [study] = inbox.due(0)
    assert sorted(data.decode() for _, data in study.contents()) == sorted(names)
    assert {name for name, _ in study.contents()} == {"Hand-1-.png", long[-80:]}
    for name in names:
        inbox.put("study", name, b"corrected " + name.encode(), instead=True)
    [study] = inbox.due(0)
    assert len(study.names) == len(names)
    assert all(data.startswith(b"corrected") for _, data in study.contents())


def test_a_study_that_cannot_be_scored_rests(tmp_path: Path, caplog) -> None:
    said = "^".join(("Doe", "Jane"))  # what a library quotes in its message

    class Broken:
        def score(self, study: object) -> None:
            raise RuntimeError(said)

    inbox = Inbox(tmp_path)
    inbox.put("1.2.3", "a.dcm", b"a")
    for _ in range(MAX_ATTEMPTS):
        [study] = inbox.due(0)
        service.score_one(inbox, Broken(), study)  # type: ignore[arg-type]
    assert not list(inbox.due(0))
    assert "RuntimeError" in caplog.text and said not in caplog.text
    assert Inbox.counts(tmp_path) == (0, 1)
    inbox.put("1.2.3", "a.dcm", b"a")  # who sends it again wants it tried again
    assert len(list(inbox.due(0))) == 1
    inbox.put("1.2.3", "b.dcm", b"b")
    assert len(list(inbox.due(0))) == 1 and Inbox.counts(tmp_path) == (1, 0)


def test_outbox_tries_again_and_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Outbox(tmp_path).put("X@localhost:1", "1.2", b"one")
    Outbox(tmp_path).put("X@localhost:1", "1.2", b"one")
    tried: list[int] = []

    def fail(_: str, items) -> list[bool]:
        tried.append(len(items))
        return [False] * len(items)

    assert sent(Outbox(tmp_path), fail) == 0 and tried == [1]
    assert sent(Outbox(tmp_path), fail) == 0 and tried == [1]  # not due yet
    [waiting] = Outbox(tmp_path).waiting()
    assert waiting.attempts == 1 and waiting.next_try > time.time()
    monkeypatch.setattr(outbox_module.time, "time", lambda: waiting.next_try + 1)
    assert sent(Outbox(tmp_path), lambda _, items: [True] * len(items)) == 1
    assert not Outbox(tmp_path).waiting() and not list(tmp_path.glob("*.dcm"))
    monkeypatch.setattr(outbox_module, "MAX_ATTEMPTS", 1)
    Outbox(tmp_path).put("X@localhost:1", "1.3", b"two")
    sent(Outbox(tmp_path), fail)
    assert not Outbox(tmp_path).waiting() and len(list((tmp_path / "failed").iterdir())) == 2


def test_a_kill_in_the_outbox_leaves_it_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(tmp_path)
    outbox.put("X@localhost:1", "1.2", b"one")
    outbox.put("X@localhost:1", "1.3", b"two")
    first, second = outbox.waiting()
    first.item.unlink()  # given up, and killed before its note was removed
    second.note.unlink()  # sent, and killed before it was removed
    again = Outbox(tmp_path)
    assert again.waiting() == [] and sent(again, lambda _, items: [True] * len(items)) == 0
    assert list(tmp_path.iterdir()) == [first.note]  # its object may be on its way back
    later = time.monotonic() + outbox_module.MOVING + 1
    monkeypatch.setattr(outbox_module.time, "monotonic", lambda: later)
    assert again.waiting() == [] and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "slip", ['{"destination": "X', "[]", '{"destination": "X"}', "null", "\x00"]
)
def test_a_note_that_cannot_be_read_stops_no_other(tmp_path: Path, slip: str, caplog) -> None:
    outbox = Outbox(tmp_path)
    outbox.put("X@localhost:1", "1.2", b"one")
    outbox.put("Y@localhost:1", "1.3", b"two")
    [odd] = [one for one in outbox.waiting() if one.destination.startswith("X")]
    right = odd.note.read_text()
    odd.note.write_text(slip)
    again = Outbox(tmp_path)
    assert again.destinations() == {"Y@localhost:1": 1}
    assert sent(again, lambda _, items: [True] * len(items)) == 1 and again.waiting() == []
    assert caplog.text.count(f"The note {odd.note.name} in the outbox cannot be read") == 1
    odd.note.write_text(right)
    assert sent(again, lambda _, items: [True] * len(items)) == 1


def test_what_was_given_up_is_told_and_sent_again_when_moved_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "MAX_ATTEMPTS", 1)
    outbox, told = Outbox(tmp_path), []
    outbox.put("X@localhost:1", "1.2", b"one", "SR", "study")
    sent(
        outbox, lambda _, items: [False] * len(items), lambda event, one: told.append((event, one))
    )
    [(event, one)] = told
    assert (
        event == "object.given_up"
        and one.about["kind"] == "SR"
        and outbox.counts(tmp_path) == ({}, 1)
    )
    for path in sorted((tmp_path / "failed").iterdir(), reverse=True):  # the note first
        assert outbox.waiting() == []
        path.rename(tmp_path / path.name)
    assert sent(outbox, lambda _, items: [True] * len(items)) == 1


def test_an_object_stays_until_the_audit_has_it(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put("X@localhost:1", "1.2", b"one")

    def broken(*_: object) -> None:
        raise StoreUnavailable("The database is gone.")

    with pytest.raises(StoreUnavailable):
        sent(outbox, lambda _, items: [True] * len(items), broken)
    assert len(outbox.waiting()) == 1


def test_sending_goes_on_after_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "TROUBLE", 0.01)
    outbox, stop, tries = Outbox(tmp_path), threading.Event(), []
    outbox.put("X@localhost:1", "1.2", b"one")

    def send(_: str, items: Sequence[bytes]) -> list[bool]:
        tries.append(len(items))
        if len(tries) < 3:
            raise RuntimeError("what a library raises")
        stop.set()
        return [True] * len(items)

    service.keep_sending(outbox, send, stop, lambda *_: None)
    assert len(tries) == 3 and not outbox.waiting()


def test_inbox_after_a_kill_between_folder_and_name(tmp_path: Path) -> None:
    """The folder of a study that was made, and nothing in it; and what an earlier version left."""
    (tmp_path / "1.2.3").mkdir()
    (tmp_path / "1.2.4").mkdir()
    (tmp_path / "1.2.4" / f"{'0' * 24}_a.dcm").write_bytes(b"a")
    inbox = Inbox(tmp_path)
    inbox.put("1.2.3", "a.dcm", b"a")
    assert json.loads((tmp_path / "1.2.3" / "study.json").read_text()) == "1.2.3"
    assert {s.key for s in inbox.due(0)} == {"1.2.3", "1.2.4"}


@pytest.mark.parametrize("trouble", [StoreUnavailable("gone"), OSError("full")])
def test_a_database_or_disk_that_is_away_is_no_attempt(tmp_path: Path, trouble: Exception) -> None:
    class Away:
        def score(self, study: object) -> None:
            raise trouble

    inbox = Inbox(tmp_path)
    inbox.put("1.2.3", "a.dcm", b"a")
    for _ in range(2 * MAX_ATTEMPTS):
        [study] = inbox.due(0)
        assert not service.score_one(inbox, Away(), study)  # type: ignore[arg-type]
    assert len(list(inbox.due(0))) == 1


# pynetdicom 3.0.4 leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_destinations() -> None:
    assert sender.peer("PACS@10.0.0.1:104") == sender.Peer("PACS", "10.0.0.1", 104)
    assert sender.peer("PACS@host:2762:tls") == sender.Peer("PACS", "host", 2762, True)
    assert sender.peer("https://pacs.example/dicom-web/studies") is None
    urls = ("https://", "https://host:no/", "https://me:word@host/", "https://host/?key=1")
    for wrong in ("PACS", "PACS@host", "@host:104", "PACS@host:70000", "ftp://host", *urls):
        with pytest.raises(SettingsInvalid):
            sender.peer(wrong)
    nobody = f"PACS@127.0.0.1:{free_port()}"
    assert sender.send(f"http://127.0.0.1:{free_port()}/studies", [b"x"]) == [False]
    data = (SAMPLES / "elbow_lateral_124.dcm").read_bytes()
    assert sender.send(nobody, [data, data]) == [False, False]
    assert sender.send(f"{nobody}:tls", [data]) == [False]  # never in the clear


class Web:
    """A server that keeps what it is sent and gives the answers one after the other."""

    def __init__(self, *answers: bytes, tls: ssl.SSLContext | None = None) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self._answers, self._tls = list(answers), tls

    @contextmanager
    def running(self) -> Iterator[str]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                web.got.append((dict(self.headers), body))
                self.wfile.write(web._answers.pop(0))

            def do_GET(self) -> None:
                self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\nPlease sign in.")

            def log_message(self, *_: object) -> None:
                """Nothing on the terminal."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            if self._tls:
                server.socket = self._tls.wrap_socket(server.socket, server_side=True)
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            scheme = "https" if self._tls else "http"
            yield f"{scheme}://127.0.0.1:{server.server_address[1]}/studies"
            server.shutdown()
            thread.join()


def test_stow_sends_multipart() -> None:
    stored = (
        b'{"00081198": {"vr": "SQ"}, "00081199": {"vr": "SQ", "Value": [{}]}}'  # as Orthanc does
    )
    web = Web(b"HTTP/1.0 200 OK\r\n\r\n" + stored, b"HTTP/1.0 409 Conflict\r\n\r\n")
    with web.running() as url:
        sent = sender.send(url, [b"DICM-1", b"DICM-2"], authorization="Bearer word")
        assert sent == [True, False]
    headers, body = web.got[0]
    kind = headers["Content-Type"]
    boundary = kind.partition("boundary=")[2].encode()
    assert kind.startswith('multipart/related; type="application/dicom"')
    assert headers["Authorization"] == "Bearer word"
    head, _, content = body.partition(b"\r\n\r\n")
    assert head == b"--" + boundary + b"\r\nContent-Type: application/dicom"
    assert content == b"DICM-1\r\n--" + boundary + b"--\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 302 Found\r\nLocation: /login\r\n\r\n",  # its page would say 200
        b"HTTP/1.0 200 OK\r\n\r\n" + b'{"00081198": {"vr": "SQ", "Value": [{}]}}',
        b"what is no HTTP\r\n\r\n",
        b"",
    ],
)
def test_stow_that_was_not_stored(answer: bytes) -> None:
    with Web(answer).running() as url:
        assert sender.send(url, [b"DICM"]) == [False]


def test_an_archive_that_takes_little(cascade: Cascade) -> None:
    """Implicit VR alone, and no reports: the pictures arrive, whatever stands before them."""
    data = (SAMPLES / "elbow_lateral_124.dcm").read_bytes()
    made = [i for _, i in reply.objects(reply.assess(cascade, [("a", data)], LIMITS))]
    kept: list[str] = []

    def keep(event: evt.Event) -> int:
        assert event.context.transfer_syntax == ImplicitVRLittleEndian
        kept.append(event.dataset.Modality)
        return 0xB000 if len(kept) == 1 else 0xA700

    ae = AE("PACS")
    ae.add_supported_context(SecondaryCaptureImageStorage, ImplicitVRLittleEndian)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    to = f"PACS@127.0.0.1:{server.socket.getsockname()[1]}"
    picture = next(encoded_file(i) for i in made if i.Modality == "OT")
    report = next(encoded_file(i) for i in made if i.Modality == "SR")
    try:
        assert sender.send(to, [report, picture, picture]) == [False, True, False]
    finally:
        server.shutdown()
    assert kept == ["OT", "OT"]


# Encrypted


def certificates(folder: Path) -> None:
    """An authority (ca.pem), and name.pem with name.key for the hospital and for a stranger."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    address = ["-addext", "subjectAltName=IP:127.0.0.1"]
    for name in ("ca", "stranger"):
        openssl(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    for name in ("bone", "router"):
        signer = ["-CA", "ca.pem", "-CAkey", "ca.key", *address]
        out = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        openssl(*new, *signer, "-subj", f"/CN={name}", *out)


@dcmtk
@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_an_encrypted_association(weights: Path, tmp_path: Path) -> None:
    """dcmtk on both sides: who has no certificate of the hospital's gets in neither way."""
    [study] = studies(tmp_path / "sent", 1, SeriesInstanceUID="1.2.3.4")
    certificates(tmp_path)
    kept, port = tmp_path / "kept", free_port()
    kept.mkdir()
    own = ["--tls-cert", "bone.pem", "--tls-key", "bone.key", "--tls-ca", "ca.pem"]
    own = [str(tmp_path / o) if not o.startswith("--") else o for o in own]
    command = ["storescp", "-aet", "PACS", "-od", str(kept)]
    with (
        subprocess.Popen([*command, *dcmtk_tls(tmp_path, "router"), str(port)]) as pacs,
        listening(
            weights, tmp_path / "home", *own, "--send-to", f"PACS@127.0.0.1:{port}:tls"
        ) as running,
    ):
        try:
            silent = socket.create_connection(("127.0.0.1", running.port))
            for wrong in ([], dcmtk_tls(tmp_path, "stranger")):
                refused = storescu(running.port, study, options=wrong)
                assert refused.communicate(timeout=120) and refused.returncode != 0
            router = storescu(running.port, study, options=dcmtk_tls(tmp_path, "router"))
            assert "Success" in router.communicate(timeout=120)[0] and router.returncode == 0
            silent.close()
            eventually(lambda: len(list(kept.iterdir())) >= 3)
        finally:
            pacs.terminate()
            pacs.wait(60)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_stow_trusts_the_authority_that_was_named(tmp_path: Path, caplog) -> None:
    certificates(tmp_path)
    served = tls.listening(tmp_path / "bone.pem", tmp_path / "bone.key", None)
    web = Web(b"HTTP/1.0 200 OK\r\n\r\n", tls=served)
    with web.running() as url:
        named = tls.calling(tmp_path / "ca.pem", None, None)
        assert sender.send(url, [b"DICM-1"], tls=named) == [True]
        for other in (None, tls.calling(tmp_path / "stranger.pem", None, None)):
            assert sender.send(url, [b"DICM-2", b"DICM-3"], tls=other) == [False, None]
    assert [b"DICM-1" in body for _, body in web.got] == [True]
    assert caplog.text.count("The certificate of 127.0.0.1 is not trusted: ") == 2


def dcmtk_tls(folder: Path, name: str) -> list[str]:
    files = [str(folder / f"{name}.key"), str(folder / f"{name}.pem")]
    return ["+tls", *files, "+cf", str(folder / "ca.pem")]


@pytest.mark.parametrize(
    "options",
    [
        ["--tls-cert", "a"],
        ["--tls-cert", "a", "--tls-key", "b"],
        ["--send-to", "PACS@host:104:tls"],
        ["--sign-for", "Clinic"],
        ["--sign-for", " ", "--send-to", "PACS@host:104"],
        ["--folder", "/does/not/exist"],
        ["--port", "99999"],
        ["--aet", "A_TITLE_OF_17_CHARS"],
        ["--aet", ""],
        ["--allow", "BÖNE"],
        ["--allow", "CR1,CR2"],
        ["--quiet", "-5"],
        ["--sign-after", "nan"],
        ["--send-to", "PACS@host:0"],
    ],
)
def test_options_that_do_not_go_together(options: list[str], capsys) -> None:
    assert main(["listen", *options]) == 1
    assert capsys.readouterr().err.startswith("error: ")


# The watched folder


def test_files_in_a_folder_are_scored_as_they_come(cascade: Cascade, tmp_path: Path) -> None:
    watched, home = tmp_path / "watched", tmp_path / "home"
    (watched / "visit").mkdir(parents=True)
    [study] = studies(tmp_path / "sent", 1, views=2)
    (watched / "1.dcm").write_bytes((study / "1.dcm").read_bytes())
    (watched / "visit" / "2.dcm").write_bytes((study / "2.dcm").read_bytes())
    (watched / "visit" / "a.png").write_bytes(encoded(phantom(), "PNG"))
    (watched / ".hidden").write_bytes(b"x")
    (watched / "note.txt").write_text("no picture")
    inbox = Inbox(home / "inbox")
    folder = WatchedFolder(watched, home / "taken.jsonl", LIMITS)
    assert folder.poll(inbox) == 0  # each may still be written to
    assert folder.poll(inbox) == 4
    assert folder.poll(inbox) == 0
    again = WatchedFolder(watched, home / "taken.jsonl", LIMITS)
    assert again.poll(inbox) + again.poll(inbox) == 0
    store = Store.open(Settings(home=home))
    scorer = StudyScorer(cascade, store, Outbox(home / "outbox"), LIMITS)
    for one in inbox.due(0):
        service.score_one(inbox, scorer, one)
    assert not list(inbox.due(0))
    assert sorted(e.views for e in store.worklist()) == [1, 1, 2]
    assert len(list(watched.rglob("*.dcm"))) == 2  # nothing is moved away
    store.close()


def test_a_name_that_is_no_utf8_comes_to_the_worklist(cascade: Cascade, tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    try:
        (watched / os.fsdecode(b"M\xfcller.png")).write_bytes(encoded(phantom(), "PNG"))
    except OSError:
        pytest.skip("this file system takes no such name")
    inbox = Inbox(tmp_path / "inbox")
    folder = WatchedFolder(watched, tmp_path / "taken.jsonl", LIMITS)
    assert folder.poll(inbox) + folder.poll(inbox) == 1
    store = Store.open(Settings(home=tmp_path))
    [study] = inbox.due(0)
    assert service.score_one(
        inbox, StudyScorer(cascade, store, Outbox(tmp_path / "o"), LIMITS), study
    )
    [entry] = store.worklist()
    assert entry.title.endswith("udcfcller.png") and entry.finding
    store.close()


def test_what_was_taken_is_remembered_without_names(tmp_path: Path) -> None:
    watched, taken = tmp_path / "watched", tmp_path / "taken.jsonl"
    watched.mkdir()
    for n, name in enumerate(("Doe.png", "Roe.png")):
        (watched / name).write_bytes(encoded(phantom(seed=n), "PNG"))
    status = (watched / "Doe.png").stat()  # as an older version wrote it, and a crash
    old = json.dumps({"taken": ["Doe.png", status.st_size, status.st_mtime_ns]})
    taken.write_bytes(old.encode() + b'\n\xff\n{"taken": 3}\n[]\n')
    inbox = Inbox(tmp_path / "inbox")
    for count in (1, 0):
        folder = WatchedFolder(watched, taken, LIMITS)
        assert folder.poll(inbox) + folder.poll(inbox) == count
        assert b"oe" not in taken.read_bytes() and len(taken.read_text().splitlines()) == 2
    assert [study.key for study in inbox.due(0)] == ["Roe.png"]


def test_pictures_that_lie_in_one_folder_are_no_study(tmp_path: Path) -> None:
    """Their names say nothing of whose they are; those of MURA do."""
    mura = "XR_HAND/patient00011/study1_positive/image{}.png"
    names = ["visit/a.png", "visit/b.png", "c.png", mura.format(1), mura.format(2)]
    for number, name in enumerate(names):
        path = tmp_path / "watched" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(phantom(seed=number), "PNG"))
    inbox = Inbox(tmp_path / "inbox")
    folder = WatchedFolder(tmp_path / "watched", tmp_path / "taken.jsonl", LIMITS)
    assert folder.poll(inbox) + folder.poll(inbox) == 5
    assert {study.key: len(study.names) for study in inbox.due(0)} == {
        "visit/a.png": 1,
        "visit/b.png": 1,
        "c.png": 1,
        "XR_HAND/patient00011/study1": 2,
    }


def test_scoring_twice_leaves_the_same(cascade: Cascade, tmp_path: Path) -> None:
    inbox, outbox = Inbox(tmp_path / "inbox"), Outbox(tmp_path / "outbox")
    store = Store.open(Settings(home=tmp_path))
    inbox.put("1.2", "a.dcm", (SAMPLES / "elbow_lateral_124.dcm").read_bytes())
    patient = pydicom.dcmread(SAMPLES / "elbow_lateral_124.dcm").PatientID
    other = dicom(phantom(), StudyInstanceUID="1.2", PatientID=patient)  # no series: no reply
    inbox.put("1.2", "b.dcm", other)
    scorer = StudyScorer(cascade, store, outbox, LIMITS, ["X@localhost:104"])
    counts = []
    for _ in range(2):
        [study] = inbox.due(0)
        scorer.score(study)
        counts.append((len(store.worklist()), len(outbox.waiting())))
    assert counts[0] == counts[1] and counts[0][0] == 1 and counts[0][1] >= 3
    store.close()


def test_command_watches_a_folder(weights: Path, tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    with listening(weights, tmp_path / "home", "--folder", str(watched)):
        (watched / "a.png").write_bytes(encoded(phantom(), "PNG"))
        eventually(lambda: worklist(tmp_path / "home"))
    assert len(worklist(tmp_path / "home")) == 1
