"""The app behind deploy/nginx.conf in Chromium: TLS and the content security policy let it work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import serving
from tests.chromium import WAIT
from tests.simulated import encoded, phantom
from tests.test_deploy import proxied

pytestmark = pytest.mark.stress
PAGES = ("review", "batch", "training", "metrics", "releases")
ANYBODY = "anybody-on-the-network"


@pytest.fixture
def url(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Without a login, loudly, as the login has tests of its own."""
    monkeypatch.setenv("BONE_OPEN_WITHOUT_LOGIN", ANYBODY)
    with (
        serving(weights, tmp_path / "home", tmp_path / "server.log") as server,
        proxied(server.removeprefix("http://"), tmp_path) as (port, _),
    ):
        yield f"https://localhost:{port}"


def test_every_page_and_an_upload_within_the_policy(browser, url, tmp_path):
    path = tmp_path / "wrist.png"
    path.write_bytes(encoded(phantom(300, 200), "PNG"))
    page = browser.new_page(ignore_https_errors=True)  # the certificate is signed by itself
    page.set_default_timeout(WAIT)
    said: list[str] = []
    page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: said.append(str(e)))
    page.goto(url)
    page.locator("input[type=file]").set_input_files(str(path))
    expect(page.locator(".viewer")).to_have_attribute("data-ready", "true")
    expect(page.locator(".cardname")).to_contain_text("wrist")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    assert Path(download.value.path()).stat().st_size > 1000
    for name in PAGES:
        page.goto(f"{url}/{name}")
        page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
        expect(page.get_by_role("heading").first).to_be_visible()
        assert not page.get_by_test_id("stException").count()
    page.close()
    # Streamlit looks for its own root below a page's address first, where it is not.
    assert [s for s in said if "404" not in s] == []
