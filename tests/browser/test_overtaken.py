"""Streamlit cleans up after a call of a component that a newer call overtook.

The component is still on the page then, and must go on working. Two calls in one moment are hard to
time in the app, so the component's module is called here as Streamlit calls it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from core import imaging
from core.settings import ImageLimits
from pages import _film, _viewer
from pages._viewer import Prepared, framed
from tests.simulated import encoded, phantom

OVERTAKEN = """async ([html, script, message]) => {
  document.body.innerHTML = html;
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const component = (await import(url)).default;
  window.sent = [];
  const tell = (name, value) => window.sent.push(JSON.parse(JSON.stringify(value)));
  const call = () => component({ data: Uint8Array.from(message), parentElement: document.body,
    setStateValue: tell, setTriggerValue: tell });
  const [overtaken, last] = [call(), call()];
  overtaken();
  window.again = () => void call();
  window.unmounted = () => { document.body.replaceChildren(); last(); };
}"""


@pytest.fixture
def page(browser):
    with browser.new_page() as page:
        page.goto("about:blank")
        yield page


def overtaken(page, folder: Path, scripts: tuple[str, ...], message: bytes) -> None:
    html = (folder / f"{folder.name}.html").read_text(encoding="utf-8")
    parts = [(folder / name).read_text(encoding="utf-8") for name in scripts]
    page.evaluate(OVERTAKEN, [html, "\n".join(parts), list(message)])


def viewer(page) -> None:
    """Of two calls the first one was overtaken, and cleaned up after."""
    radiograph = imaging.decode(encoded(phantom(60, 40), "PNG"), "a.png", ImageLimits())
    options = {"alt": "", "marks": True, "digits": "1 agree", "mark": None, "session": "a"}
    message = _viewer._message(Prepared.of(radiograph), None, options | {"about": "b"})
    overtaken(page, _viewer.FOLDER, _viewer.SCRIPTS, message)
    expect(page.locator(".viewer")).to_have_attribute("data-ready", "true")


def test_the_viewer_still_takes_keys_and_each_once(page) -> None:
    viewer(page)
    page.keyboard.press("2")
    page.evaluate("window.again()")
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
    header = {"id": "a", "corners": corners, "alt": ""}
    message = framed(header, [encoded(phantom(60, 40), "JPEG")])
    overtaken(page, _film.FOLDER, ("../viewer/decode.js", "film.js"), message)
    page.evaluate("window.again()")
    page.get_by_role("button", name="Top left").press("Shift+ArrowRight")
    page.wait_for_function("window.sent.length > 0")
    page.wait_for_timeout(1000)  # a second one would come with the first
    (event,) = page.evaluate("window.sent")
    assert event["corners"][0] == pytest.approx([0.12, 0.1])
