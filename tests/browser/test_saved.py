"""A saved picture is the one on the screen: window, inversion, opacity and colours."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.test_viewer import assessed, state
from tests.simulated import encoded, phantom

SIZE = (300, 240)  # height, width


@pytest.fixture
def page(visit: Visit, tmp_path: Path):
    file = tmp_path / "one.png"
    file.write_bytes(encoded(phantom(*SIZE), "PNG"))
    return assessed(visit, [file])


def saved(page) -> NDArray[np.float64]:
    """The picture of the file that is saved, without the lines below it: HxWx3."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    image = Image.open(io.BytesIO(Path(download.value.path()).read_bytes())).convert("RGB")
    assert image.width == SIZE[1] and image.height > SIZE[0] + 20
    whole = np.asarray(image, float)
    assert whole[SIZE[0] :].max() > 100  # the words
    return whole[: SIZE[0]]


def opacity(page, value: int) -> None:
    slider = page.get_by_label("Opacity")
    slider.fill(str(value))
    expect(slider).to_have_value(str(value))


def coloured(picture: NDArray[np.float64]) -> float:
    return float(np.ptp(picture, axis=2).max())


def test_opacity_and_colours_are_those_of_the_screen(page) -> None:
    opacity(page, 100)
    strong = saved(page)
    opacity(page, 20)
    faint = saved(page)
    assert coloured(strong) > 2 * coloured(faint) > 0
    page.get_by_label("Colours of the heatmap").select_option("Cividis")
    opacity(page, 100)
    other = saved(page)
    assert abs(other - strong).max() > 40
    page.get_by_role("button", name="Heatmap", exact=True).click()
    state(page, lambda s: s["overlay"] == "false")
    assert coloured(saved(page)) == 0


def test_window_and_inversion_are_those_of_the_screen(page) -> None:
    page.get_by_role("button", name="Heatmap", exact=True).click()
    before = state(page, lambda s: s["overlay"] == "false")
    plain = saved(page)
    page.get_by_role("button", name="Invert").click()
    expect(page.get_by_role("button", name="Invert")).to_have_attribute("aria-pressed", "true")
    assert abs(saved(page) - (255 - plain)).max() <= 1
    page.get_by_role("button", name="Invert").click()
    page.locator("canvas.stage").focus()
    for _ in range(5):
        page.keyboard.press("[")
    state(page, lambda s: s["window"] != before["window"])
    narrow = saved(page)
    assert ((narrow == 0) | (narrow == 255)).mean() > ((plain == 0) | (plain == 255)).mean()
