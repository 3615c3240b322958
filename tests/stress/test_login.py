"""A login by OpenID Connect against a real provider, and what its roles may see. In a Chromium."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from core.settings import ROOT, Settings
from core.store import Store
from tests.browser.conftest import _await
from tests.ports import free_port
from tests.simulated import encoded, phantom

# The provider warns of its own dependencies; warnings are errors here, also in its thread.
pytestmark = [pytest.mark.stress, pytest.mark.filterwarnings("ignore")]
SECRETS = """[auth]
redirect_uri = "{url}/oauth2callback"
cookie_secret = "a secret that is only of this test and long enough"
client_id = "bone"
client_secret = "bone"
server_metadata_url = "{provider}/.well-known/openid-configuration"
client_kwargs = {{ scope = "openid email profile" }}
"""


@dataclass
class Running:
    """A server with a login. url: where browsers reach it. home: its BONE_HOME."""

    url: str
    home: Path


@pytest.fixture
def provider() -> Iterator[str]:
    mock = pytest.importorskip("oidc_provider_mock")
    people = [
        mock.User(sub="reader-1", claims={"email": "reader@example.org"}),
        mock.User(sub="admin-1", claims={"email": "a@example.org", "roles": ["admin"]}),
        mock.User(sub="nobody-1", claims={"email": "nobody@example.org"}),
    ]
    with mock.run_server_in_thread(user_claims=people) as server:
        yield f"http://localhost:{server.server_port}"


@pytest.fixture
def serve(weights: Path, tmp_path: Path, provider: str) -> Iterator[Callable[..., Running]]:
    """Start the app with a login and further settings; ended after the test.

    port, public: where it listens, and the address that a proxy before it has for browsers.
    """
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int = 0, public: str = "", **settings: str) -> Running:
        port = port or free_port()
        url = f"http://127.0.0.1:{port}"
        secrets, log, home = (tmp_path / n for n in ("secrets.toml", "server.log", "home"))
        secrets.write_text(SECRETS.format(url=public or url, provider=provider))
        environment = os.environ | {
            "BONE_WEIGHTS": str(weights),
            "BONE_DEVICE": "cpu",
            "BONE_HOME": str(home),
            "BONE_READERS": "reader@example.org",
            **settings,
        }
        command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py"]
        options = ["--server.port", str(port), "--server.headless", "true"]
        options += ["--secrets.files", str(secrets)]
        if public:  # as the documentation says, in config.toml
            options += ["--server.allowedHosts", urlsplit(public).hostname or ""]
            options += ["--server.allowedHosts", "127.0.0.1"]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command + options, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
            )
        started.append(process)
        _await(url, process, log)
        return Running(public or url, home)

    yield start
    for process in started:
        process.kill()
        process.wait()


def sign_in(page: object, running: Running, person: str) -> None:
    page.goto(running.url)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/authorize**", timeout=60_000)
    page.fill("input[name=sub]", person)
    page.get_by_role("button", name="Authorize").click()
    page.wait_for_url(f"{running.url}/**", timeout=60_000)


def test_roles(
    browser: object,
    serve: Callable[..., Running],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = serve()
    for person, sees, does_not in (
        ("reader-1", "Metrics", "Training"),
        ("admin-1", "Training", "no role at all"),
    ):
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        page.goto(running.url)
        page.get_by_role("button", name="Sign in").wait_for(timeout=60_000)
        assert page.get_by_test_id("stFileUploader").count() == 0
        sign_in(page, running, person)
        page.get_by_test_id("stFileUploader").wait_for(timeout=60_000)
        assert page.get_by_role("link", name=sees).count()
        assert page.get_by_role("link", name=does_not).count() == 0
        if person == "reader-1":  # nor by its address
            page.goto(f"{running.url}/training")
            page.get_by_text("Page not found").first.wait_for(timeout=60_000)
        context.close()
    page = browser.new_context().new_page()
    sign_in(page, running, "nobody-1")
    page.get_by_text("have no role here").wait_for(timeout=60_000)
    assert page.get_by_test_id("stFileUploader").count() == 0
    page.context.close()
    monkeypatch.setenv("BONE_HOME", str(running.home))
    store = Store.open(Settings.from_environment())
    said = {(line.event, line.actor) for line in store.audit_lines()}
    store.close()
    assert ("person.signed_in", "reader@example.org") in said
    assert ("access.refused", "nobody@example.org") in said


def test_an_idle_session_ends(
    browser: object,
    serve: Callable[..., Running],
) -> None:
    running = serve(BONE_IDLE_MINUTES="1")  # less than it takes to load would end it before
    page = browser.new_context().new_page()
    sign_in(page, running, "reader-1")
    page.get_by_test_id("stFileUploader").wait_for(timeout=60_000)
    # Signed out here and at the provider, whose page the tab shows; back here it has to sign in.
    page.wait_for_url("**/oauth2/end_session**", timeout=120_000)
    page.goto(running.url)
    page.get_by_role("button", name="Sign in").wait_for(timeout=60_000)
    assert page.get_by_test_id("stFileUploader").count() == 0
    page.context.close()


def test_uploads_are_limited_by_session(
    browser: object,
    serve: Callable[..., Running],
) -> None:
    running = serve(BONE_SESSION_MEGABYTES="0.05")
    page = browser.new_context().new_page()
    sign_in(page, running, "reader-1")
    page.get_by_test_id("stFileUploader").wait_for(timeout=60_000)
    small, large = encoded(phantom(96, 96), "PNG"), encoded(phantom(400, 400), "PNG")
    assert len(small) < 50_000 < len(large)
    for data, status in ((large, 413), (small, 204)):  # a refused one leaves room for the next
        with page.expect_response(lambda r: r.request.method == "PUT", timeout=60_000) as got:
            page.set_input_files(
                "input[type=file]", [{"name": "a.png", "mimeType": "image/png", "buffer": data}]
            )
        assert got.value.status == status
    page.context.close()
