"""What waits to be sent where a file of it cannot be read, and archives that have it already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE, evt

from core import health
from core.dicom_out.encoding import encoded
from core.pacs import sender
from core.pacs.inbox import Inbox
from core.pacs.outbox import Outbox
from core.settings import Settings
from tests.listening import sent
from tests.permissions import not_permitted
from tests.simulated import dataset, phantom
from tests.test_pacs import Web

TO = "X@localhost:1"


def arrives(_: str, items: Sequence[bytes]) -> list[bool]:
    return [True] * len(items)


def test_a_note_of_somebody_else_stops_no_other_and_is_told(tmp_path: Path, caplog) -> None:
    """As ``sudo cp`` leaves one: nobody but root reads it."""
    home = tmp_path / "pacs"
    Inbox(home / "inbox")
    outbox = Outbox(home / "outbox")
    outbox.put(TO, "1.2", b"one")
    [odd] = outbox.waiting()
    outbox.put("Y@localhost:1", "1.3", b"two")
    with not_permitted(odd.note, 0):
        assert outbox.destinations() == {"Y@localhost:1": 1}
        assert sent(outbox, arrives) == 1 and not outbox.due()
        assert caplog.text.count(f"The note {odd.note.name} in the outbox cannot be read") == 1
        found = health._look("pacs", health._pacs, Settings(home=tmp_path))
        assert found.ok and "1 to a destination that cannot be read" in found.detail
    assert sent(outbox, arrives) == 1


def test_health_is_well_where_what_waits_cannot_be_counted(tmp_path: Path) -> None:
    Inbox(tmp_path / "pacs" / "inbox")
    Outbox(tmp_path / "pacs" / "outbox")
    with not_permitted(tmp_path / "pacs" / "inbox", 0):
        found = health._look("pacs", health._pacs, Settings(home=tmp_path))
    assert found.ok and "could not be counted" in found.detail and "Permission" in found.detail


def test_an_object_that_cannot_be_read_is_an_attempt_at_it_alone(tmp_path: Path, caplog) -> None:
    outbox = Outbox(tmp_path)
    outbox.put(TO, "1.2", b"one")
    [odd] = outbox.waiting()
    outbox.put(TO, "1.3", b"two")
    with not_permitted(odd.item, 0):
        assert sent(outbox, arrives) == 1
        [left] = outbox.waiting()
        assert (left.item, left.attempts) == (odd.item, 1) and not outbox.due()
    assert f"The object {odd.item.name} cannot be read: PermissionError" in caplog.text


@pytest.fixture
def archive() -> object:
    """(destination, the status of each answer): an archive that takes Secondary Captures."""
    answers: list[int] = []
    ae = AE("PACS")
    ae.add_supported_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian)
    handlers = [(evt.EVT_C_STORE, lambda _: answers.pop(0))]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    yield f"PACS@127.0.0.1:{server.socket.getsockname()[1]}", answers
    server.shutdown()


def capture() -> bytes:
    made = dataset(phantom(32, 32), StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3")
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3.4"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return encoded(made)


def test_an_object_that_is_damaged_on_the_disk_is_refused_alone(archive, caplog) -> None:
    to, answers = archive
    answers += [0x0000, 0x0000]
    good = capture()
    assert sender.send(to, [b"", good, good[:200], good]) == [False, True, False, True]
    assert caplog.text.count("is damaged") == 2


def test_what_an_archive_has_already_has_arrived(archive) -> None:
    to, answers = archive
    answers += [0x0111, 0x0110]
    assert sender.send(to, [capture()] * 2) == [True, False]


DUPLICATE = b'{"00081197": {"vr": "US", "Value": [273]}}'
OTHER = b'{"00081197": {"vr": "US", "Value": [272]}}'
CONFLICT, OK = b"HTTP/1.0 409 Conflict\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "failed", "arrived"),
    [
        (CONFLICT, DUPLICATE, True),
        (OK, DUPLICATE, True),
        (CONFLICT, OTHER, False),
        (CONFLICT, DUPLICATE + b", " + OTHER, False),
        (CONFLICT, b"{}", False),
        (CONFLICT, b"", False),
        (b"HTTP/1.0 500 Error\r\n\r\n", DUPLICATE, False),
    ],
)
def test_what_a_web_server_has_already_has_arrived(
    head: bytes, failed: bytes, arrived: bool
) -> None:
    answer = b'{"00081198": {"vr": "SQ", "Value": [' + failed + b"]}}"
    with Web(head + answer).running() as url:
        assert sender.send(url, [b"DICM"]) == [arrived]
