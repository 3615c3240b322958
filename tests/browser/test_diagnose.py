"""The page Diagnose in a real Chromium: what a reader does in the first minute."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser.conftest import Visit
from tests.simulated import encoded, phantom

WAIT = 60_000  # milliseconds: the first file also waits for torch and the release


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two simulated radiographs, one of them 16 bit, and a text that calls itself a picture."""
    folder = tmp_path_factory.mktemp("files")
    tall, deep = phantom(400, 240), phantom(300, 420, bits=16, seed=1)
    contents = {
        "tall.png": encoded(tall, "PNG"),
        "broken.png": b"not a picture",
        "deep.png": encoded(deep, "PNG"),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in contents]


def opened(visit: Visit):
    visit.page.goto(visit.url)
    visit.page.get_by_test_id("stFileUploaderDropzone").wait_for(timeout=WAIT)
    return visit.page


def dropped(visit: Visit, files: list[Path]):
    page = opened(visit)
    page.locator("input[type=file]").set_input_files([str(f) for f in files])
    page.get_by_role("button", name="CSV", exact=True).wait_for(timeout=WAIT)
    assert page.get_by_role("button", name="CSV").count() == 1
    return page


def picture(page):
    return page.locator("[class*=st-key-picture-] img").first


def choose(page, label: str, option: str) -> None:
    """Open a select box and take an option; scrolling it into view may close the list again."""
    page.get_by_label(label).scroll_into_view_if_needed()
    for _ in range(5):
        page.wait_for_timeout(500)
        page.get_by_label(label).click()
        page.wait_for_timeout(500)
        if page.get_by_role("option", name=option).count():
            break
    page.get_by_role("option", name=option).click()


def settled(page) -> None:
    """Until no script runs any more."""
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=WAIT)


def test_three_files_from_drop_to_csv(visit: Visit, files: list[Path]) -> None:
    page = dropped(visit, files)
    settled(page)
    cards = page.locator("[class*=st-key-card-]")
    assert cards.count() == 3
    words = [cards.nth(n).inner_text() for n in range(3)]
    assert [name in text for name, text in zip(("tall", "broken", "deep"), words)] == [True] * 3
    for text in (words[0], words[2]):
        assert "%" in text and "sensitivity" in text and "specificity" in text
        assert any(w in text for w in ("Suspected", "Doubtful", "Not suspected"))
    assert "not a picture" in words[1]

    before = picture(page).get_attribute("src")
    handle = page.get_by_role("slider").first
    handle.focus()
    handle.press("End")
    page.wait_for_function(
        "old => document.querySelector('[class*=st-key-picture-] img').src !== old",
        arg=page.evaluate("src => new URL(src, location).href", before),
        timeout=WAIT,
    )

    with page.expect_download() as download:
        page.get_by_role("button", name="CSV", exact=True).click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [r["file"] for r in rows] == ["tall.png", "broken.png", "deep.png"]
    assert [r["status"] for r in rows] == ["ok", "rejected", "ok"]
    assert all(r["release"] == "random" for r in rows)
    shown = cards.nth(0).locator(".number").last.inner_text()
    assert f"{100 * float(rows[0]['fracture_probability']):.0f}" == shown.split()[0]

    with page.expect_download() as download:
        page.get_by_role("button", name="JSON lines").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["sha256"] for line in lines] == [r["sha256"] for r in rows]

    assert "Research use only" in page.inner_text("footer.quiet")
    assert not visit.complaints


def test_saved_png_is_the_picture_with_a_line_below(visit: Visit, files: list[Path]) -> None:
    page = dropped(visit, files[:1])
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    saved = Image.open(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert saved.width == 240 and saved.height > 400
    assert np.asarray(saved)[400:].max() > 100
    assert not visit.complaints


@pytest.mark.parametrize("width", [1024, 1440])
def test_picture_is_large_whole_and_not_stretched(
    visit: Visit, files: list[Path], width: int
) -> None:
    visit.page.set_viewport_size({"width": width, "height": 900})
    page = dropped(visit, files[:1])
    settled(page)
    box = picture(page).bounding_box()
    assert box["width"] > 0.55 * width
    assert box["y"] + box["height"] <= 900
    style = picture(page).evaluate("e => getComputedStyle(e).objectFit")
    assert style == "contain"
    sideways = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert sideways <= 0


def test_next_and_the_reader_s_choice(visit: Visit, files: list[Path]) -> None:
    page = dropped(visit, files + files[:1])
    settled(page)
    assert "1 of 4" in page.inner_text(".st-key-pager")
    page.get_by_role("button", name="Next").click()
    page.locator(".cardreason").wait_for(timeout=WAIT)
    page.get_by_role("button", name="Next").click()
    page.locator(".cardname", has_text="deep.png").wait_for(timeout=WAIT)
    settled(page)
    choose(page, "Assess as", "Shoulder")
    page.get_by_text("Chosen by the reader").wait_for(timeout=WAIT)
    page.get_by_role("button", name="Clear all").click()
    page.get_by_text("Nothing leaves this computer").wait_for(timeout=WAIT)
    assert not visit.complaints


def test_nothing_is_offered_to_deploy_or_configure(visit: Visit) -> None:
    page = opened(visit)
    settled(page)
    assert page.get_by_test_id("stAppDeployButton").count() == 0
    assert page.get_by_test_id("stMainMenu").count() == 0
    assert not visit.complaints
