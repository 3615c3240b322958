"""The door of the app: addresses, roles, idle sessions, upload limits, and what the audit says."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from core.access import OPEN, OPEN_MEANS, Access, Role, check_room, is_loopback, is_stale
from core.errors import AccessRefused, SettingsInvalid
from core.settings import ROOT, Settings
from core.store import Store
from pages import _access
from tests.simulated import encoded, phantom

APP = str(ROOT / "streamlit_app.py")


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
    assert access.role_of({"sub": "SUB-7"}) is Role.ADMIN
    assert access.role_of({"sub": "1", "groups": ["trainer", "staff"]}) is Role.TRAINER
    assert access.role_of({"sub": "1", "groups": "reader"}) is Role.READER
    assert access.role_of({"sub": "1", "email": "b@x.org", "groups": ["admin"]}) is Role.ADMIN
    for claims in (
        {},
        {"sub": "", "email": ""},
        {"sub": "1", "email": "c@x.org"},
        {"sub": "1", "roles": ["admin"]},
        {"sub": "1", "email": "a@x.org", "email_verified": False},
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


@pytest.mark.parametrize(
    ("role", "hidden"),
    [(Role.READER, {"training", "releases"}), (Role.TRAINER, {"releases"}), (Role.ADMIN, set())],
)
def test_pages_by_role(role: Role, hidden: set[str]) -> None:
    assert {name for name, needed in _access.NEEDED.items() if not role.covers(needed)} == hidden


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
