"""A session without a browser: what Chromium tells the server, without drawing what it answers.

Twenty browsers on the processors of the server measure themselves. This speaks the protocol of
Streamlit's page (protobuf over a websocket, files by PUT) in a thread for each session. It answers
at once and does what the page would: it asks for a fragment again when it is to be asked, and sends
the state of the drop zone with every run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from streamlit.proto.BackMsg_pb2 import (
    BackendOperationRequest,
    BackMsg,
    DeferredFileRequestPayload,
)
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.Common_pb2 import FileURLsRequest, UploadedFileInfo
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
from websockets.sync.client import ClientConnection, connect

COOKIE = "_streamlit_xsrf"


class Client:
    """One session on the page Diagnose; not thread-safe."""

    def __init__(self, url: str, patience: float = 300.0) -> None:
        """url: of the server. patience: seconds that any one answer may take."""
        self._url, self._patience = url, patience
        self._http = httpx.Client(base_url=url, timeout=patience)
        self._leave = ExitStack()
        self._leave.callback(self._http.close)
        self._again: dict[str, tuple[float, float]] = {}  # by fragment: when next, how often
        self._known: dict[str, ForwardMsg] = {}
        self._places: list[UploadedFileInfo] = []
        self._given: list[UploadedFileInfo] = []
        self._page = self._session = self._drop_zone = ""
        self._made = ""
        self.errors: list[str] = []
        self.csv = ""

    def __enter__(self) -> Self:
        self._http.get("/_stcore/health").raise_for_status()
        token = self._http.cookies[COOKIE]
        self._socket: ClientConnection = self._leave.enter_context(
            connect(
                self._url.replace("http", "ws", 1) + "/_stcore/stream",
                subprotocols=["streamlit", token],
                origin=self._url,
                additional_headers={"Cookie": f"{COOKIE}={token}"},
                max_size=None,
            )
        )
        self._http.headers["X-Xsrftoken"] = token
        self._run()
        self._until(lambda: bool(self._drop_zone))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave.close()

    def assess(self, paths: list[Path]) -> str:
        """Drop files beside those of before; the CSV of all results once the page offers it."""
        self.csv = ""
        names = [p.name for p in paths]
        asked = FileURLsRequest(request_id="1", file_names=names, session_id=self._session)
        self._places = []
        self._send(BackMsg(file_urls_request=asked))
        self._until(lambda: bool(self._places))
        for place, path in zip(self._places, paths, strict=True):
            data = path.read_bytes()
            place.name, place.size = path.name, len(data)
            sent = self._http.put(place.file_urls.upload_url, files={"file": (path.name, data)})
            sent.raise_for_status()
        self._given += self._places
        self._run()
        self._until(lambda: bool(self.csv))
        self._made = ""
        wanted = DeferredFileRequestPayload(file_id=self.csv)
        asked = BackendOperationRequest(
            request_id="2", session_id=self._session, deferred_file=wanted
        )
        self._send(BackMsg(backend_operation_request=asked))
        self._until(lambda: bool(self._made))
        return self._http.get(self._made).raise_for_status().text

    def _run(self, fragment: str = "") -> None:
        widgets = WidgetStates()
        if self._given:
            drop_zone = WidgetState(id=self._drop_zone)
            drop_zone.file_uploader_state_value.uploaded_file_info.extend(self._given)
            widgets.widgets.append(drop_zone)
        state = ClientState(
            widget_states=widgets,
            page_script_hash=self._page,
            fragment_id=fragment,
            is_auto_rerun=bool(fragment),
        )
        self._send(BackMsg(rerun_script=state))

    def _send(self, message: BackMsg) -> None:
        self._socket.send(message.SerializeToString())

    def _until(self, reached: Callable[[], bool]) -> None:
        """Take messages, and ask for fragments when they are due, until it is so."""
        end = time.monotonic() + self._patience
        while not reached():
            now = time.monotonic()
            if now > end:
                raise TimeoutError(f"no answer in {self._patience:.0f} s")
            for fragment, (due, interval) in list(self._again.items()):
                if due <= now:
                    self._again[fragment] = now + interval, interval
                    self._run(fragment)
            next_due = min([due for due, _ in self._again.values()], default=now + 1.0)
            try:
                data = self._socket.recv(timeout=max(0.0, min(next_due, end) - time.monotonic()))
            except TimeoutError:
                continue
            assert isinstance(data, bytes)
            self._take(ForwardMsg.FromString(data))

    def _take(self, message: ForwardMsg) -> None:
        kind = message.WhichOneof("type")
        if kind == "ref_hash":
            message = self._known[message.ref_hash]
            kind = message.WhichOneof("type")
        elif message.metadata.cacheable:
            self._known[message.hash] = message
        if kind == "new_session":
            self._page = message.new_session.page_script_hash
            self._session = message.new_session.initialize.session_id
            if not message.metadata.run.fragment_ids:
                self._again.clear()  # a run of the whole page says anew what is to be asked again
        elif kind == "auto_rerun":
            interval = message.auto_rerun.interval
            self._again[message.auto_rerun.fragment_id] = time.monotonic() + interval, interval
        elif kind == "file_urls_response":
            self._places = [
                UploadedFileInfo(file_id=place.file_id, file_urls=place)
                for place in message.file_urls_response.file_urls
            ]
        elif kind == "backend_operation_response":
            if why := message.backend_operation_response.error_msg:
                self.errors.append(why)
            self._made = message.backend_operation_response.deferred_file.url
        elif kind == "delta":
            self._element(message)

    def _element(self, message: ForwardMsg) -> None:
        element = message.delta.new_element
        match element.WhichOneof("type"):
            case "file_uploader":
                self._drop_zone = element.file_uploader.id
            case "download_button" if element.download_button.label == "CSV":
                self.csv = element.download_button.deferred_file_id
            case "exception":
                self.errors.append(element.exception.message)
