"""A real tiny training from the page to a prediction with it, in a real Chromium.

Minutes: it trains a ResNet50 on the CPU, closes the tab on the way, and kills nothing but the run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from core.settings import ROOT, Settings
from core.store import Store
from tests import tiny
from tests.browser.conftest import _await
from tests.ports import free_port
from tests.simulated import encoded, phantom
from tests.test_catalogue import linked
from training.jobs import Queue, State, work

SECOND = 1000
WAIT = 120 * SECOND
LONG = 900 * SECOND
NUMBERS = {
    "Input size": "32",
    "Joint phase": "480",
    "Each fracture branch": "96",
    "Body-part branch": "96",
    "Validations": "6",
    "Checkpoint interval": "0",
}


@pytest.fixture
def place(weights: Path, tmp_path: Path) -> dict[str, str]:
    """Where a server of its own keeps and finds everything."""
    tiny.write(tmp_path / "data", each=8)
    return {
        "BONE_WEIGHTS": str(linked(weights, tmp_path / "weights")),
        "BONE_HOME": str(tmp_path / "home"),
        "BONE_ROOTS": str(tmp_path),
        "BONE_DEVICE": "cpu",
    }


@pytest.fixture
def url(place: dict[str, str], tmp_path: Path) -> Iterator[str]:
    port, log = free_port(), tmp_path / "log"
    options = ["--server.port", str(port), "--server.headless", "true"]
    command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py", *options]
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | place, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        _await(f"http://127.0.0.1:{port}", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()
        queue = Queue(Path(place["BONE_HOME"]) / "runs")
        for record in queue.records():
            queue.cancel(record.id)


def opened(browser: Any, url: str, path: str) -> Any:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(WAIT)
    page.goto(f"{url}/{path}")
    page.locator("footer.quiet").wait_for()
    return page


def view(page: Any, name: str) -> None:
    page.get_by_role("radio", name=name).or_(
        page.get_by_role("button", name=name, exact=True)
    ).first.click()


def says(page: Any, *words: str, timeout: float = WAIT) -> str:
    """Wait until the state of the run is one of the words; it must always be one of them all."""
    states = "Queued|Running|Pausing|Paused|Cancelled|Interrupted|Failed|Finished"
    page.wait_for_function(
        "([wanted, states]) => { const s = document.querySelector('p.tally b');"
        " if (s && !new RegExp(states).test(s.innerText.replace(/^. /, '').replace("
        "/^./, c => c.toUpperCase()))) throw new Error('no state: ' + s.innerText);"
        " return s && wanted.some(w => s.innerText.toLowerCase().includes(w)); }",
        arg=[list(words), states],
        timeout=timeout,
    )
    return page.locator("p.tally b").first.inner_text()


def fill(page: Any, label: str, value: str) -> None:
    number, words = (page.get_by_role(r, name=label) for r in ("spinbutton", "textbox"))
    box = number.or_(words).first
    box.fill(value)
    box.press("Tab")
    expect(box).to_have_value(value)


def started(page: Any, data: Path) -> None:
    """Register the data set, fill the form, and click Start twice."""
    view(page, "Data sets")
    fill(page, "Name", "drawn")
    page.get_by_label("Kind").click()
    page.get_by_role("option", name="manifest").click()
    fill(page, "Folder or list", str(data))
    page.get_by_role("button", name="Register", exact=True).click()
    page.get_by_text("drawn   manifest:").wait_for()
    view(page, "New run")
    page.get_by_text("No patient is in two splits").wait_for()
    page.get_by_text("Full configuration").click()
    for label, value in NUMBERS.items():
        fill(page, label, value)
    page.get_by_role("button", name="Start", exact=True).dblclick()
    says(page, "queued", "running")


def reopened(page: Any) -> None:
    """A new tab has every button; cancel, resume, and evaluate at the end."""
    says(page, "running")
    page.get_by_role("button", name="Pause").wait_for()
    page.get_by_role("button", name="Cancel").click()
    says(page, "cancelled")
    page.get_by_role("button", name="Resume").click()
    says(page, "queued", "running")
    says(page, "finished", timeout=LONG)
    page.get_by_role("button", name="Evaluate on test").click()
    says(page, "queued", "running")
    says(page, "finished", timeout=LONG)


REASON = "Reason (required, kept in the audit)"


def promoted(page: Any, run: str) -> None:
    view(page, "Add")
    page.get_by_role("button", name="Add this run").click()
    page.get_by_text("It is not in use yet").wait_for()
    view(page, "Releases")
    page.get_by_role("combobox", name="Release").click()  # the file's field goes by that name, too
    page.get_by_role("option", name=run[9:]).first.click()
    page.get_by_role("button", name="Use this release").click()
    fill(page, REASON, "The first that has seen discs")
    page.get_by_role("button", name="Change for everyone").click()
    page.get_by_text("is in use now").first.wait_for()


def predicted(page: Any, file: Path, release: str) -> None:
    file.write_bytes(encoded(phantom(300, 200), "PNG"))
    page.locator("input[type=file]").first.set_input_files(str(file))
    page.locator("[class*=st-key-card-], canvas").first.wait_for(timeout=LONG)
    page.locator("footer.quiet", has_text=f"Release {release}").wait_for()


@pytest.mark.stress
def test_retrain_evaluate_promote_predict_and_go_back(
    browser: Any,
    url: str,
    place: dict[str, str],
    tmp_path: Path,
) -> None:
    queue = Queue(Path(place["BONE_HOME"]) / "runs")
    page = opened(browser, url, "training")  # the first address that this server is asked for
    assert page.get_by_test_id("stSidebarNav").count() == 0
    started(page, tmp_path / "data" / "manifest.csv")
    assert len(queue.records()) == 1
    page.locator(".js-plotly-plot .scatterlayer").first.wait_for(timeout=LONG)
    page.close()
    page = opened(browser, url, "training")
    reopened(page)
    page.close()
    [record] = queue.records()
    assert record.state is State.FINISHED and (record.folder / "test" / "scores.csv").exists()
    page = opened(browser, url, "metrics")
    page.get_by_text("bootstrap draws over patients").wait_for()
    page.close()
    page = opened(browser, url, "releases")
    promoted(page, record.id)
    reader = opened(browser, url, "")
    predicted(reader, tmp_path / "picture.png", work.release_id(record.folder))
    reader.close()
    page.get_by_role("button", name="Roll back to random").click()
    fill(page, REASON, "Discs are no bones")
    page.get_by_role("button", name="Change for everyone").click()
    page.get_by_text("random is in use now").first.wait_for()
    page.close()
    store = Store.open(Settings(home=Path(place["BONE_HOME"])))
    events = [line.event for line in store.audit_lines() if line.event.startswith("release.")]
    store.close()
    assert events == ["release.added", "release.promoted", "release.rolled_back"]
