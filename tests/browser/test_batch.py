"""Batch in a real Chromium: from dropped files to a radiograph in the viewer, by keyboard."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.test_accessible import check
from tests.browser.test_diagnose import ready, settled
from tests.simulated import encoded, phantom


@pytest.fixture
def dropped(tmp_path: Path) -> list[str]:
    """Two radiographs and a file that is none."""
    for n in range(2):
        (tmp_path / f"view-{n}.png").write_bytes(encoded(phantom(300, 200, seed=80 + n), "PNG"))
    (tmp_path / "view-9.png").write_bytes(b"this is no picture")
    return [str(path) for path in sorted(tmp_path.iterdir())]


def test_from_dropped_files_to_an_open_radiograph(visit: Visit, dropped: list[str]) -> None:
    page = visit.page
    page.goto(f"{visit.url}/batch")
    page.locator("input[type=file]").set_input_files(dropped)
    page.get_by_role("button", name="Assess the files").click()
    state = page.locator(".st-key-batch-state")
    expect(state).to_contain_text(re.compile("Not assessed.1 · 3 files"))
    settled(page)
    row = page.locator(".rows button")
    expect(row).to_have_count(3)
    expect(row.last).to_have_accessible_name(re.compile("view-9.png, Not assessed"))
    expect(page.locator(".rows td img")).to_have_count(2)
    check(page)
    row.first.focus()
    page.keyboard.press("ArrowDown")
    expect(row.nth(1)).to_be_focused()
    second = row.nth(1).inner_text()  # of the two the less suspicious one
    page.keyboard.press("Enter")
    expect(page.locator(".rows tr[aria-current]")).to_contain_text(second)
    ready(page)
    settled(page)
    check(page)
    page.locator("canvas.stage").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".rows tr[aria-current]")).to_contain_text("view-9.png")
    expect(page.get_by_text("The file is not a picture").last).to_be_visible()
    settled(page)
    page.keyboard.press("ArrowLeft")  # there is no viewer, and the key is heard all the same
    expect(page.locator(".rows tr[aria-current]")).to_contain_text(second)
    page.keyboard.press("n")
    expect(page.locator(".rows tr[aria-current]")).to_contain_text("view-9.png")
    assert [c for c in visit.complaints if "404" not in c] == []
