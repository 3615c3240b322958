"""The viewer in a real Chromium: a study of three views, window, zoom, keys, report, and axe."""

from __future__ import annotations

import json
import statistics
import subprocess
from pathlib import Path

import pytest

from tests.browser.conftest import Visit
from tests.browser.test_diagnose import WAIT, choose, dropped, opened, picture, ready, settled
from tests.simulated import dicom, phantom

STUDY = "1.2.826.0.1.3680043.10.1.77"
ANSWERS_IN = 50  # milliseconds


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three 16-bit views of one DICOM study, 1600 x 1200 pixels of 0.2 mm."""
    folder = tmp_path_factory.mktemp("study")
    for n, position in enumerate(("AP", "LL", "RL")):
        data = dicom(
            phantom(1600, 1200, bits=16, seed=n),
            StudyInstanceUID=STUDY,
            SOPInstanceUID=f"{STUDY}.{n}",
            ViewPosition=position,
            ImagerPixelSpacing=[0.2, 0.2],
        )
        (folder / f"Doe^Jane_{n}.dcm").write_bytes(data)
    return sorted(folder.iterdir())


def assessed(visit: Visit, study: list[Path]):
    """The study on the page, assessed as a hand whatever the random network says."""
    page = dropped(visit, study)
    settled(page)
    if page.get_by_text("Chosen by the reader").count() == 0:
        choose(page, "Assess as", "Hand")
        page.get_by_text("Chosen by the reader").wait_for(timeout=WAIT)
    settled(page)
    ready(page)
    return page


def state(page) -> dict[str, str]:
    page.wait_for_timeout(100)  # a frame, and the attributes after it
    return page.locator(".viewer").evaluate("e => ({...e.dataset})")


def test_study_of_three_views_from_drop_to_report(
    visit: Visit, study: list[Path], tmp_path: Path
) -> None:
    page = assessed(visit, study)
    card = page.locator("[class*=st-key-card-]").inner_text()
    assert "Study of 3 views" in card and "mean of 3 views" in card
    assert all(f"View {n + 1}: {p}" in card for n, p in enumerate(("AP", "LL", "RL")))

    # Window, zoom and opacity answer here, and zoom outlives toggle, rerun and another view.
    before = state(page)
    canvas = picture(page)
    canvas.hover()
    for _ in range(4):
        page.mouse.wheel(0, -200)
    zoomed = state(page)
    assert float(zoomed["zoom"]) > 2 > float(before["zoom"])
    page.mouse.down()
    times = []
    box = canvas.bounding_box()
    for n in range(10):
        page.mouse.move(box["x"] + box["width"] / 2 + 12 * n, box["y"] + 200 + 5 * n)
        times.append(float(state(page)["response"]))
    page.mouse.up()
    windowed = state(page)
    assert windowed["window"] != before["window"]
    slider = page.get_by_label("Opacity")
    slider.focus()
    for _ in range(10):
        slider.press("ArrowRight")
        times.append(float(state(page)["response"]))
    assert statistics.median(times) < ANSWERS_IN, times
    canvas.focus()
    page.keyboard.press("Space")
    assert state(page)["overlay"] != windowed["overlay"]
    page.keyboard.press("Space")
    page.locator("[class*=st-key-point] button", has_text="Specific").click()
    page.get_by_text("Positive from 70").wait_for(timeout=WAIT)
    settled(page)
    after = state(page)
    for fact in ("zoom", "place", "window", "overlay", "view"):
        assert after[fact] == windowed[fact], fact

    with page.expect_download() as download:
        page.get_by_role("button", name="Report (PDF)").click()
    read = subprocess.run(
        ["pdftotext", "-layout", download.value.path(), "-"], capture_output=True, check=True
    ).stdout.decode()
    words = " ".join(read.split())
    assert "mean of 3 views" in words and "“specific”" in words and "random" in words
    assert "Doe" not in words
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON", exact=True).click()
    record = json.loads(Path(download.value.path()).read_text())
    assert [v["chosen"] for v in record["views"]] == ["hand"] * 3
    assert not visit.complaints


def test_keys_and_buttons(visit: Visit, study: list[Path]) -> None:
    page = assessed(visit, study[:2])
    first = state(page)
    picture(page).focus()
    page.keyboard.press("+")
    page.keyboard.press("Shift+ArrowRight")
    moved = state(page)
    assert float(moved["zoom"]) == pytest.approx(1.25)
    assert float(moved["place"].split()[0]) > 0.5
    page.keyboard.press("i")
    assert page.get_by_role("button", name="Invert").get_attribute("aria-pressed") == "true"
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "first => document.querySelector('.st-key-picture') && "
        "[...document.querySelectorAll('.st-key-picture *')].find((e) => e.shadowRoot)"
        ".shadowRoot.querySelector('.viewer').dataset.view !== first",
        arg=first["view"],
        timeout=WAIT,
    )
    settled(page)
    ready(page)
    assert float(state(page)["zoom"]) == 1
    picture(page).focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(500)
    settled(page)
    ready(page)
    back = state(page)
    assert (back["view"], back["zoom"], back["place"]) == (
        first["view"],
        moved["zoom"],
        moved["place"],
    )
    overlay = back["overlay"]
    page.keyboard.down("o")
    assert state(page)["overlay"] != overlay
    page.keyboard.up("o")
    assert state(page)["overlay"] == overlay
    page.get_by_role("button", name="Outline").click()
    page.get_by_role("button", name="Side by side").click()
    page.get_by_role("button", name="Rotate").click()
    page.get_by_role("button", name="Reset").click()
    assert state(page)["zoom"] == "1.0000"
    assert page.get_by_role("button", name="Mark").count() == 0
    assert not visit.complaints


@pytest.mark.parametrize("filled", [False, True])
def test_axe_finds_no_serious_violation(visit: Visit, study: list[Path], filled: bool) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = assessed(visit, study[:2]) if filled else opened(visit)
    settled(page)
    found = axe.run(page).response["violations"]
    serious = [
        (v["id"], [n["html"][:160] for n in v["nodes"]])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
    assert not serious
