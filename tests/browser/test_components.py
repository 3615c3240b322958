"""What the components do by themselves, in an empty page: see ``components.py``."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from core import imaging
from core.film import checked
from core.settings import ImageLimits
from core.types import Heatmap
from pages import _viewer
from pages._film import bounds
from pages._viewer import Prepared, framed
from tests.browser.components import FILM, ROWS, VIEWER, placed
from tests.browser.test_viewer import state
from tests.simulated import encoded, phantom

LISTENING = """() => {
  const write = CanvasRenderingContext2D.prototype.fillText;
  Object.assign(window, { written: [], fonts: [], widths: [] });
  CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
    window.written.push(text);
    window.fonts.push(this.font.split(" ")[0]);
    window.widths.push(this.measureText(text).width);
    write.call(this, text, ...place);
  };
}"""


DRAWN = """async () => {
  for (let n = 0; n < 2; n++) await new Promise(requestAnimationFrame);
}"""
INKED = """() => {
  const canvas = document.querySelector("canvas.stage");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data.filter((value, n) => n % 4 === 1 && value > 200).length;
}"""


SHAPE = (1000, 1000)  # of a photograph


@pytest.fixture
def page(browser):
    with browser.new_page() as page:
        yield page


def viewer(
    page, grey: np.ndarray, without: bytes = b"", more: dict[str, Any] | None = None
) -> dict[str, str]:
    """The viewer with one radiograph and its heatmap; what it says of itself.

    without: a second message, for where there is no picture. more: what else it is told.
    """
    radiograph = imaging.decode(encoded(grey, "PNG"), "a.png", ImageLimits())
    said = {"alt": "", "mark": None, "marks": False, "session": "a", "about": "b", "digits": ""}
    heat = Heatmap(np.linspace(0, 0.8, 16, dtype=np.float32).reshape(4, 4), "Grad-CAM")
    said |= {"caption": ("A line",)} | (more or {})
    placed(page, VIEWER, [_viewer._message(Prepared.of(radiograph), heat, said), without])
    page.evaluate("void called(0)")
    expect(page.locator(".viewer")).to_have_attribute("data-ready", "true")
    return state(page)


def test_the_mark_of_another_reader_is_drawn_with_the_name(page) -> None:
    grey = np.zeros((60, 60), np.uint8)
    viewer(page, grey)
    assert inked(page) == 0
    others = [{"label": "ann", "box": [0.2, 0.4, 0.6, 0.8]}]
    viewer(page, grey, more={"others": others})
    assert inked(page) > 100


def inked(page) -> int:
    """Pixels on the canvas as bright as an outline, with the heatmap away."""
    page.get_by_role("button", name="Heatmap", exact=True).click()
    page.evaluate(DRAWN)
    return page.evaluate(INKED)


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
    words = " ".join(page.evaluate("window.written"))  # in lines of the picture's width
    assert words.startswith("A line Window C ")
    assert words.endswith(", inverted, turned clockwise by 90 degrees, mirrored Without heatmap")
    # Clockwise it goes to the upper right corner, and mirrored to the upper left one again.
    assert saved[10, 10, 0] < 40 and saved[10, 50, 0] > 200


def test_the_lines_below_a_saved_picture_are_wrapped_and_not_made_smaller(page) -> None:
    said = "The header names a foot, and the picture was taken for one of a hand: please check."
    viewer(page, phantom(300, 240), more={"caption": ("hand: not suspected", said)})
    page.evaluate(LISTENING)
    with page.expect_download():
        page.get_by_role("button", name="Save PNG").click()
    assert said in " ".join(page.evaluate("window.written"))
    assert said not in page.evaluate("window.written")
    assert set(page.evaluate("window.fonts")) == {"11px"}
    assert max(page.evaluate("window.widths")) <= 240


def place(page) -> tuple[float, ...]:
    return tuple(float(x) for x in state(page)["place"].split())


def test_shift_and_arrows_pan_as_it_is_seen(page) -> None:
    """To the right is to the right, on a turned or mirrored picture too."""
    viewer(page, phantom(60, 90))
    page.locator("canvas.stage").focus()
    for clicks, expected in (
        ((), (0.55, 0.5)),
        (("Rotate",), (0.5, 0.45)),  # what is right now was up
        (("Rotate", "Rotate"), (0.45, 0.5)),
        (("Flip",), (0.45, 0.5)),
        (("Rotate", "Flip"), (0.5, 0.55)),
    ):
        page.get_by_role("button", name="Reset").click()
        page.evaluate(DRAWN)  # only then the buttons show it
        if page.get_by_role("button", name="Flip").get_attribute("aria-pressed") == "true":
            page.get_by_role("button", name="Flip").click()
        for name in clicks:
            page.get_by_role("button", name=name).click()
        page.keyboard.press("Shift+ArrowRight")
        assert place(page) == pytest.approx(expected)


def test_where_a_view_has_no_picture_the_keys_still_go_on(page) -> None:
    header = {"id": "", "key": "", "about": "", "session": "a"}
    viewer(page, phantom(60, 90), without=framed(header, []))
    page.evaluate("void called(1)")
    expect(page.locator(".viewer")).to_be_hidden()
    for key in ("i", "o", "+", "Shift+ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    assert [e["step"] for e in page.evaluate("window.sent.at(-1)")] == [1, -1]
    page.evaluate("void called(0)")
    expect(page.locator(".viewer")).to_have_attribute("data-ready", "true")
    assert state(page)["zoom"] == "1.0000"
    expect(page.get_by_role("button", name="Invert")).to_have_attribute("aria-pressed", "false")


def test_dragging_down_is_darker_as_the_button_says(page) -> None:
    before = viewer(page, phantom(60, 90))
    assert "down is darker" in page.get_by_role("button", name="Window").get_attribute("title")
    box = page.locator("canvas.stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 50
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 60)
    page.mouse.up()
    after = state(page, lambda s: s["window"] != before["window"])
    low, high = (np.array(s["window"].split(), float) for s in (before, after))
    assert (high > low).all()  # the window lies higher, so that every grey value is darker


@pytest.mark.parametrize("way", ["released with Alt", "the window is left", "the tab is left"])
def test_a_peek_ends_however_the_key_is_let_go(page, way: str) -> None:
    viewer(page, phantom(60, 90))
    page.locator("canvas.stage").focus()
    page.keyboard.down("o")
    state(page, lambda s: s["overlay"] == "false")
    if way == "released with Alt":
        page.keyboard.down("Alt")
        page.keyboard.up("o")
    elif way == "the window is left":
        page.evaluate("window.dispatchEvent(new Event('blur'))")
    else:
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    state(page, lambda s: s["overlay"] == "true")


def film(page, shape: tuple[int, int] = SHAPE) -> None:
    """Two photographs with a film in their middle, and the first one with the answer to a corner
    that was moved; the first one is there."""
    header = {"alt": "", **bounds(shape, ImageLimits())}
    corners = [[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]]
    taken = [encoded(phantom(300, 300), "JPEG")]
    said = [("a", corners), ("b", corners), ("a", [[0.22, 0.2], *corners[1:]])]
    messages = [framed(header | {"id": one, "corners": given}, taken) for one, given in said]
    placed(page, FILM, messages)
    page.evaluate("void called(0)")
    expect(page.locator(".film")).to_have_attribute("data-corners", OPEN)


OPEN = "0.2000 0.2000 0.8000 0.2000 0.8000 0.8000 0.2000 0.8000"


@pytest.mark.parametrize(("across", "down"), [(0.7, 0.2), (0.4, 0.5)])
def test_a_corner_that_makes_no_film_goes_back_and_that_is_said(
    page, across: float, down: float
) -> None:
    film(page)
    refused = page.get_by_role("alert")
    expect(refused).to_be_empty()
    size = page.locator(".frame img").bounding_box()["width"]
    box = page.get_by_role("button", name="Top left").bounding_box()
    x, y = box["x"] + 12, box["y"] + 12
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + across * size, y + down * size)
    moved = page.locator(".film").get_attribute("data-corners")
    values = np.array(moved.split(), float).reshape(4, 2)
    assert moved != OPEN and checked(values, SHAPE, 32) is None  # the server would refuse it too
    page.mouse.up()
    expect(page.locator(".film")).to_have_attribute("data-corners", OPEN)
    expect(refused).to_contain_text("The corner was put back")
    assert page.evaluate("window.sent") == []
    page.get_by_role("button", name="Top left").press("Shift+ArrowLeft")
    expect(refused).to_be_empty()
    page.wait_for_function("window.sent.length > 0")


@pytest.mark.parametrize("shape", [SHAPE, (90, 90), (300, 12_000)])
def test_keys_make_a_film_no_smaller_than_the_server_takes(page, shape: tuple[int, int]) -> None:
    film(page, shape)
    corner = page.get_by_role("button", name="Top left")
    for _ in range(40):
        corner.press("Shift+ArrowRight")
    expect(page.get_by_role("alert")).to_contain_text("too small")
    page.wait_for_function("window.sent.length > 0")
    sent = [event["corners"] for event in page.evaluate("window.sent")]
    assert all(checked(corners, shape, ImageLimits().min_side) for corners in sent)


def test_corners_moved_by_key_are_those_of_the_photograph_they_were_moved_on(page) -> None:
    film(page)
    page.get_by_role("button", name="Top left").press("Shift+ArrowRight")
    page.evaluate("void called(1)")  # before the pause after the last key is over
    page.evaluate("void called(1)")
    [sent] = page.evaluate("window.sent")
    assert sent["id"] == "a" and sent["corners"][0] == pytest.approx([0.22, 0.2])
    page.get_by_role("button", name="Top left").press("Shift+ArrowDown")
    page.wait_for_function("window.sent.length > 1")
    assert [e["id"] for e in page.evaluate("window.sent")] == ["a", "b"]


def test_corners_moved_by_key_go_off_when_their_photograph_leaves_the_page(page) -> None:
    film(page)
    # Not every browser tells a button that goes that it has lost the focus: here it has none.
    key = {"key": "ArrowRight", "shiftKey": True}
    page.get_by_role("button", name="Top left").dispatch_event("keydown", key)
    page.evaluate(
        """() => {
          const end = called(0);
          document.querySelector(".film").remove();
          end();
        }"""
    )
    [sent] = page.evaluate("window.sent")
    assert sent["id"] == "a" and sent["corners"][0] == pytest.approx([0.22, 0.2])


def test_a_drag_of_a_corner_ends_with_its_photograph(page) -> None:
    film(page)
    box = page.get_by_role("button", name="Top left").bounding_box()
    page.mouse.move(box["x"] + 12, box["y"] + 12)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.evaluate("void called(1)")
    page.mouse.move(box["x"] + 30, box["y"] + 30)
    page.mouse.up()
    expect(page.locator(".film")).to_have_attribute("data-corners", OPEN)
    assert page.evaluate("window.sent") == []


def seized(page, corner: str = "Top right", **button: Any) -> tuple[float, float]:
    """A corner is dragged by 30 pixels, and held; where the pointer was before."""
    box = page.get_by_role("button", name=corner).bounding_box()
    x, y = box["x"] + 12, box["y"] + 12
    page.mouse.move(x, y)
    page.mouse.down(**button)
    page.mouse.move(x - 30, y)
    return x, y


def places(page) -> list[float]:
    return [float(v) for v in page.locator(".film").get_attribute("data-corners").split()]


def test_an_older_answer_takes_no_corner_from_the_hand_that_has_it(page) -> None:
    film(page)
    corner = page.get_by_role("button", name="Top left")
    corner.press("Shift+ArrowRight")
    page.wait_for_function("window.sent.length > 0")
    corner.press("Shift+ArrowRight")
    page.evaluate("void called(2)")  # the answer to the first
    assert places(page)[0] == 0.24
    page.wait_for_function("window.sent.length > 1")
    assert page.evaluate("window.sent.at(-1).corners[0]") == pytest.approx([0.24, 0.2])

    film(page)
    seized(page)
    held = places(page)
    page.evaluate("void called(2)")
    assert places(page) == held != [0.22, *held[1:]]
    page.get_by_role("button", name="Top left").dispatch_event("keydown", {"key": "ArrowDown"})
    assert places(page) == held  # the keys wait for the hand
    page.mouse.up()
    assert page.evaluate("window.sent.length") == 1 and places(page) == held


@pytest.mark.parametrize("how", ["lost", "another photograph"])
def test_a_drag_that_ends_unheard_leaves_what_the_server_has(page, how: str) -> None:
    film(page)
    x, y = seized(page)
    page.evaluate("void called(2)")
    if how == "lost":
        page.evaluate("document.querySelectorAll('.film button')[1].releasePointerCapture(1)")
        page.mouse.move(x - 60, y)
    else:
        page.evaluate("void called(1)")
        page.evaluate("void called(2)")
    page.mouse.move(x - 90, y)
    assert places(page)[:3] == [0.22, 0.2, 0.8]
    page.mouse.up()
    assert page.evaluate("window.sent") == []


def test_only_the_left_button_moves_a_corner(page) -> None:
    film(page)
    seized(page, button="right")
    page.mouse.up(button="right")
    expect(page.locator(".film")).to_have_attribute("data-corners", OPEN)
    assert page.evaluate("window.sent") == []


@pytest.mark.parametrize("held", [{"altKey": True}, {"altKey": True, "ctrlKey": True}])
def test_the_keys_of_the_window_are_those_of_every_keyboard(page, held: dict[str, bool]) -> None:
    """Brackets are written with AltGr (Ctrl and Alt on Windows) or Option on many."""
    viewer(page, phantom(60, 90))

    def pressed(key: str, keys: dict[str, bool]) -> str:
        told = {"key": key, "bubbles": True, "cancelable": True} | keys
        page.evaluate("(told) => document.dispatchEvent(new KeyboardEvent('keydown', told))", told)
        page.evaluate(DRAWN)
        return state(page)["window"]

    seen = [state(page)["window"], *[pressed(key, held) for key in ("[", ",", "]", ".")]]
    assert all(one != other for one, other in pairwise(seen))
    for key, keys in (
        ("i", held),
        ("[", {"ctrlKey": True}),
        ("[", {"altKey": True, "metaKey": True}),
    ):
        assert pressed(key, keys) == seen[-1]  # the browser's


def test_a_key_that_is_held_goes_no_further_than_one_that_is_pressed(page) -> None:
    viewer(page, phantom(100, 80), more={"marks": True, "digits": "1 agree"})
    before = state(page)
    for key in ("ArrowRight", "1", "m", " "):
        for _ in range(3):  # the second and third are repeats
            page.keyboard.down(key)
        page.keyboard.up(key)
    kinds = page.evaluate("window.sent.at(-1).map((e) => e.kind)")
    assert kinds == ["go", "decision", "mark"]
    for _ in range(2):
        page.keyboard.down("+")
    after = state(page, lambda s: float(s["zoom"]) > 1.5)
    assert after["overlay"] != before["overlay"]


def test_a_note_stands_below_its_file_where_its_column_is_left_out(page) -> None:
    columns = [
        {"name": n, "kind": "text", "width": 0, "aside": n == "Note"} for n in ("File", "Note")
    ]
    lines = [{"id": "a", "cells": ["a.png", "A photograph."], "below": "A photograph."}]
    data = {"columns": columns, "rows": lines, "label": "", "opens": "File", "tall": True}
    data |= {"height": 100, "current": ""}
    placed(page, ROWS, [data, data | {"columns": columns[:1]}])
    below, column = page.locator(".below"), page.locator("td.aside")
    page.set_viewport_size({"width": 1400, "height": 700})
    page.evaluate("void called(0)")
    expect(column).to_be_visible()
    expect(below).to_be_hidden()
    page.set_viewport_size({"width": 1024, "height": 700})
    expect(column).to_be_hidden()
    expect(below).to_be_visible()
    page.set_viewport_size({"width": 1400, "height": 700})
    page.evaluate("void called(1)")  # a row is open, and the column not there
    expect(below).to_be_visible()


def test_the_list_scrolls_to_the_open_row_and_the_page_does_not(page) -> None:
    columns = [{"name": "Study", "kind": "text", "width": 0, "aside": False}]
    lines = [{"id": str(n), "cells": [f"Study {n}"]} for n in range(40)]
    data = {"columns": columns, "rows": lines, "label": "", "opens": "Study", "tall": False}
    placed(page, ROWS, [data | {"height": 200, "current": str(n)} for n in (0, 30, 0)])
    page.evaluate("void (document.body.style.margin = '0 0 3000px')")

    def seen(number: int) -> bool:
        """Whether the row is below the list's head and above its end."""
        return page.evaluate(
            """(id) => {
              const box = (e) => document.querySelector(e).getBoundingClientRect();
              const row = box(`tr[data-id="${id}"]`);
              return row.top >= box("th").bottom - 1 && row.bottom <= box(".rows").bottom;
            }""",
            str(number),
        )

    page.evaluate("void called(0)")
    assert seen(0) and not seen(30)
    page.evaluate("window.scrollTo(0, 1000)")
    page.evaluate("void called(1)")
    assert seen(30) and not seen(0) and page.evaluate("window.scrollY") == 1000
    page.evaluate("void called(2)")
    assert seen(0) and page.evaluate("window.scrollY") == 1000
