"""C-ECHO and C-STORE (PS3.4 annexes A and B): what arrives is written before it is answered for."""

from __future__ import annotations

import logging
import shutil
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

from pydicom.uid import (
    AllTransferSyntaxes,
    ComputedRadiographyImageStorage,
    DigitalIntraOralXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from core.errors import where
from core.header import is_own
from core.pacs.fragments import Fragments
from core.pacs.inbox import Inbox
from core.pacs.study_uid import keep

log = logging.getLogger(__name__)

_CLASSES = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    DigitalIntraOralXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForPresentation,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
    SecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)
_DROPPED = tuple(
    str(c.abstract_syntax)
    for c in AllStoragePresentationContexts
    if c.abstract_syntax not in _CLASSES
)
"""Everything else that can be stored: our own replies, key objects, dose reports, CT. A router
sends them with their study, and stops there, before the next radiograph, where nobody takes them.
"""
# PS3.4 table B.2-1 and PS3.7 annex C
SUCCESS, OUT_OF_RESOURCES, DOES_NOT_MATCH, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000


@dataclass(frozen=True)
class Door:
    """Where and whom to listen to. allowed: AE titles of senders, empty for all of them.

    reserve: bytes that stay free on the disk; below it, nothing is accepted. tls: encrypts every
    association; None: none.
    """

    host: str = "127.0.0.1"
    port: int = 11112
    aet: str = "BONE"
    allowed: tuple[str, ...] = ()
    reserve: int = 2**30
    max_bytes: int = 100 * 2**20
    tls: ssl.SSLContext | None = None


def serve(door: Door, inbox: Inbox, home: Path) -> ThreadedAssociationServer:
    """Listen in threads of their own; ``shutdown()`` of what is returned ends it.

    Raises OSError where the port is taken.
    """
    ae = AE(ae_title=door.aet)
    ae.require_calling_aet = list(door.allowed)
    ae.maximum_associations = 20
    ae.add_supported_context(Verification)
    for kind in (*_CLASSES, *_DROPPED):
        ae.add_supported_context(kind, _syntaxes())
    fragments, dropped = Fragments(door.max_bytes), _Dropped()

    def taken(event: evt.Event) -> int:
        whole = fragments.taken(event)
        return SUCCESS if dropped.has(event) else _store(event, door, inbox, home, whole)

    server = ae.start_server(
        (door.host, door.port),
        block=False,
        ssl_context=door.tls,
        evt_handlers=[
            (evt.EVT_CONN_OPEN, fragments.opened),
            (evt.EVT_PDU_RECV, fragments.received),
            (evt.EVT_C_STORE, taken),
            (evt.EVT_CONN_CLOSE, dropped.tell),
            (evt.EVT_REJECTED, _tell_refused),
        ],
    )
    assert isinstance(server, ThreadedAssociationServer)
    return server


class _Dropped:
    """Objects that are no radiographs, by association: each is answered for, and none is kept."""

    def __init__(self) -> None:
        self._counts: WeakKeyDictionary[Association, int] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def has(self, event: evt.Event) -> bool:
        if event.context.abstract_syntax not in _DROPPED:
            return False
        with self._lock:
            self._counts[event.assoc] = self._counts.get(event.assoc, 0) + 1
        return True

    def tell(self, event: evt.Event) -> None:
        """EVT_CONN_CLOSE: one line, or a router that sends the wrong ones would be told of
        nowhere."""
        with self._lock:
            count = self._counts.pop(event.assoc, 0)
        if count:
            log.info("An association ended; dropped as no radiographs: %d objects.", count)


def _tell_refused(event: evt.Event) -> None:
    """What the administrator needs to know to let a sender in."""
    asked = event.assoc.requestor
    calling, called = str(asked.ae_title), str(event.assoc.acceptor.ae_title)
    log.warning("An association was refused: %r at %s called %r.", calling, asked.address, called)


def _syntaxes() -> Sequence[str]:
    """All but video, which no radiograph is encoded with."""
    return [s for s in AllTransferSyntaxes if not s.startswith("1.2.840.10008.1.2.4.10")]


def _store(event: evt.Event, door: Door, inbox: Inbox, home: Path, whole: bool = True) -> int:
    """Write one object; its status. The boundary of one file: nothing may end the association.

    whole: False for one that was too large to be gathered.
    """
    try:
        if shutil.disk_usage(home).free < door.reserve:
            log.error("The disk is nearly full: nothing is accepted.")
            return OUT_OF_RESOURCES
        if not whole:
            log.warning("An object was refused: it has more than %d bytes.", door.max_bytes)
            return CANNOT_UNDERSTAND
        return _write(event, door.max_bytes, inbox)
    except OSError as error:
        log.error("An object could not be written: %s.", type(error).__name__)
        return OUT_OF_RESOURCES
    except Exception as error:  # noqa: BLE001 - pydicom raises anything on a damaged data set
        log.warning("An object could not be understood: %s", where(error))
        return CANNOT_UNDERSTAND


def _write(event: evt.Event, max_bytes: int, inbox: Inbox) -> int:
    data = event.encoded_dataset()
    if len(data) > max_bytes:
        return CANNOT_UNDERSTAND
    header = event.dataset
    study, instance = str(header.StudyInstanceUID), str(header.SOPInstanceUID)
    announced = str(getattr(event.request, "AffectedSOPInstanceUID", ""))
    if instance != announced:
        return DOES_NOT_MATCH
    if is_own(header):  # our own reply, routed back to us
        return SUCCESS
    if not keep(inbox, study, f"{instance}.dcm", data):
        log.warning("An object was refused: its Study Instance UID cannot be kept.")
        return CANNOT_UNDERSTAND
    return SUCCESS
