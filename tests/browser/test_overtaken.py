"""Streamlit cleans up after a call of a component that a newer call overtook.

The component is still on the page then, and must go on working. Two calls in one moment are hard to
time in the app, so the component's module is called here as Streamlit calls it.
"""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from core import imaging
from core.settings import ImageLimits
from pages import _viewer
from pages._film import bounds
from pages._viewer import Prepared, framed
from tests.browser.components import FILM, VIEWER, Component, placed
from tests.simulated import encoded, phantom

OVERTAKEN = """async (late) => {
  const calls = late ? [called(-1), called(0)].reverse() : [called(0), called(-1)];
  const [overtaken, last] = calls;
  await overtaken();
  window.unmounted = () => { document.body.replaceChildren(); last(); };
}"""


@pytest.fixture
def page(browser):
    with browser.new_page() as page:
        yield page


def overtaken(page, component: Component, messages: list[bytes], late: bool = False) -> None:
    """Called with each message, and cleaned up after the first.

    late: the first message comes after the last one.
    """
    placed(page, component, messages)
    page.evaluate(OVERTAKEN, late)


def viewer(page, late: bool = False) -> None:
    """Of two calls the first one was overtaken; only the other one takes marks."""
    radiograph = imaging.decode(encoded(phantom(60, 40), "PNG"), "a.png", ImageLimits())
    options = {"alt": "", "mark": None, "session": "a", "about": "b"}
    messages = [
        _viewer._message(Prepared.of(radiograph), None, options | {"marks": m, "digits": d})
        for m, d in ((False, ""), (True, "1 agree"))
    ]
    overtaken(page, VIEWER, messages, late)
    expect(page.locator(".viewer")).to_have_attribute("data-ready", "true")


@pytest.mark.parametrize("late", [False, True])
def test_the_viewer_still_takes_keys_and_each_once(page, late: bool) -> None:
    viewer(page, late)
    expect(page.get_by_role("button", name="Mark", exact=True)).to_be_visible()
    page.keyboard.press("2")
    page.evaluate("void called(-1)")
    page.get_by_role("button", name="Invert").click()
    expect(page.get_by_role("button", name="Invert")).to_have_attribute("aria-pressed", "true")
    assert [event["value"] for (event,) in page.evaluate("window.sent")] == [2]


def test_the_viewer_is_deaf_when_it_has_left_the_page(page) -> None:
    viewer(page)
    page.evaluate("window.unmounted()")
    page.keyboard.press("2")
    assert page.evaluate("window.sent") == []


def test_the_corners_of_a_film_still_move_and_each_once(page) -> None:
    corners = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]
    header = {"id": "a", "corners": corners, "alt": "", **bounds((600, 400), ImageLimits())}
    message = framed(header, [encoded(phantom(60, 40), "JPEG")])
    overtaken(page, FILM, [message, message])
    page.evaluate("void called(-1)")
    page.get_by_role("button", name="Top left").press("Shift+ArrowRight")
    page.wait_for_function("window.sent.length > 0")
    page.wait_for_timeout(1000)  # a second one would come with the first
    (event,) = page.evaluate("window.sent")
    assert event["corners"][0] == pytest.approx([0.12, 0.1])
