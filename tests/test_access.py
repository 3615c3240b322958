"""The door of the app: addresses, roles, idle sessions, upload limits, and what the audit says."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st
from starlette.exceptions import HTTPException
from streamlit.runtime import Runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFileRec
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from core.access import (
    OPEN,
    OPEN_MEANS,
    Access,
    Role,
    SignIns,
    check_room,
    is_loopback,
    is_stale,
    may_be_called,
    name_of,
)
from core.errors import AccessRefused, SettingsInvalid
from core.settings import ROOT, Settings
from core.store import Store
from pages import _access, _streamlit
from tests.simulated import encoded, phantom

APP = str(ROOT / "streamlit_app.py")
UNVERIFIED = (False, "false", "False", 0, "", None, "no")


pytestmark = pytest.mark.usefixtures("fresh_app")


def listens(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    monkeypatch.setattr(
        st, "get_option", lambda key, get=st.get_option: address if "address" in key else get(key)
    )


def text(app: AppTest) -> str:
    return "\n".join(str(e.proto.body) for e in app.get("html"))


def events() -> list[tuple[str, str, dict[str, object]]]:
    store = Store.open(Settings.from_environment())
    lines = store.audit_lines()
    assert store.verify_audit().problems == ()
    store.close()
    return [(line.event, line.actor, json.loads(line.facts)) for line in lines]


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        (None, False),
        ("", False),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.4", False),
        ("localhost.example.org", False),
    ],
)
def test_loopback(address: str | None, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_other_addresses_and_proxies_need_a_login() -> None:
    access = Access()
    access.check_address("127.0.0.1", proxied=False, login=False)
    access.check_address(None, proxied=True, login=True)
    Access(open=True).check_address(None, proxied=True, login=False)
    for address, proxied in ((None, False), ("0.0.0.0", False), ("127.0.0.1", True)):
        with pytest.raises(AccessRefused, match="no login"):
            access.check_address(address, proxied, login=False)


def test_the_override_is_named_and_has_one_value() -> None:
    assert Access.from_environment({OPEN: OPEN_MEANS}).open
    assert not Access.from_environment({}).open
    for value in ("1", "true", "yes"):
        with pytest.raises(SettingsInvalid, match=OPEN):
            Access.from_environment({OPEN: value})


def test_roles_by_claim_and_by_list() -> None:
    access = Access.from_environment(
        {"BONE_READERS": "a@x.org, B@x.org", "BONE_ADMINS": "sub-7", "BONE_ROLES_CLAIM": "groups"}
    )
    assert access.role_of({"sub": "1", "email": "A@X.org"}) is Role.READER
    for said in (True, "true", "True"):
        claims = {"sub": "1", "email": "a@x.org", "email_verified": said}
        assert access.role_of(claims) is Role.READER
    assert access.role_of({"sub": "SUB-7"}) is Role.ADMIN
    assert access.role_of({"sub": "1", "groups": ["trainer", "staff"]}) is Role.TRAINER
    assert access.role_of({"sub": "1", "groups": "reader"}) is Role.READER
    assert access.role_of({"sub": "1", "email": "b@x.org", "groups": ["admin"]}) is Role.ADMIN
    for claims in (
        {},
        {"sub": "", "email": ""},
        {"sub": "1", "email": "c@x.org"},
        {"sub": "1", "roles": ["admin"]},
        *({"sub": "1", "email": "a@x.org", "email_verified": v} for v in UNVERIFIED),
        {"sub": "1", "groups": "administrator"},
    ):
        assert access.role_of(claims) is None
    assert Role.ADMIN.covers(Role.READER) and not Role.READER.covers(Role.TRAINER)


def test_sessions_end() -> None:
    access = Access.from_environment({"BONE_IDLE_MINUTES": "10"})
    assert not access.is_idle(1000.0, 1000.0 + 599)
    assert access.is_idle(1000.0, 1000.0 + 601)
    assert is_stale({"iat": 0}, 12 * 3600 + 1)
    assert not is_stale({"iat": 0}, 12 * 3600 - 1) and not is_stale({}, 1e9)
    with pytest.raises(SettingsInvalid, match="BONE_IDLE_MINUTES"):
        Access.from_environment({"BONE_IDLE_MINUTES": "0"})


def test_room_for_a_session_and_for_all() -> None:
    access = Access(session_bytes=10, process_bytes=15)
    check_room(4, [6], [6], access)
    with pytest.raises(AccessRefused, match="session"):
        check_room(5, [6], [6], access)
    with pytest.raises(AccessRefused, match="no room"):
        check_room(5, [1], [1, 10], access)


def test_time_runs_on_for_a_sign_in_whose_tab_was_closed() -> None:
    access, people = Access(idle_minutes=10), SignIns()
    me, later = {"sub": "1", "iat": 0}, {"sub": "1", "iat": 5000}
    people.let_in("a tab", me, 100)
    assert people.clicked("a tab", access, 500)
    assert not people.is_over(me, access, 1100)  # as a reload asks, in a session of its own
    people.let_in("another tab", me, 1100)
    assert people.clicked("a stranger's", access, 1600)  # who was not let in may sign in
    assert people.is_over(me, access, 1701)
    assert not people.clicked("a tab", access, 1701)
    assert people.is_over(me, access, 1702)  # too late: it does not come back
    assert not people.is_over(later, access, 5100)  # who signs in anew
    people.end("another tab", me)
    people.let_in("new", later, 5000)
    people.end("new", later)
    assert people.is_over(later, access, 5001)  # signed out, so a kept cookie opens nothing
    assert not people.knows("new")
    # After a restart, all that is known is when the token was issued.
    assert SignIns().is_over(me, access, 601) and not SignIns().is_over(me, access, 599)


def test_the_memory_of_sign_ins_is_bounded_and_nobody_is_locked_out() -> None:
    access, people = Access(idle_minutes=10), SignIns(most=3)
    for n in range(9):
        people.let_in(f"tab {n}", {"sub": str(n), "iat": 0}, n)
    assert [people.knows(f"tab {n}") for n in range(9)] == 6 * [False] + 3 * [True]
    assert people.is_over({"sub": "0", "iat": 0}, access, 700)
    dateless = {"sub": "no date"}
    people.let_in("dateless", dateless, 100)
    assert people.is_over(dateless, access, 1000)
    people.end("dateless", dateless)
    assert not people.is_over(dateless, access, 1001)  # has signed in again
    assert not people.clicked("dateless", access, 1001)
    people.let_in("dateless", dateless, 1002)
    assert people.clicked("dateless", access, 1003)
    for n in range(5):
        people.end(f"gone {n}", {"sub": "1", "iat": 0})
    assert len(people._ended) == 3


def test_an_unverified_address_signs_nothing() -> None:
    claims = {"sub": "sub-1", "email": "chief@x.org"}
    assert name_of(claims) == name_of(claims | {"email_verified": True}) == "chief@x.org"
    assert {name_of(claims | {"email_verified": v}) for v in UNVERIFIED} == {"sub-1"}
    assert name_of({"email": None, "sub": None}) == "unknown"


@pytest.mark.parametrize(
    "name", ["listener", " Program ", "SYSTEM", "local", "a\nb", "a\tb", "a\x85b", "a\u2028b"]
)
def test_nobody_is_called_as_the_program_or_on_two_lines(name: str) -> None:
    assert not may_be_called(name)
    assert may_be_called("Jürgen O'Neill-王 (2)") and may_be_called("Listener-Smith")


# The app


def test_on_this_computer_everything_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    listens(monkeypatch, "127.0.0.1")
    app = AppTest.from_file(APP, default_timeout=180).run()
    assert not app.exception and app.file_uploader
    assert app.session_state["role"] is Role.ADMIN
    app.run()  # the second drawing, as the browser asks for by itself
    assert events() == [("app.started", "system", {"release": "champion"})]


@pytest.mark.parametrize("address", [None, "0.0.0.0", "10.0.0.3"])
def test_elsewhere_nothing_is_shown_without_a_login(
    address: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    listens(monkeypatch, address)
    app = AppTest.from_file(APP, default_timeout=180).run()
    assert "no login" in text(app)
    assert not app.file_uploader and not app.button and "role" not in app.session_state
    assert "Refused to serve" in caplog.text


def test_the_override_is_loud(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    listens(monkeypatch, "0.0.0.0")
    monkeypatch.setenv(OPEN, OPEN_MEANS)
    app = AppTest.from_file(APP, default_timeout=180).run()
    assert app.file_uploader and "Anybody on the network" in text(app)
    assert any(r.levelname == "CRITICAL" and OPEN in r.message for r in caplog.records)


def test_a_picture_and_its_result_are_in_the_audit(home: Path) -> None:
    app = AppTest.from_file(APP, default_timeout=180).run()
    picture = encoded(phantom(200, 160), "PNG")
    app.file_uploader[0].set_value([("Doe_Jane.png", picture, "image/png")])
    app.run()
    said = events()
    assert [e for e, _, _ in said] == ["app.started", "image.opened", "result.shown"]
    assert {a for _, a, _ in said[1:]} == {_access.LOCAL}
    assert said[1][2]["sha256"] == said[2][2]["sha256"] and said[2][2]["release"] == "random"
    assert "Doe" not in json.dumps(said)


def test_what_cannot_be_written_is_not_done(home: Path) -> None:
    app = AppTest.from_file(APP, default_timeout=180).run().run()
    database = home / "bone.sqlite"
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TABLE audit_head")
    app.file_uploader[0].set_value([("a.png", encoded(phantom(200, 160), "PNG"), "image/png")])
    app.run()
    assert not app.exception
    assert "could not be read or written" in text(app)
    assert 'class="finding' not in text(app) and "Body part" not in text(app)


def test_a_foreign_origin_is_refused_and_nobody_on_the_internet_is_asked(monkeypatch):
    from streamlit import net_util
    from streamlit.web.server import server_util

    asked = []
    monkeypatch.setattr(net_util, "get_external_ip", lambda: asked.append("the internet"))
    assert not server_util.is_url_from_allowed_origins("http://elsewhere.example")
    assert asked  # without the app it is, so this test would see it
    asked.clear()
    AppTest.from_file(APP, default_timeout=180).run()
    assert not server_util.is_url_from_allowed_origins("http://elsewhere.example")
    assert not asked


AUTH = '[auth]\nredirect_uri = "https://x/oauth2callback"\ncookie_secret = "a"\n'
SLIP = AUTH.replace('callback"', "callback")


@pytest.fixture
def secrets_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The path of secrets.toml, of which Streamlit has read nothing."""
    file, secrets_singleton = tmp_path / "secrets.toml", _access.secrets_singleton
    given = st.get_option
    monkeypatch.setattr(
        "streamlit.config.get_option", lambda k: [str(file)] if k == "secrets.files" else given(k)
    )
    monkeypatch.setattr(st, "get_option", lambda k: [str(file)] if "secrets" in k else given(k))
    for name in ("_had_login", "_had_none"):
        monkeypatch.setattr(_access, name, threading.Event())
    secrets_singleton._reset()
    yield file
    secrets_singleton._reset()


def changed(file: Path, text: str | bytes | None) -> None:
    """Write a file of secrets, or remove it, and let Streamlit's watcher see that."""
    if text is None:
        file.unlink()
    else:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with suppress(OSError, ValueError):
        _access.secrets_singleton._on_secrets_changed(str(file))


def test_a_login_that_was_seen_does_not_go(secrets_file: Path, caplog) -> None:
    assert not _access._has_login()  # there is no file
    changed(secrets_file, 'other = "x"')
    assert not _access._has_login()
    changed(secrets_file, AUTH)
    assert _access._has_login()
    for slip in (SLIP, "", 'other = "x"', b"\xff\xfe", None):
        changed(secrets_file, slip)
        with pytest.raises(AccessRefused, match=r"secrets\.toml"):
            _access._has_login()
        assert not _access._may_upload("anybody")
        changed(secrets_file, AUTH)
        assert _access._has_login()
    assert "parsing secrets file" in caplog.text and "has no [auth] any more" in caplog.text


def test_a_login_that_streamlit_has_read_stays_where_its_file_goes(secrets_file: Path) -> None:
    """Nobody has asked for it yet: that no file is there is no answer by itself."""
    changed(secrets_file, AUTH)
    assert "auth" in _access.secrets_singleton
    secrets_file.unlink()
    assert _access._has_login()


def test_no_login_is_looked_for_again_and_again_where_no_file_is(
    secrets_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took a tenth of the time in which a page is drawn."""
    looked = []
    parse = type(_access.secrets_singleton)._parse

    def parsed(self: object, *args: object) -> object:
        looked.append(args)
        return parse(self, *args)

    monkeypatch.setattr(type(_access.secrets_singleton), "_parse", parsed)
    assert [_access._has_login() for _ in range(20)] == [False] * 20
    assert len(looked) == 1
    changed(secrets_file, AUTH)
    assert _access._has_login()


@pytest.mark.parametrize("slip", [SLIP, b"\xff\xfe"])
def test_a_slip_in_the_secrets_at_the_start_is_no_way_in(
    secrets_file: Path, slip: str | bytes
) -> None:
    changed(secrets_file, slip)
    app = AppTest.from_file(APP, default_timeout=180).run()
    assert "The login cannot be read" in text(app) and not app.exception
    assert not app.file_uploader and "role" not in app.session_state


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, float]]:
    """A login whose provider made everybody an admin; "now" is what the clock shows."""
    clock = {"now": 1_000_000.0}
    monkeypatch.setattr(_access, "_has_login", lambda: True)
    monkeypatch.setattr(_access, "_sign_ins", SignIns())
    monkeypatch.setattr(_access, "time", SimpleNamespace(time=lambda: clock["now"]))
    yield clock


def signed_in(since: float, role: str = "admin") -> AppTest:
    app = AppTest.from_file(APP, default_timeout=180)
    app.user = {"is_logged_in": True, "sub": "1", "roles": [role], "iat": since}
    return app


@pytest.mark.parametrize(
    ("role", "hidden"),
    [(Role.READER, {"training", "releases"}), (Role.TRAINER, {"releases"}), (Role.ADMIN, set())],
)
def test_pages_by_role(
    role: Role, hidden: set[str], login: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    offered: list[str] = []

    def navigation(pages: list[Any], **options: str) -> Any:
        offered[:] = [page.url_path for page in pages]
        return made(pages, **options)

    made = st.navigation
    monkeypatch.setattr(st, "navigation", navigation)
    app = signed_in(login["now"], role.value).run()
    assert set(offered) == {"", "batch", "review", "training", "metrics", "releases"} - hidden
    assert app.session_state["role"] is role
    assert ("person.signed_in", "1", {"role": role.value}) in events()
    for name in ("training", "releases"):
        app._page_hash = calc_hash(name)  # as a browser may ask, whatever it was offered
        app.run()
        assert (f"<h1>{name.title()}</h1>" in text(app)) is (name not in hidden)


def test_a_new_tab_is_as_idle_as_the_one_that_was_closed(login: dict[str, float]) -> None:
    start = login["now"]
    assert signed_in(start).run().file_uploader
    login["now"] += 20 * 60
    assert signed_in(start).run().file_uploader
    login["now"] += 31 * 60
    app = signed_in(start).run()
    assert not app.file_uploader and "role" not in app.session_state
    assert signed_in(login["now"]).run().file_uploader  # after a new sign-in
    _access._sign_ins = SignIns()  # a restart
    assert not signed_in(start).run().file_uploader


def test_a_tab_that_was_signed_out_elsewhere_leaves_the_cookie_alone(
    login: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be that of somebody who has signed in since."""
    start, logged_out = login["now"], []
    other = signed_in(start).run()
    assert other.file_uploader
    monkeypatch.setattr("streamlit.logout", lambda: logged_out.append(1))
    _access._sign_ins.end("another tab", {"sub": "1", "iat": start})
    for _ in range(2):
        other.run()
        assert not other.file_uploader and "role" not in other.session_state
        assert "signed out in another tab" in "\n".join(
            str(h.proto.body) for h in other.get("html")
        )
    assert not logged_out
    signed_in(start).run()  # a reload with the old cookie, which is there still
    assert logged_out


def test_a_sign_in_that_cannot_be_written_does_not_happen(
    login: dict[str, float], home: Path
) -> None:
    stranger = signed_in(login["now"])
    stranger.user |= {"sub": "2", "roles": []}
    stranger.run()
    assert ("access.refused", "2", {"why": "no role"}) in events()
    with sqlite3.connect(home / "bone.sqlite") as connection:
        connection.execute("DROP TABLE audit_head")
    app = signed_in(login["now"]).run()
    assert not app.exception and "could not be read or written" in text(app)
    assert not app.file_uploader and "role" not in app.session_state
    assert not _access._sign_ins.knows("test session id")  # nor does it upload


def test_a_click_counts_in_a_fragment_and_a_poll_does_not(login: dict[str, float]) -> None:
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.runtime.app_session import AppSession

    start, handled = login["now"], []
    app = signed_in(start).run()
    session = SimpleNamespace(id="test session id", _handle_rerun_script_request=handled.append)
    poll, click = BackMsg(), BackMsg()
    poll.rerun_script.is_auto_rerun = True
    click.rerun_script.fragment_id = "one part of the page"
    for message in (click, poll):
        login["now"] += 20 * 60
        AppSession.handle_backmsg(session, message)
    assert len(handled) == 2
    assert app.run().file_uploader  # a run that the page asks for itself
    login["now"] += 11 * 60
    assert not app.run().file_uploader


@pytest.mark.parametrize(
    "how", ["idle", "signed out elsewhere", "signed out here", "for too long", None]
)
def test_no_button_works_once_the_sign_in_is_over(login: dict[str, float], how: str | None) -> None:
    """Streamlit does what a button does before the script runs, which would end the session."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.runtime.app_session import AppSession

    start, handled = login["now"], []
    claims = {"sub": "1", "iat": start}
    signed_in(start).run()
    session = SimpleNamespace(id="test session id", _handle_rerun_script_request=handled.append)
    if how == "idle":
        login["now"] += 31 * 60
    elif how == "signed out elsewhere":
        _access._sign_ins.end("another tab", claims)
    elif how == "signed out here":
        _access._sign_ins.end("test session id", claims)
    elif how == "for too long":
        for _ in range(37):
            login["now"] += 20 * 60
            _access._sign_ins.clicked("test session id", Access(), login["now"])
    message = BackMsg()
    message.rerun_script.widget_states.widgets.add(id="agree", trigger_value=True)
    message.rerun_script.fragment_id = "one part of the page"
    message.rerun_script.page_script_hash = "review"
    AppSession.handle_backmsg(session, message)
    [asked] = handled
    assert asked.page_script_hash == "review"
    assert bool(asked.widget_states.widgets) is bool(asked.fragment_id) is (how is None)


def test_who_is_not_signed_in_uploads_nothing(
    login: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = MemoryUploadedFileManager("/upload")
    runtime = SimpleNamespace(uploaded_file_mgr=manager)
    monkeypatch.setattr("streamlit.runtime.get_instance", lambda: runtime)
    _streamlit.limit_uploads(Access(), _access._may_upload)
    file = UploadedFileRec("1", "a.png", "image/png", b"pixels")
    with pytest.raises(HTTPException) as refused:
        manager.add_file("of the sign-in page", file)
    assert refused.value.status_code == 401 and not manager.file_storage
    _access._sign_ins.let_in("of a reader", {"sub": "1", "iat": login["now"]}, login["now"])
    manager.add_file("of a reader", file)
    assert list(manager.file_storage) == ["of a reader"]
    monkeypatch.setattr(_access, "_has_login", lambda: False)
    manager.add_file("where there is no login", file)


def test_a_server_whose_uploads_cannot_be_guarded_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A newer Streamlit may keep them otherwise: unguarded, anybody could fill the memory."""
    server = object.__new__(Runtime)
    server._uploaded_file_mgr = SimpleNamespace(file_storage={})
    monkeypatch.setattr("streamlit.runtime.get_instance", lambda: server)
    with pytest.raises(AccessRefused, match="cannot be limited here"):
        _streamlit.limit_uploads(Access(), _access._may_upload)


def test_a_picture_has_a_limit_of_its_own_and_a_release_is_larger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manager = MemoryUploadedFileManager("/upload")
    runtime = SimpleNamespace(uploaded_file_mgr=manager)
    monkeypatch.setattr("streamlit.runtime.get_instance", lambda: runtime)
    monkeypatch.setenv("BONE_MAX_MEGABYTES", "1")
    _streamlit.limit_uploads(Access(), _access._may_upload)
    data = bytes(2**20 + 1)
    with pytest.raises(HTTPException) as refused:
        manager.add_file("one", UploadedFileRec("1", "a.png", "image/png", data))
    assert refused.value.status_code == 413 and not manager.file_storage
    manager.add_file("one", UploadedFileRec("2", "2027.01-1.zip", "application/zip", data))
    manager.add_file("one", UploadedFileRec("3", "a.png", "image/png", data[:-1]))
    assert len(manager.file_storage["one"]) == 2
