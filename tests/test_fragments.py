"""What a sender may put into the listener's memory, and which UIDs are taken."""

from __future__ import annotations

import gc
import io
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE

from core.pacs import listener
from core.pacs.inbox import Inbox
from core.pacs.listener import Door, serve
from tests.waiting import eventually

DX = DigitalXRayImageStorageForPresentation
MOST = 2**18


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "inbox")


@contextmanager
def associated(inbox: Inbox, tmp_path: Path) -> Iterator[Association]:
    server = serve(Door(port=0, reserve=0, max_bytes=MOST), inbox, tmp_path)
    try:
        ae = AE()
        for kind in (DX, CTImageStorage):
            ae.add_requested_context(kind, ExplicitVRLittleEndian)
        port = server.socket.getsockname()[1]
        association = ae.associate("127.0.0.1", port, ae_title="BONE")
        assert association.is_established
        yield association
        if association.is_established:
            association.release()
    finally:
        server.shutdown()
        # pynetdicom leaves a socket that the other side closed first to the garbage collector,
        # which warns of it, in whatever test it comes by
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            association = None
            gc.collect()


def item(size: int, kind: str = DX) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID, made.StudyInstanceUID = kind, "1.2.3.4", "1.2.3"
    made.add_new("PixelData", "OB", bytes(size))
    return made


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes of a data set were in memory after each PDU, and room for the largest."""
    most = [0]
    decode = DIMSEMessage.decode_msg

    def measured(message: DIMSEMessage, *given: object) -> bool:
        whole = decode(message, *given)  # type: ignore[arg-type]
        most[0] = max(most[0], len(message.data_set.getbuffer()))
        return whole

    monkeypatch.setattr(DIMSEMessage, "decode_msg", measured)
    return most


def test_a_data_set_beyond_the_limit_is_let_go_and_answered(
    inbox: Inbox, tmp_path: Path, held: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with associated(inbox, tmp_path) as association:
        assert association.send_c_store(item(8 * MOST)).Status == 0xC000
        assert association.send_c_store(item(8 * MOST, CTImageStorage)).Status == 0x0000
        assert association.send_c_store(item(MOST // 2)).Status == 0x0000
    assert [study.key for study in inbox.due(0)] == ["1.2.3"]
    assert f"more than {MOST} bytes" in caplog.text
    assert MOST // 2 < held[0] < MOST + 2**17


def test_who_waits_for_no_answer_is_sent_away(
    inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    """An object is being answered, and others come without end."""
    answering = threading.Event()
    monkeypatch.setattr(listener, "_write", lambda *_: answering.wait(20) and 0)
    with associated(inbox, tmp_path) as association:
        request = C_STORE()
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = DX, "1.2.3.4"
        request.Priority, request.DataSet = 0, io.BytesIO(bytes(100))
        context = next(c for c in association.accepted_contexts if c.abstract_syntax == DX)
        for number in range(1, 9):
            request.MessageID = number
            association.dimse.send_msg(request, context.context_id)
        eventually(lambda: not association.is_established)
        answering.set()
    assert "it sent more than it may" in caplog.text


def pdu(size: int) -> bytes:
    """The beginning of a P-DATA-TF that announces this many bytes."""
    return struct.pack(">BBL", 4, 0, size)


@pytest.mark.parametrize("what", ["a PDU", "a command"])
def test_neither_a_pdu_nor_a_command_without_end_is_gathered(
    inbox: Inbox, tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    with associated(inbox, tmp_path) as association:
        raw = association.dul.socket.socket
        if what == "a PDU":
            raw.sendall(pdu(2**31))
        else:
            context = association.accepted_contexts[0].context_id
            fragment = struct.pack(">LBB", 2 + 10_000, context, 1) + bytes(10_000)
            for _ in range(20):
                raw.sendall(pdu(len(fragment)) + fragment)
        eventually(lambda: not association.is_established)
    said = "announced a PDU" if what == "a PDU" else "it sent more than it may"
    assert said in caplog.text


@pytest.mark.filterwarnings("ignore")  # as `core listen` does: pydicom warns of them
def test_a_study_uid_that_cannot_be_kept_is_refused(inbox: Inbox, tmp_path: Path) -> None:
    """On PostgreSQL one with a NUL in it was assessed for ever."""
    with associated(inbox, tmp_path) as association:
        for uid in ("1.2\0 3", "1" * 65):
            made = item(10)
            made["StudyInstanceUID"]._value = uid  # else pydicom warns
            assert association.send_c_store(made).Status == 0xC000
    assert not list(inbox.due(0))
