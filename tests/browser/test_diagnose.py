"""The page Diagnose in a real Chromium: what a reader does in the first minute."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import TimeoutError as Late
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.simulated import encoded, phantom
from tests.waiting import eventually

# The box of what is not black on the canvas.
BRIGHT = """() => {
  const canvas = document.querySelector("[data-testid=stBidiComponentRegular], .st-key-picture")
    .querySelectorAll("*");
  const host = [...canvas].find((e) => e.shadowRoot);
  const stage = host.shadowRoot.querySelector("canvas.stage");
  const { width, height } = stage;
  const { data } = stage.getContext("2d").getImageData(0, 0, width, height);
  let [x0, y0, x1, y1] = [width, height, 0, 0];
  for (let i = 0; i < width * height; i += 1) {
    if (data[4 * i] + data[4 * i + 1] + data[4 * i + 2] < 12) continue;
    const [x, y] = [i % width, Math.floor(i / width)];
    [x0, y0, x1, y1] = [Math.min(x0, x), Math.min(y0, y), Math.max(x1, x), Math.max(y1, y)];
  }
  return { width: x1 - x0 + 1, height: y1 - y0 + 1 };
}"""


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
    visit.page.get_by_test_id("stFileUploaderDropzone").wait_for()
    return visit.page


def dropped(visit: Visit, files: list[Path]):
    page = opened(visit)
    page.locator("input[type=file]").set_input_files([str(f) for f in files])
    expect(page.get_by_role("button", name="Export data")).to_have_count(1)
    expect(page.get_by_test_id("stProgress")).to_have_count(0)
    return page


def exported(page, label: str) -> str:
    """What the popover of exports gives under this label."""
    wanted = page.get_by_role("button", name=label, exact=True)
    if not wanted.count():
        page.get_by_role("button", name="Export data").click()
    with page.expect_download() as download:
        wanted.click()
    return Path(download.value.path()).read_text(encoding="utf-8")


def clear(page) -> None:
    """Take all from the page, which asks first."""
    page.get_by_role("button", name="Clear all").click()
    page.get_by_role("button", name="Clear", exact=True).click()


def picture(page):
    return page.locator("canvas.stage")


def ready(page) -> None:
    """Until the viewer has drawn a picture."""
    expect(page.locator(".viewer")).to_have_attribute("data-ready", "true")


def choose(page, label: str, option: str) -> None:
    """Open a select box and take an option; scrolling or a rerun may close the list again."""
    wanted = page.get_by_role("option", name=option, exact=True)

    def taken() -> bool:
        try:
            page.get_by_label(label).click()
            wanted.click(timeout=5000)
        except Late:
            page.keyboard.press("Escape")
            return False
        return True

    eventually(taken)


def settled(page) -> None:
    """Until no script runs any more. One that is yet to begin is not seen: wait for its words."""
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")


def test_three_files_from_drop_to_csv(visit: Visit, files: list[Path]) -> None:
    page = dropped(visit, files)
    settled(page)
    ready(page)
    card = page.locator("[class*=st-key-card-]")
    expect(card).to_have_count(1)
    for words in ("tall", "%", "Sensitivity", "Specificity"):
        expect(card).to_contain_text(words)
    expect(card).to_contain_text(re.compile("Suspected|Doubtful|Not suspected"))
    expect(page.locator(".st-key-pager")).to_contain_text("of 3")

    rows = list(csv.DictReader(io.StringIO(exported(page, "CSV"))))
    assert [r["file"] for r in rows] == ["tall.png", "broken.png", "deep.png"]
    assert [r["status"] for r in rows] == ["ok", "rejected", "ok"]
    assert all(r["release"] == "random" for r in rows)
    percent = f"{100 * float(rows[0]['fracture_probability']):.0f}"
    expect(card.locator(".number").last).to_have_text(re.compile(rf"^\s*{percent}\s"))

    lines = exported(page, "JSON lines").splitlines()
    assert [json.loads(line)["sha256"] for line in lines] == [r["sha256"] for r in rows]

    expect(page.locator("footer.quiet")).to_contain_text("Research use only")
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
    ready(page)

    def in_its_place() -> bool:
        box = picture(page).bounding_box()
        assert box["width"] > 0.55 * width
        assert box["y"] + box["height"] <= 900
        left, right = (page.locator(f".st-key-picture, {e}").last for e in ("canvas", "dl.reading"))
        assert left.bounding_box()["x"] < right.bounding_box()["x"]
        pixels = page.evaluate(BRIGHT)
        assert abs(pixels["width"] / pixels["height"] - 240 / 400) < 0.03
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        return True

    eventually(in_its_place)


def test_next_and_the_reader_s_choice(visit: Visit, files: list[Path]) -> None:
    page = dropped(visit, files + files[:1])  # one of them twice, which is read once
    settled(page)
    page.get_by_text("As given", exact=True).click()
    settled(page)
    expect(page.locator(".st-key-pager")).to_contain_text("1 of 3")
    page.get_by_role("button", name="Next").click()
    page.locator(".cardreason").wait_for()
    settled(page)
    page.get_by_role("button", name="Next").click()
    page.locator(".cardname", has_text="deep.png").wait_for()
    settled(page)
    ready(page)
    choose(page, "Assess as", "Shoulder")
    page.get_by_text("Chosen by the reader").wait_for()
    clear(page)
    page.get_by_text("and sent nowhere else").wait_for()
    assert not visit.complaints


def test_nothing_is_offered_to_deploy_or_configure(visit: Visit) -> None:
    page = opened(visit)
    settled(page)
    expect(page.get_by_test_id("stAppDeployButton")).to_have_count(0)
    expect(page.get_by_test_id("stMainMenu")).to_have_count(0)
    assert not visit.complaints


def test_files_stay_while_another_page_is_looked_at(visit: Visit, files: list[Path]) -> None:
    page = dropped(visit, files[:2])
    expect(page.get_by_text("Study 1 of 2")).to_be_visible()
    page.get_by_role("link", name="Metrics").click()
    expect(page.get_by_role("heading", name="Metrics")).to_be_visible()
    page.get_by_role("link", name="Diagnose").click()
    expect(page.get_by_text("Study 1 of 2")).to_be_visible()
    ready(page)
    page.locator("input[type=file]").set_input_files(str(files[2]))  # and more come to them
    expect(page.locator(".cardname", has_text="deep.png")).to_be_visible()  # the newest is shown
    clear(page)
    expect(page.get_by_text("Study 1 of")).to_have_count(0)
    page.get_by_role("link", name="Metrics").click()
    expect(page.get_by_role("heading", name="Metrics")).to_be_visible()
    page.get_by_role("link", name="Diagnose").click()
    expect(page.get_by_text("Or try a simulated radiograph")).to_be_visible()
    expect(page.get_by_text("Study 1 of")).to_have_count(0)
    assert not visit.complaints
