"""The door of the app: who is there, which pages they see, when their session is over.

``streamlit_app.py`` goes through ``enter`` before any page runs; nothing is drawn before that.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.secrets import secrets_singleton

from core import logs
from core.access import OPEN, Access, Role, SignIns, name_of
from core.errors import AccessRefused, CascadeError, StoreUnavailable
from core.files import remove_old_leftovers
from core.settings import Settings
from pages import _audit, _retention, _streamlit, _theme

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

log = logging.getLogger(__name__)
NEEDED = {"training": Role.TRAINER, "releases": Role.ADMIN}
LOCAL = "local"  # who works at this computer, where there is no login
PROXY_HEADERS = ("X-Forwarded-For", "Forwarded", "X-Real-IP")
POLL_SECONDS = 30
ENDED = "signed-out-elsewhere"
# Of the process; not in Streamlit's cache, which any browser may have cleared.
_sign_ins = SignIns()
_had_login = threading.Event()
_had_none = threading.Event()  # was asked when no file of secrets was there, and had none


def enter(pages: Sequence[StreamlitPage]) -> list[StreamlitPage]:
    """The pages that this person may see; everybody else is stopped here with a sentence."""
    logs.request.set(secrets.token_hex(4))
    try:
        _open_the_log()
        access = _rules()
        access.check_address(st.get_option("server.address"), _proxied(), _has_login())
        _streamlit.limit_uploads(access, _may_upload)
        _streamlit.hear_clicks(_clicked)
        _streamlit.ask_nobody_for_our_address()
        role = _sign_in(access) if _has_login() else Role.ADMIN
        _say_that_it_is_open(access)
    except CascadeError as error:
        _refuse(error)
    st.session_state["role"] = role
    return [p for p in pages if role.covers(NEEDED.get(p.url_path, Role.READER))]


def way_out() -> None:
    """Who is signed in and how to sign out, at the end of every page; nothing without a login."""
    if not _has_login() or not st.user.is_logged_in:
        return
    with st.container(key="way-out", horizontal=True, vertical_alignment="center"):
        _theme.html(f"<p class='soft'>Signed in as <b>{escape(actor())}</b></p>")
        _sign_out_button()


def actor() -> str:
    """Who acts, for the audit: the subject that the provider named, or "local"."""
    if not _has_login() or not st.user.is_logged_in:
        return LOCAL
    return name_of(st.user.to_dict())[:200]


def role() -> Role:
    """The role of who acts; raises AccessRefused where ``enter`` has not let anybody in."""
    found = st.session_state.get("role")
    if not isinstance(found, Role):
        raise AccessRefused("Nobody is signed in.")
    return found


def _refuse(error: CascadeError) -> None:
    st.html(_theme.STYLE)
    log.error("Refused to serve: %s", error)
    _theme.notice(str(error))
    st.stop()


@st.cache_resource(show_spinner=False)
def _open_the_log() -> None:
    """Once in a process: the log, and what a crash left or is past its time is removed."""
    settings = Settings.from_environment()
    home = settings.home
    try:
        logs.start(home)
        removed = remove_old_leftovers(home)
    except OSError as error:
        raise StoreUnavailable(
            "The program's data folder (BONE_HOME) cannot be written."
        ) from error
    log.info("Serving; %d temporary files of crashes were removed.", removed)
    _retention.start(settings)


@st.cache_resource(show_spinner=False)
def _rules() -> Access:
    """The rules of this process, read once; raises SettingsInvalid."""
    return Access.from_environment()


def _has_login() -> bool:
    """Whether people sign in here; raises AccessRefused where that cannot be told any more.

    To Streamlit a file of secrets with a slip in it is as good as none, and it reads them anew
    while it serves: a login must not go with either.
    """
    there = any(os.path.lexists(place) for place in st.get_option("secrets.files"))
    if _had_none.is_set() and not there and not _had_login.is_set():
        return False  # Streamlit would look for a file each time anew, which takes a millisecond
    why: Exception | None = None
    try:
        if "auth" in secrets_singleton:
            _had_login.set()
            return True
    except (OSError, ValueError) as error:  # Streamlit's own is the first: no file, or a slip in it
        why = error
    if _had_login.is_set() or (why and there):
        log.error("The login cannot be read: %s", why or "secrets.toml has no [auth] any more")
        raise AccessRefused(
            "The login cannot be read from secrets.toml, so nothing is shown. The administrator "
            "finds the reason in the log."
        ) from why
    if not there:
        _had_none.set()
    return False


def _proxied() -> bool:
    headers: Mapping[str, Any] = st.context.headers
    return any(name in headers for name in PROXY_HEADERS)


def _say_that_it_is_open(access: Access) -> None:
    if access.open and not _has_login():
        _first_time(OPEN)
        _theme.notice("Anybody on the network can use this: there is no login.")


@st.cache_resource(show_spinner=False)
def _first_time(setting: str) -> None:
    log.critical("%s is set: anybody who reaches this address may use the app.", setting)


def _sign_in(access: Access) -> Role:
    """The role of who signed in; draws the sign-in page and stops where nobody has."""
    if not st.user.is_logged_in:
        _sign_in_page()
    claims = st.user.to_dict()
    if _sign_ins.is_over(claims, access, time.time()):
        _end()
    found = access.role_of(claims)
    if found is None:
        _audit.write("access.refused", actor(), why="no role")
        _sign_out_button()
        raise AccessRefused(
            "You are signed in but have no role here; an administrator can give you one."
        )
    if "signed_in" not in st.session_state:
        _audit.write("person.signed_in", actor(), role=found.value)
        st.session_state["signed_in"] = True
    _sign_ins.let_in(_session(), claims, time.time())
    st.fragment(_watch, run_every=POLL_SECONDS)(access)
    return found


def _watch(access: Access) -> None:
    """Polls while nobody clicks: what is on the screen goes when the session is over."""
    if _sign_ins.is_over(st.user.to_dict(), access, time.time()):
        if _ended_elsewhere():
            st.rerun()  # of all the page: this is a part of it
        _end()


def _session() -> str:
    context = get_script_run_ctx()
    return context.session_id if context else ""


def _end() -> None:
    """Forget everything of this session, sign out, and draw nothing more.

    Signing out takes the browser's one cookie away. Where the sign-in has ended in another tab that
    is done already, and the cookie may be that of somebody who has signed in there since.
    """
    if not _ended_elsewhere():
        _forget()
        st.stop()
    st.session_state.clear()
    st.session_state[ENDED] = True
    st.html(_theme.STYLE)
    _theme.notice("You were signed out in another tab. Reload the page to sign in again.")
    st.stop()


def _ended_elsewhere() -> bool:
    here = "signed_in" in st.session_state or ENDED in st.session_state
    return here and _sign_ins.has_ended(st.user.to_dict())


def _forget() -> None:
    _sign_ins.end(_session(), st.user.to_dict())
    st.session_state.clear()
    st.logout()


def _sign_in_page() -> None:
    st.html(_theme.STYLE)
    _theme.html(
        '<header class="page"><h1>Bone radiographs</h1>'
        f"<p>Please sign in. {_theme.RESEARCH_ONLY}.</p></header>"
    )
    st.button("Sign in", on_click=st.login, type="primary")
    st.stop()


def _sign_out_button() -> None:
    st.button("Sign out", key="sign-out", on_click=_forget, type="tertiary")


def _clicked(session_id: str) -> bool:
    return _sign_ins.clicked(session_id, _rules(), time.time())


def _may_upload(session_id: str) -> bool:
    try:
        return not _has_login() or _sign_ins.knows(session_id)
    except AccessRefused:
        return False
