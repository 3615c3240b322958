"""Objects to an archive: C-STORE to ``AET@host:port``, STOW-RS to ``http(s)://…/studies``."""

from __future__ import annotations

import io
import logging
import re
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
)

from core.dicom_out.reply import read_own
from core.errors import SettingsInvalid

log = logging.getLogger(__name__)

_CLASSES = (
    SecondaryCaptureImageStorage,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    EncapsulatedPDFStorage,
)
_PEER = re.compile(r"(?P<aet>[^@\\]{1,16})@(?P<host>[\w.-]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")
TIMEOUT = 30.0
# Coerced elements, elements ignored: stored all the same (PS3.4 table B.2-1).
_STORED = (0x0000, 0xB000, 0xB006, 0xB007)


@dataclass(frozen=True)
class Peer:
    aet: str
    host: str
    port: int


def peer(destination: str) -> Peer | None:
    """The peer of ``AET@host:port``, None for a URL; raises SettingsInvalid for anything else."""
    if destination.startswith(("http://", "https://")):
        return None
    found = _PEER.fullmatch(destination)
    if not found:
        raise SettingsInvalid(f"{destination!r} is neither AET@HOST:PORT nor a URL.")
    return Peer(found["aet"], found["host"].strip("[]"), int(found["port"]))


def send(destination: str, items: Sequence[bytes], calling: str = "BONE") -> list[bool]:
    """Which of the objects arrived. Never raises for what the network or the peer does."""
    to = peer(destination)
    if to is None:
        return [_stow(destination, data) for data in items]
    return _store(to, [read_own(data) for data in items], calling)


def _store(to: Peer, items: Sequence[Dataset], calling: str) -> list[bool]:
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = TIMEOUT
    contexts = [build_context(c, ExplicitVRLittleEndian) for c in _CLASSES]
    association = ae.associate(to.host, to.port, contexts=contexts, ae_title=to.aet)
    if not association.is_established:
        log.warning("The archive does not answer or refuses the connection.")
        return [False] * len(items)
    arrived = []
    try:
        for item in items:
            arrived.append(_is_stored(association.send_c_store(item)))
    except (RuntimeError, ValueError) as error:  # the peer went away, or took no such class
        log.warning("An object could not be sent: %s.", type(error).__name__)
    finally:
        if association.is_established:
            association.release()
    return [*arrived, *[False] * (len(items) - len(arrived))]


def _is_stored(status: Dataset) -> bool:
    code = status.get("Status")
    if code not in _STORED:
        log.warning("The archive did not store an object (status %s).", code)
    return code in _STORED


def _stow(url: str, data: bytes) -> bool:
    """One object by STOW-RS (PS3.18 section 10.5)."""
    boundary = uuid.uuid4().hex
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = io.BytesIO(head + data + f"\r\n--{boundary}--\r\n".encode()).getvalue()
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            if answer.status == 200:
                return True
            log.warning("The archive did not store an object (HTTP %d).", answer.status)
    except (OSError, urllib.error.URLError) as error:
        code = getattr(error, "code", type(error).__name__)
        log.warning("The archive did not store an object (HTTP %s).", code)
    return False
