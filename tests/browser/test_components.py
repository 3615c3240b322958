"""What the components do by themselves, in an empty page: see ``components.py``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from core import imaging
from core.film import SMALLEST, checked
from core.settings import ImageLimits
from core.types import Heatmap
from pages import _viewer
from pages._viewer import Prepared, framed
from tests.browser.components import FILM, ROWS, VIEWER, placed
from tests.browser.test_viewer import state
from tests.simulated import encoded, phantom

LISTENING = """() => {
  const write = CanvasRenderingContext2D.prototype.fillText;
  window.written = [];
  CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
    window.written.push(text);
    write.call(this, text, ...place);
  };
}"""


@pytest.fixture
def page(browser):
    with browser.new_page() as page:
        yield page


def viewer(page, grey: np.ndarray, **options: Any) -> dict[str, str]:
    """The viewer with one radiograph and its heatmap; what it says of itself."""
    radiograph = imaging.decode(encoded(grey, "PNG"), "a.png", ImageLimits())
    said = {"alt": "", "mark": None, "marks": False, "session": "a", "about": "b", "digits": ""}
    heat = Heatmap(np.linspace(0, 0.8, 16, dtype=np.float32).reshape(4, 4), "Grad-CAM")
    message = _viewer._message(
        Prepared.of(radiograph), heat, said | {"caption": ("A line",)} | options
    )
    placed(page, VIEWER, [message])
    page.evaluate("void called(0)")
    expect(page.locator(".viewer")).to_have_attribute("data-ready", "true")
    return state(page)


def test_a_saved_picture_says_that_it_was_turned_and_mirrored(page) -> None:
    grey = np.full((60, 90), 40, np.uint8)
    grey[:20, :30] = 220  # a mark in the upper left corner
    viewer(page, grey)
    page.get_by_role("button", name="Heatmap", exact=True).click()
    page.evaluate(LISTENING)
    for name in ("Rotate", "Flip", "Invert"):
        page.get_by_role("button", name=name).click()
    state(page, lambda s: s["overlay"] == "false")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    saved = np.asarray(Image.open(io.BytesIO(Path(download.value.path()).read_bytes())), float)
    first, look, heat = page.evaluate("window.written")
    assert first == "A line" and heat == "Without heatmap"
    assert look.endswith(", inverted, turned clockwise by 90 degrees, mirrored")
    # Clockwise it goes to the upper right corner, and mirrored to the upper left one again.
    assert saved[10, 10, 0] < 40 and saved[10, 50, 0] > 200
