"""What one association may put into memory before anybody is asked.

pynetdicom gathers the fragments of a message (PS3.8 annex E) until it is whole, however long that
gets, reads a PDU of any length, and goes on reading while a message is being answered.
"""

from __future__ import annotations

import io
import logging
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from pynetdicom.pdu import P_DATA_TF

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.events import Event

log = logging.getLogger(__name__)
MOST_PDU = 2**20  # bytes; 16,382 are agreed on
MOST_COMMAND = 2**16  # bytes of a command set, which has some hundred
MOST_WAITING = 2  # data sets that nobody has taken yet: a sender waits for each answer
_COMMAND, _LAST = 1, 2  # bits of the message control header (PS3.8 annex E.2)


@dataclass
class _Arriving:
    """Bytes of the message that is coming, and of each data set that was not taken yet."""

    command: int = 0
    data: int = 0
    waiting: deque[int] = field(default_factory=deque)


class Fragments:
    """Counts what arrives. most: bytes of a data set; what goes beyond is counted and let go.

    So an object that nobody wants is answered like any other, and its association goes on.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._arriving: WeakKeyDictionary[Association, _Arriving] = WeakKeyDictionary()
        self._lock = threading.Lock()  # associations come and go in threads of their own

    def opened(self, event: Event) -> None:
        """EVT_CONN_OPEN: no PDU is read that is longer than any that was agreed on."""
        socket = event.assoc.dul.socket
        assert socket is not None
        receive = socket.recv

        def recv(count: int) -> bytearray:
            if count > MOST_PDU:
                log.warning("A connection was ended: it announced a PDU of %d bytes.", count)
                raise OSError("a PDU that is too long")
            return receive(count)

        socket.recv = recv  # type: ignore[method-assign, assignment]

    def received(self, event: Event) -> None:
        """EVT_PDU_RECV, before its fragments are added to the message."""
        if not isinstance(event.pdu, P_DATA_TF):
            return
        arriving = self._of(event.assoc)
        size = 0
        for item in event.pdu.presentation_data_value_items:
            size = max(size, _count(arriving, item.presentation_data_value or bytes(1)))
        message = event.assoc.dimse.message
        if size > self._most and message is not None:
            message.data_set = io.BytesIO()
        if arriving.command > MOST_COMMAND or len(arriving.waiting) > MOST_WAITING:
            log.warning("An association was aborted: it sent more than it may before an answer.")
            event.assoc.abort()

    def taken(self, event: Event) -> bool:
        """EVT_C_STORE: whether its data set is all there, and not larger than it may be."""
        waiting = self._of(event.assoc).waiting
        return not waiting or waiting.popleft() <= self._most

    def _of(self, association: Association) -> _Arriving:
        with self._lock:
            return self._arriving.setdefault(association, _Arriving())


def _count(arriving: _Arriving, fragment: bytes) -> int:
    """Add one fragment; how many bytes its data set has by now, 0 for a command's."""
    header, size = fragment[0], len(fragment) - 1
    last = bool(header & _LAST)
    if header & _COMMAND:
        arriving.command = 0 if last else arriving.command + size
        return 0
    data = arriving.data + size
    arriving.data = 0 if last else data
    if last:
        arriving.waiting.append(data)
    return data
