"""The listener against dcmtk and Orthanc, and its parts: inbox, outbox, sender, folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pydicom
import pytest

from core.cascade import Cascade
from core.errors import SettingsInvalid
from core.pacs import outbox as outbox_module
from core.pacs import sender, service
from core.pacs.folder import WatchedFolder
from core.pacs.inbox import MAX_ATTEMPTS, Inbox
from core.pacs.outbox import Outbox
from core.pacs.scoring import Scorer
from core.settings import ImageLimits, Settings
from core.store import Store
from tests.listening import Listening, listening, storescu, studies
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


@dcmtk
def test_ten_studies_over_two_associations_with_a_kill(weights: Path, tmp_path: Path) -> None:
    sent = studies(tmp_path / "sent", 10, views=2)
    home = tmp_path / "home"
    first = Listening(weights, home)
    echo = ["echoscu", "-aec", "BONE", "127.0.0.1", str(first.port)]
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

            eventually(lambda: modalities() == ["DOC", "DX", "OT", "PR", "SR"])
            [study] = pacs.get("/studies?expand")  # type: ignore[misc]
            original = pydicom.dcmread(SAMPLES / "elbow_lateral_124.dcm")
            assert study["MainDicomTags"]["StudyInstanceUID"] == original.StudyInstanceUID
            assert len(study["Series"]) == 5
            time.sleep(4)  # the study is stable again and was routed once more: nothing new comes
            assert len(pacs.get("/instances")) == 5  # type: ignore[arg-type]
            assert len(worklist(tmp_path / "home")) == 1


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
    inbox.put("1.2.3", "b.dcm", b"b")
    assert len(list(inbox.due(0))) == 1


def test_outbox_tries_again_and_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Outbox(tmp_path).put("X@localhost:1", "1.2", b"one")
    Outbox(tmp_path).put("X@localhost:1", "1.2", b"one")
    tried: list[int] = []

    def fail(_: str, items) -> list[bool]:
        tried.append(len(items))
        return [False] * len(items)

    assert Outbox(tmp_path).send(fail) == 0 and tried == [1]
    assert Outbox(tmp_path).send(fail) == 0 and tried == [1]  # not due yet
    [waiting] = Outbox(tmp_path).waiting()
    assert waiting.attempts == 1 and waiting.next_try > time.time()
    monkeypatch.setattr(outbox_module.time, "time", lambda: waiting.next_try + 1)
    assert Outbox(tmp_path).send(lambda _, items: [True] * len(items)) == 1
    assert not Outbox(tmp_path).waiting() and not list(tmp_path.glob("*.dcm"))
    monkeypatch.setattr(outbox_module, "MAX_ATTEMPTS", 1)
    Outbox(tmp_path).put("X@localhost:1", "1.3", b"two")
    Outbox(tmp_path).send(fail)
    assert not Outbox(tmp_path).waiting() and len(list((tmp_path / "failed").iterdir())) == 2


# pynetdicom 3.0.4 leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_destinations() -> None:
    assert sender.peer("PACS@10.0.0.1:104") == sender.Peer("PACS", "10.0.0.1", 104)
    assert sender.peer("https://pacs.example/dicom-web/studies") is None
    for wrong in ("PACS", "PACS@host", "@host:104", "ftp://host"):
        with pytest.raises(SettingsInvalid):
            sender.peer(wrong)
    nobody = f"PACS@127.0.0.1:{free_port()}"
    assert sender.send(f"http://127.0.0.1:{free_port()}/studies", [b"x"]) == [False]
    data = (SAMPLES / "elbow_lateral_124.dcm").read_bytes()
    assert sender.send(nobody, [data, data]) == [False, False]


def test_stow_sends_multipart() -> None:
    got: list[tuple[str, bytes]] = []

    class Web(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.headers["Content-Type"], body))
            self.send_response(200 if len(got) == 1 else 409)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/studies"
        assert sender.send(url, [b"DICM-1", b"DICM-2"]) == [True, False]
        server.shutdown()
        thread.join()
    kind, body = got[0]
    boundary = kind.partition("boundary=")[2].encode()
    assert kind.startswith('multipart/related; type="application/dicom"')
    head, _, content = body.partition(b"\r\n\r\n")
    assert head == b"--" + boundary + b"\r\nContent-Type: application/dicom"
    assert content == b"DICM-1\r\n--" + boundary + b"--\r\n"


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
    scorer = Scorer(cascade, store, Outbox(home / "outbox"), LIMITS)
    for one in inbox.due(0):
        service.score_one(inbox, scorer, one)
    assert not list(inbox.due(0))
    assert sorted(e.views for e in store.worklist()) == [1, 1, 2]
    assert len(list(watched.rglob("*.dcm"))) == 2  # nothing is moved away
    store.close()


def test_scoring_twice_leaves_the_same(cascade: Cascade, tmp_path: Path) -> None:
    inbox, outbox = Inbox(tmp_path / "inbox"), Outbox(tmp_path / "outbox")
    store = Store.open(Settings(home=tmp_path))
    inbox.put("1.2", "a.dcm", (SAMPLES / "elbow_lateral_124.dcm").read_bytes())
    inbox.put("1.2", "b.dcm", dicom(phantom(), StudyInstanceUID="1.2"))  # no series: no reply
    scorer = Scorer(cascade, store, outbox, LIMITS, ["X@localhost:104"])
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
