"""What stands in the place of Streamlit's own parts, or leans on what it keeps to itself.

requirements.txt names the one version that this was tried with; a newer one may do all of it
otherwise.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import streamlit as st
from streamlit import net_util, runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx

from core.access import Access, check_room
from core.errors import AccessRefused
from core.settings import Settings

if TYPE_CHECKING:
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.runtime.uploaded_file_manager import UploadedFileRec

log = logging.getLogger(__name__)
_patching = threading.Lock()


def hear_clicks(clicked: Callable[[str], bool]) -> None:
    """Note what somebody does in a session that was let in, and let it be done in no other.

    clicked: told the id of the session, it says whether that is let in still.

    Only the browser's message tells: a click that runs a fragment alone goes past ``enter``, and
    what a page asks for by itself, or every few seconds, is nobody's click. What a button does is
    done before the script runs, so where the sign-in is over the message must say nothing of it:
    then the whole script runs, and ``enter`` ends the session.
    """
    from streamlit.runtime.app_session import AppSession

    with _patching:
        if hasattr(AppSession, "hears_clicks"):
            return
        handle = AppSession.handle_backmsg

        def handle_backmsg(self: AppSession, msg: BackMsg) -> None:
            asked = msg.WhichOneof("type") == "rerun_script"
            if asked and not msg.rerun_script.is_auto_rerun and not clicked(self.id):
                for what in ("widget_states", "fragment_id"):
                    msg.rerun_script.ClearField(what)
            handle(self, msg)

        AppSession.handle_backmsg = handle_backmsg  # type: ignore[method-assign]
        AppSession.hears_clicks = True  # type: ignore[attr-defined]


def ask_nobody_for_our_address() -> None:
    """Where a websocket comes from a foreign origin, Streamlit asks a server on the internet which
    address this computer has, to compare the two. Here it has none but those in the settings."""
    net_util.get_external_ip = lambda: None


def limit_uploads(access: Access, may_upload: Callable[[str], bool]) -> None:
    """Refuse an upload that is too much, or whose sender was not let in.

    may_upload: says it of the id of a session.

    Streamlit only has a limit for one file, keeps every file in memory, and takes one from each
    session, that of the sign-in page too; so the check stands where its upload endpoint stores one.
    Raises AccessRefused for a version that cannot be guarded so.
    """
    from starlette.exceptions import HTTPException

    here = runtime.get_instance()
    manager = here.uploaded_file_mgr
    if not isinstance(manager, MemoryUploadedFileManager):
        if type(here) is runtime.Runtime:  # a server's, not the stand-in that AppTest has
            raise AccessRefused(
                "The uploads of this version of Streamlit cannot be limited here; requirements.txt "
                "names a version that works."
            )
        return
    with _patching:
        if hasattr(manager, "limited"):
            return
        keep, most = manager.add_file, Settings.from_environment().limits.max_bytes

        def add_file(session_id: str, file: UploadedFileRec) -> None:
            if not may_upload(session_id):
                log.warning("An upload of somebody who is not signed in was refused.")
                raise HTTPException(401, "Please sign in.")
            # Streamlit knows one limit for all uploads, that of a release, which is a ZIP archive.
            if len(file.data) > most and not file.name.lower().endswith(".zip"):
                log.warning(
                    "An upload of %d bytes was refused: a picture has less.", len(file.data)
                )
                raise HTTPException(413, "The file is larger than this program accepts.")
            sizes = {s: [len(f.data) for f in kept.values()] for s, kept in _kept(manager)}
            try:
                every = [n for session in sizes.values() for n in session]
                check_room(len(file.data), sizes.get(session_id, ()), every, access)
            except AccessRefused as error:
                log.warning("An upload of %d bytes was refused: %s", len(file.data), error)
                raise HTTPException(413, str(error)) from error
            keep(session_id, file)

        manager.add_file = add_file  # type: ignore[method-assign]
        manager.limited = True  # type: ignore[attr-defined]


def _kept(manager: Any) -> list[tuple[str, dict[str, UploadedFileRec]]]:
    """A copy, because sessions come and go meanwhile."""
    return [(session, dict(files)) for session, files in list(manager.file_storage.items())]


def give_back(ids: Iterable[str]) -> None:
    """Free the memory of uploads of this session that are not needed any more.

    Streamlit itself lets one go where a reader takes it out of its widget, and at the end of the
    session; not where the widget is gone.
    """
    context = get_script_run_ctx()
    if not runtime.exists() or context is None:
        return
    manager = runtime.get_instance().uploaded_file_mgr
    if not isinstance(manager, MemoryUploadedFileManager):  # the one that can let a file go
        return
    for one in ids:
        manager.remove_file(session_id=context.session_id, file_id=one)


def through_navigation() -> None:
    """Run again from streamlit_app.py where this page was opened around it.

    Until ``st.navigation`` has run once in a server, Streamlit takes every file in a folder named
    pages for a page of its old kind, and an address such as /training opens the file by itself.
    """
    from streamlit.runtime.pages_manager import PagesManager

    if PagesManager.uses_pages_directory:
        PagesManager.uses_pages_directory = False
        st.rerun()
