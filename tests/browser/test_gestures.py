"""What mouse and fingers do on the picture, in an empty page: see ``components.py``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from core import imaging
from core.settings import ImageLimits
from core.types import Heatmap
from pages import _viewer
from pages._viewer import Prepared
from tests.browser.components import VIEWER, placed
from tests.browser.test_components import DRAWN, OPEN, film
from tests.simulated import encoded, phantom

Point = tuple[float, float]


@pytest.fixture
def page(browser) -> Iterator[Any]:
    with browser.new_context(has_touch=True, viewport={"width": 1024, "height": 768}) as context:
        yield context.new_page()


def message(seed: int, about: str) -> bytes:
    radiograph = imaging.decode(encoded(phantom(200, 200, seed=seed), "PNG"), "a", ImageLimits())
    said = {"alt": "", "mark": None, "marks": True, "session": "a", "about": about, "digits": ""}
    heat = Heatmap(np.linspace(0, 0.8, 16, dtype=np.float32).reshape(4, 4), "Grad-CAM")
    return _viewer._message(Prepared.of(radiograph), heat, said | {"caption": ()})


def opened(page, tool: str = "Mark") -> Point:
    """Three messages: a picture, another one, the first one in another study. The first is there;
    the middle of the canvas."""
    placed(page, VIEWER, [message(1, "one"), message(2, "two"), message(1, "three")])
    page.evaluate("void called(0)")
    expect(page.locator(".viewer")).to_have_attribute("data-ready", "true")
    page.get_by_role("button", name=tool, exact=True).click()
    page.evaluate(DRAWN)
    return middle(page)


def middle(page) -> Point:
    box = page.locator("canvas.stage").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def said(page, name: str) -> str:
    page.evaluate(DRAWN)
    return page.locator(".viewer").get_attribute(f"data-{name}")


def marks(page) -> list[list[float]]:
    """The rectangles that went to the server."""
    sent = page.evaluate("window.sent.map((list) => list.at(-1))")
    return [[float(x) for x in e["mark"].split()] for e in sent if e["kind"] == "mark"]


def drag(page, start: Point, end: Point, up: bool = True) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=3)
    if up:
        page.mouse.up()


@pytest.mark.parametrize("other", [1, 2])
def test_a_mark_that_was_begun_on_one_picture_is_not_kept_on_the_next(page, other: int) -> None:
    x, y = opened(page)
    drag(page, (x - 50, y - 50), (x, y), up=False)
    page.evaluate(f"void called({other})")
    expect(page.locator(".viewer")).to_have_attribute("data-ready", "true")
    page.mouse.move(x + 50, y + 50)
    page.mouse.up()
    page.evaluate(DRAWN)
    assert marks(page) == []
    drag(page, (x - 50, y - 50), (x, y))  # and the next one is one of this picture
    assert len(marks(page)) == 1
    assert page.evaluate("window.sent.at(-1).at(-1).about") == ("two", "three")[other - 1]


def test_the_wheel_does_no_harm_before_the_picture_is_there(page) -> None:
    x, y = opened(page)
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.mouse.move(x, y)
    page.evaluate(
        """() => {
          called(1);
          const wheel = new WheelEvent("wheel", { deltaY: -200, clientX: 200, clientY: 200 });
          document.querySelector("canvas.stage").dispatchEvent(wheel);
        }"""
    )
    expect(page.locator(".viewer")).to_have_attribute("data-ready", "true")
    assert complaints == [] and float(said(page, "zoom")) > 1


def test_side_by_side_a_mark_across_the_middle_goes_on(page) -> None:
    x, y = opened(page)
    page.get_by_role("button", name="Side by side").click()
    page.evaluate(DRAWN)
    drag(page, (x - 100, y - 40), (x - 20, y + 40), up=False)
    page.mouse.move(x + 15, y + 45)
    page.mouse.up()
    [(left, _, right, _)] = marks(page)
    page.get_by_role("button", name="Side by side").click()
    drag(page, (x - 100, y - 40), (x - 20, y + 40))
    assert left == pytest.approx(marks(page)[0][0]) and right == 1  # the pane ends there
    assert left > 0.3


def test_a_mark_lies_where_it_is_drawn_on_a_screen_of_another_density(page) -> None:
    opened(page)
    page.add_style_tag(content="canvas.stage { width: 600px; height: 400px }")
    page.wait_for_function("document.querySelector('canvas.stage').width === 600")
    x, y = middle(page)
    drag(page, (x - 50, y - 50), (x + 50, y + 50))
    chrome = page.context.new_cdp_session(page)
    # Of another width, too, or Chromium's emulation tells nobody; the canvas keeps its size.
    sharper = {"width": 1020, "height": 768, "deviceScaleFactor": 2, "mobile": False}
    chrome.send("Emulation.setDeviceMetricsOverride", sharper)
    page.wait_for_function("document.querySelector('canvas.stage').width === 1200", timeout=60_000)
    x, y = middle(page)
    drag(page, (x - 50, y - 50), (x + 50, y + 50))
    first, second = marks(page)
    assert second == pytest.approx(first, abs=0.01)


class Fingers:
    """What the fingers of a hand do on the page's screen."""

    def __init__(self, page) -> None:
        self._chrome = page.context.new_cdp_session(page)

    def __call__(self, kind: str, *points: Point) -> None:
        there = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(points)]
        self._chrome.send(
            "Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": there}
        )


def pinched(page, x: float, y: float) -> None:
    """Two fingers, one a moment after the other, go to twice their distance and 40 pixels up."""
    touch = Fingers(page)
    touch("Start", (x - 50, y))
    touch("Move", (x - 60, y - 10))
    touch("Start", (x - 60, y - 10), (x + 40, y - 10))
    for n in range(1, 6):
        touch("Move", (x - 60 - 10 * n, y - 10 - 8 * n), (x + 40 + 10 * n, y - 10 - 8 * n))
    touch("End")


@pytest.mark.parametrize("tool", ["Window", "Move", "Mark"])
def test_two_fingers_zoom_and_move_whatever_the_tool_is(page, tool: str) -> None:
    x, y = opened(page, tool)
    before = said(page, "window")
    pinched(page, x, y)
    assert float(said(page, "zoom")) == pytest.approx(2, rel=0.01)
    assert said(page, "window") == before and marks(page) == []
    _, v = (float(n) for n in said(page, "place").split())
    assert v > 0.5  # the picture went up with the fingers


def test_one_finger_marks_and_a_touch_that_is_cancelled_marks_nothing(page) -> None:
    x, y = opened(page)
    touch = Fingers(page)
    for end in ("Cancel", "End"):
        touch("Start", (x - 50, y - 50))
        touch("Move", (x, y))
        touch("Move", (x + 30, y + 20))
        touch(end)
        page.evaluate(DRAWN)
        assert len(marks(page)) == (end == "End")


@pytest.mark.parametrize(("name", "zoom"), [("Zoom in", 1.25), ("Zoom out", 0.8)])
def test_buttons_zoom(page, name: str, zoom: float) -> None:
    opened(page)
    page.get_by_role("button", name=name).click()
    assert float(said(page, "zoom")) == pytest.approx(zoom)


def test_a_second_finger_moves_no_corner_into_another_photograph(page) -> None:
    film(page)
    touch = Fingers(page)
    boxes = [
        page.get_by_role("button", name=n).bounding_box() for n in ("Top right", "Bottom right")
    ]
    first, second = [(box["x"] + 12, box["y"] + 12) for box in boxes]
    touch("Start", first)
    touch("Start", first, second)
    there = [(first[0] - 20, first[1]), (second[0] - 20, second[1])]
    touch("Move", *there)
    moved = page.locator(".film").get_attribute("data-corners").split()
    assert moved[2] != "0.8000" and moved[4] == "0.8000"  # one at a time
    page.evaluate("void called(1)")
    touch("Move", *[(x - 20, y) for x, y in there])
    touch("End")
    expect(page.locator(".film")).to_have_attribute("data-corners", OPEN)
    assert page.evaluate("window.sent") == []
