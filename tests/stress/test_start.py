"""Twenty browser tabs press Start in the same second: one run, and every tab shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.stress.test_retrain import WAIT, opened, place, says, url, view  # noqa: F401 (fixtures)
from tests.waiting import eventually
from training.jobs import Queue, State
from training.jobs.datasets import DataSets

TABS = 20


@pytest.mark.stress
def test_twenty_tabs_press_start_and_one_run_starts(
    browser: Any,
    url: str,  # noqa: F811
    place: dict[str, str],  # noqa: F811
    tmp_path: Path,
) -> None:
    home = Path(place["BONE_HOME"])
    DataSets(home, [tmp_path]).add("drawn", "manifest", str(tmp_path / "data" / "manifest.csv"))
    queue = Queue(home / "runs")
    tabs = []
    for _ in range(TABS):
        page = opened(browser, url, "training")
        view(page, "New run")
        expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled(timeout=WAIT)
        # by a clock of the tab, so that no tab waits for the one before
        page.evaluate("window.pressed = 0")
        tabs.append(page)
    moment = tabs[0].evaluate("Date.now()") + 5000
    for page in tabs:
        page.evaluate(
            "moment => { setTimeout(() => { window.pressed = Date.now(); "
            "[...document.querySelectorAll('button')].find(b => b.innerText.trim() === 'Start')"
            ".click(); }, moment - Date.now()); }",
            moment,
        )
    pressed = eventually(
        lambda: (times := [p.evaluate("window.pressed") for p in tabs]) and all(times) and times
    )
    assert max(pressed) - min(pressed) < 1000
    for page in tabs[
        1:
    ]:  # each asks the server every two seconds, so it makes place for the others
        says(page, "running")
        page.close()
    says(tabs[0], "running")
    [record] = queue.records()
    assert record.state is State.RUNNING
    starts = (record.folder / "log.txt").read_text().count("'seen': 0")
    assert starts <= 1 and json.loads((record.folder / "job.json").read_text())["wanted"] == "run"
    queue.cancel(record.id)
    says(tabs[0], "cancelled")
    tabs[0].close()
