"""A login behind deploy/nginx.conf in Chromium: TLS, cookies, websocket, in and out again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from core.settings import Settings
from core.store import Store
from tests.chromium import WAIT
from tests.ports import free_port
from tests.simulated import encoded, phantom
from tests.stress.test_login import Running, provider, serve, sign_in  # noqa: F401 (fixtures)
from tests.test_deploy import proxied

pytestmark = [pytest.mark.stress, pytest.mark.filterwarnings("ignore")]  # as in test_login
# Not localhost, which Streamlit lets in anyway; browsers take what ends in it for this machine.
NAME = "bone.localhost"


def test_in_and_out_through_the_proxy(
    browser,
    serve: Callable[..., Running],  # noqa: F811
    tmp_path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upstream = free_port()
    with proxied(f"127.0.0.1:{upstream}", tmp_path, NAME) as (port, _):
        running = serve(upstream, f"https://{NAME}:{port}")
        context = browser.new_context(ignore_https_errors=True)  # the certificate is its own
        page = context.new_page()
        page.set_default_timeout(WAIT)
        said: list[tuple[str, str]] = []
        sockets: list[str] = []
        asked: set[str] = set()
        ours = f"https://{NAME}:{port}"
        # The provider's own pages are another's business.
        page.on("console", lambda m: page.url.startswith(ours) and said.append((m.type, m.text)))
        page.on("pageerror", lambda e: said.append(("error", str(e))))
        page.on("websocket", lambda s: sockets.append(s.url))
        page.on("request", lambda r: r.frame.url.startswith(ours) and asked.add(r.url))
        page.goto(running.url)
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        assert page.get_by_test_id("stFileUploader").count() == 0
        sign_in(page, running, "reader-1")
        page.get_by_test_id("stFileUploader").wait_for()
        # Only over the websocket does anything come to the page, and only by an upload into it.
        picture = {"name": "wrist.png", "mimeType": "image/png"}
        picture["buffer"] = encoded(phantom(300, 200), "PNG")
        page.set_input_files("input[type=file]", [picture])
        expect(page.locator(".viewer")).to_have_attribute("data-ready", "true")
        assert sockets and all(s.startswith(f"wss://{NAME}:{port}/") for s in sockets)
        cookies = {c["name"]: c for c in context.cookies(running.url)}
        signed = {n: c for n, c in cookies.items() if n.startswith("_streamlit_user")}
        assert signed and all(c["secure"] for c in cookies.values()), cookies
        assert all(c["httpOnly"] and c["sameSite"] != "None" for c in signed.values())
        elsewhere = [a for a in asked if not a.startswith((ours, "data:", f"blob:{ours}"))]
        assert asked and [a for a in elsewhere if "/oauth2/authorize" not in a] == []
        page.goto(f"{running.url}/_stcore/health")
        page.goto(running.url)
        page.get_by_test_id("stFileUploader").wait_for()  # still signed in
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/oauth2/end_session**")
        page.goto(running.url)
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        assert page.get_by_test_id("stFileUploader").count() == 0
        assert not [c for c in context.cookies(running.url) if c["name"] in signed]
        assert [t for kind, t in said if kind == "error" and "404" not in t] == []
        context.close()
    monkeypatch.setenv("BONE_HOME", str(running.home))
    store = Store.open(Settings.from_environment())
    assert ("person.signed_in", "reader@example.org") in {
        (line.event, line.actor) for line in store.audit_lines()
    }
    store.close()
