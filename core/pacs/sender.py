"""Objects to an archive: C-STORE to ``AET@host:port``, STOW-RS to ``http(s)://…/studies``.

``AET@host:port:tls`` is C-STORE in an encrypted association.
"""

from __future__ import annotations

import http.client
import io
import json
import logging
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
)

from core.dicom_out.encoding import read_own
from core.errors import SettingsInvalid, where

log = logging.getLogger(__name__)
Item = TypeVar("Item")

_CLASSES = (
    SecondaryCaptureImageStorage,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    EncapsulatedPDFStorage,
)
_PEER = re.compile(
    r"(?P<aet>[^@\\]{1,16})@(?P<host>[\w.-]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})"
    r"(?P<tls>:tls)?"
)
TIMEOUT = 30.0
MOST_ANSWER = 2**20  # bytes that are read of one
_DUPLICATE = 0x0111
"""The archive has this object (PS3.7 annex C): ours are the same each time for the same UID."""
# Coerced elements, elements ignored: stored all the same (PS3.4 table B.2-1).
_STORED = (0x0000, 0xB000, 0xB006, 0xB007, _DUPLICATE)

# PS3.18 section 10.5.3: in the answer, what was not stored, and why.
_FAILED_SOP_SEQUENCE, _FAILURE_REASON = "00081198", "00081197"


@dataclass(frozen=True)
class Peer:
    aet: str
    host: str
    port: int
    tls: bool = False


def peer(destination: str) -> Peer | None:
    """The peer of ``AET@host:port``, None for a URL; raises SettingsInvalid for anything else."""
    if destination.startswith(("http://", "https://")):
        _checked_url(destination)
        return None
    found = _PEER.fullmatch(destination)
    if not found or not 0 < int(found["port"]) <= 65535:
        raise SettingsInvalid(f"{destination!r} is neither AET@HOST:PORT[:tls] nor a URL.")
    return Peer(found["aet"], found["host"].strip("[]"), int(found["port"]), bool(found["tls"]))


def _checked_url(url: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
        parts = urllib.parse.urlsplit("")
    if parts.username or parts.password or parts.query:
        raise SettingsInvalid(
            "A URL to send to holds no password and no query; put the header into "
            "BONE_STOW_AUTHORIZATION."
        )
    if not usable:
        raise SettingsInvalid("The URL to send to has no valid host and port.")


def send(
    destination: str,
    items: Sequence[bytes],
    calling: str = "BONE",
    tls: ssl.SSLContext | None = None,
    authorization: str = "",
) -> list[bool | None]:
    """Which of the objects arrived; None for those that were not tried, behind one that ended the
    association or had no answer. Never raises for what the network or the peer does.

    tls: for destinations that ask for it, and for an ``https://`` URL, whose certificate is
    otherwise one that this computer trusts. authorization: the header that STOW-RS is sent with,
    such as ``Bearer …``; "" for none.
    """
    to = peer(destination)
    if to is None:
        return _stow_all(destination, items, tls, authorization)
    return _store(to, items, calling, tls)


def _store(
    to: Peer, items: Sequence[bytes], calling: str, tls: ssl.SSLContext | None
) -> list[bool | None]:
    if to.tls and tls is None:  # never in the clear what was to be encrypted
        log.error("There is no certificate to trust for an encrypted destination.")
        return [False] * len(items)
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = TIMEOUT
    # The implicit one is DICOM's default, which must be offered (PS3.5 section 10.1).
    syntaxes: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    association = ae.associate(
        to.host,
        to.port,
        contexts=[build_context(c, syntaxes) for c in _CLASSES],
        ae_title=to.aet,
        tls_args=(tls, to.host) if to.tls and tls else None,
    )
    if not association.is_established:
        log.warning("%s@%s:%d does not answer or refuses the connection.", to.aet, to.host, to.port)
        return [False] * len(items)
    try:
        return _in_turn(items, lambda item: _one(association, item))
    finally:
        if association.is_established:
            association.release()


def _in_turn(items: Sequence[Item], send: Callable[[Item], bool | None]) -> list[bool | None]:
    """Which of them arrived. send: None where there was no answer: the others are not tried."""
    arrived: list[bool | None] = []
    for item in items:
        stored = send(item)
        arrived.append(bool(stored))
        if stored is None:
            break
    return arrived + [None] * (len(items) - len(arrived))


def _one(association: Association, data: bytes) -> bool | None:
    """One object by C-STORE; None where the association ended. The boundary of one object: one that
    is empty or damaged on the disk is refused like one that the archive does not take."""
    try:
        item = read_own(data)
        if not (item.SOPClassUID and item.SOPInstanceUID):
            raise ValueError("no UIDs")
    except Exception as error:  # noqa: BLE001 - pydicom raises anything on a damaged file
        log.error("An object that waits to be sent is damaged: %s", where(error))
        return False
    try:
        status = association.send_c_store(item)
    except (RuntimeError, ValueError) as error:  # the peer went away, or takes no such class
        kind = item.get("Modality")
        log.warning("An object (%s) could not be sent: %s.", kind, type(error).__name__)
        return None if isinstance(error, RuntimeError) else False
    stored = _is_stored(status)
    return stored if "Status" in status else None


def _is_stored(status: Dataset) -> bool:
    code = status.get("Status")
    if code not in _STORED:
        said = "no answer" if code is None else f"status {code:04X}"
        log.warning("The archive did not store an object (%s).", said)
    return code in _STORED


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST becomes a GET, and the page of a login would look like success."""

    def redirect_request(self, *_: object) -> None:
        return None


def _refused(answer: bytes) -> list[object]:
    """Why each object that an answer names was not stored; one in another form names none."""
    try:
        failed = json.loads(answer)[_FAILED_SOP_SEQUENCE]["Value"]
        return [_reason(item) for item in failed]
    except (ValueError, LookupError, TypeError):  # Orthanc has the sequence always, empty
        return []


def _reason(item: object) -> object:
    try:
        return item[_FAILURE_REASON]["Value"][0]  # type: ignore[index]
    except (LookupError, TypeError):
        return None


def _is_there(status: int, answer: bytes) -> bool:
    """Whether the archive has the object: it stored it now, or had it already."""
    refused = _refused(answer)
    if refused:
        return all(reason == _DUPLICATE for reason in refused) and status in (200, 202, 409)
    return status in (200, 202)


def _stow_all(
    url: str, items: Sequence[bytes], tls: ssl.SSLContext | None, authorization: str
) -> list[bool | None]:
    handlers = [_NoRedirect(), *([urllib.request.HTTPSHandler(context=tls)] if tls else [])]
    opener = urllib.request.build_opener(*handlers)
    return _in_turn(items, lambda data: _stow(opener, url, data, authorization))


def _body(error: Exception) -> bytes:
    """What stands in an answer that urllib raises, which is one too."""
    if not isinstance(error, urllib.error.HTTPError):
        return b""
    try:
        return error.read(MOST_ANSWER)
    except (OSError, http.client.HTTPException, ValueError):
        return b""


def _stow(
    opener: urllib.request.OpenerDirector, url: str, data: bytes, authorization: str
) -> bool | None:
    """One object by STOW-RS (PS3.18 section 10.5); None where there was no answer."""
    boundary = uuid.uuid4().hex
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = io.BytesIO(head + data + f"\r\n--{boundary}--\r\n".encode()).getvalue()
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
    if authorization:
        headers["Authorization"] = authorization
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with opener.open(request, timeout=TIMEOUT) as answer:
            stored = _is_there(answer.status, answer.read(MOST_ANSWER))
            if not stored:
                log.warning("The archive did not store an object (HTTP %d).", answer.status)
            return stored
    except (OSError, http.client.HTTPException, ValueError) as error:
        code = getattr(error, "code", None)
        if code is not None and _is_there(code, _body(error)):
            return True
        host = urllib.parse.urlsplit(url).hostname
        reason = getattr(error, "reason", error)  # what urllib wrapped
        if isinstance(reason, ssl.SSLCertVerificationError):
            log.error("The certificate of %s is not trusted: %s.", host, reason.verify_message)
            return None
        if code is None:
            log.warning("%s does not answer (%s).", host, type(reason).__name__)
            return None
        log.warning("%s did not store an object (HTTP %s).", host, code)
    return False
