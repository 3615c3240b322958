"""Every page: nothing serious for axe-core, and every control within reach of the keyboard."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from core.registry import Registry
from core.settings import Settings
from core.store import Mark, Opinion, Store, Verdict
from core.types import BodyPart, Finding
from tests import worklist
from tests.browser.conftest import Visit, serving
from tests.browser.test_diagnose import ready, settled
from tests.browser.test_review import clean, watched
from tests.simulated import encoded, phantom
from tests.test_training_page import evaluated, made_up
from tests.waiting import eventually

VIEWS = {
    "training": ("Runs", "New run", "Compare", "Data sets"),
    "metrics": ("Figures", "Curves", "Threshold", "Body part", "Heatmaps", "Mistakes"),
    "releases": ("Releases", "Compare", "Add"),
}
PLACES = [
    ("batch", ""),
    *((p, views[0]) for p, views in VIEWS.items()),
    # a quarter of a minute each: the first view of a page in every run, the others in make stress
    *(
        pytest.param(p, v, marks=pytest.mark.stress)
        for p, views in VIEWS.items()
        for v in views[1:]
    ),
]
# Every control that is seen and can be used, in shadow roots too. A group in which arrow keys go
# from one to the next (WAI-ARIA: radiogroup, tablist, toolbar, grid; the rows of a list; chosen
# values, which Backspace removes) has one stop for all. A combobox is opened by the arrow key in
# its field, so the button beside the field is no stop.
CONTROLS = """() => {
  const every = (root) => [...root.querySelectorAll("*")].flatMap(
    (e) => (e.shadowRoot ? [e, ...every(e.shadowRoot)] : [e]));
  const kind = "a[href], button, input, select, textarea, summary, canvas[tabindex], [role=slider]";
  const group = "[role=radiogroup], [role=tablist], [role=grid], [role=toolbar]:not(.bar), " +
    ".rows, [role=group][aria-label='Selected values']";
  const usable = (e) => e.matches(kind) && !e.disabled && !["hidden", "file"].includes(e.type) &&
    !e.matches("button[aria-haspopup=listbox][tabindex='-1']") &&
    !e.closest("[aria-hidden=true], [inert]") && e.tabIndex > -2 &&
    e.checkVisibility({ opacityProperty: true, visibilityProperty: true }) &&
    e.getBoundingClientRect().width > 1;
  const found = every(document).filter(usable);
  const reached = (e) => e.reached || [...(e.closest(group)?.querySelectorAll("*") ?? [])]
    .some((other) => other.reached);
  return found.filter((e) => !reached(e)).map((e) => e.outerHTML.slice(0, 200));
}"""
REMEMBER = """() => {
  const reach = (event) => { event.composedPath()[0].reached = true; };
  // What moves inside of a shadow root is not seen from outside.
  const roots = [...document.querySelectorAll("*")].map((e) => e.shadowRoot).filter(Boolean);
  for (const root of [document, ...roots]) root.addEventListener("focusin", reach, true);
}"""
MOST_STOPS, STRIDE = 160, 10


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> tuple[Path, str]:
    """(a BONE_HOME with runs, an evaluation and a decided study, the study's id)."""
    home = tmp_path_factory.mktemp("filled")
    made_up(home, 2, 6)
    evaluated(home)
    store = Store.open(Settings(home=home))
    study = worklist.put(store, Registry.open(weights).find("champion"), "Study 1", 0.9, seed=60)
    mark = Mark(0, 0.3, 0.3, 0.6, 0.6)
    opinion = Opinion(Verdict.DISAGREE, BodyPart.HAND, Finding.NOT_SUSPECTED, "Old", (mark,))
    store.decide(study, "ann", opinion, 0)
    store.close()
    return home, study


@pytest.fixture(scope="module")
def server(weights: Path, filled: tuple[Path, str]) -> Iterator[str]:
    home, _ = filled
    with serving(weights, home, home / "server.log") as url:
        yield url


def serious(page) -> list[object]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    return [
        (v["id"], [n["html"][:200] for n in v["nodes"]])
        for v in axe.run(page).response["violations"]
        if v["impact"] in ("serious", "critical")
    ]


def check(page) -> None:
    """Nothing serious, and every control is a stop of Tab or in a group that has one."""

    def nothing_serious() -> bool:
        found = serious(page)
        assert not found, found
        return True

    eventually(nothing_serious, 30)  # what is faded while the page is drawn is not what stays
    page.evaluate("() => document.activeElement?.blur()")
    page.evaluate(REMEMBER)
    for _ in range(MOST_STOPS // STRIDE):
        for _ in range(STRIDE):
            page.keyboard.press("Tab")
        if not page.evaluate(CONTROLS):
            break
    missed = page.evaluate(CONTROLS)
    assert not missed, missed


def opened(visit: Visit, path: str):
    page = visit.page
    page.goto(f"{visit.url}/{path}")
    page.locator("footer.quiet").wait_for()
    settled(page)
    return page


@pytest.mark.parametrize(("name", "view"), PLACES)
def test_every_page(visit: Visit, name: str, view: str) -> None:
    missing = watched(visit)
    page = opened(visit, name)
    if view:
        page.get_by_role("radio", name=view, exact=True).click()
        expect(page.get_by_role("radio", name=view, exact=True)).to_be_checked()
        settled(page)
    if (name, view) == ("training", "Compare"):  # the runs to compare are chosen when it opens
        expect(page.locator("[data-tag]")).to_have_count(2, timeout=60_000)
    check(page)
    clean(visit, missing)


@pytest.mark.stress
def test_diagnose_with_two_studies(visit: Visit, tmp_path: Path) -> None:
    page = opened(visit, "")
    files = [tmp_path / f"{n}.png" for n in range(2)]
    for n, file in enumerate(files):
        file.write_bytes(encoded(phantom(200, 160, seed=n), "PNG"))
    page.locator("input[type=file]").set_input_files([str(f) for f in files])
    expect(page.get_by_role("button", name="Export data")).to_be_visible()
    ready(page)
    check(page)


def test_one_study_under_review(visit: Visit, filled: tuple[Path, str]) -> None:
    page = opened(visit, f"review?study={filled[1]}")
    name = page.get_by_role("textbox", name="Your name or initials")
    name.fill("ann")
    name.press("Enter")
    page.get_by_role("button", name="Remove the mark").wait_for()
    ready(page)
    check(page)


def test_the_worklist(visit: Visit, filled: tuple[Path, str], weights: Path) -> None:
    """Tab passes it, arrows go from study to study, Enter opens one."""
    store, release = Store.open(Settings(home=filled[0])), Registry.open(weights).find("champion")
    calm = worklist.put(store, release, "A calm one", 0.1, seed=70)
    store.close()
    page = opened(visit, "review")
    expect(page.get_by_role("button", name="Study 1, Suspected, 90 %")).to_be_visible()
    check(page)
    rows = page.locator(".rows button")
    expect(rows).to_have_count(2)
    rows.first.focus()
    page.keyboard.press("ArrowDown")
    expect(rows.last).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("textbox", name="Your name or initials").wait_for()
    expect(page).to_have_url(re.compile(calm))
    page.get_by_role("button", name="Worklist").click()
    expect(page.locator(".rows tr[aria-current]")).to_contain_text("A calm one")


def test_a_mark_without_a_mouse(visit: Visit, filled: tuple[Path, str]) -> None:
    missing = watched(visit)
    page = opened(visit, f"review?study={filled[1]}")
    name = page.get_by_role("textbox", name="Your name or initials")
    name.fill(f"keys {time.monotonic_ns()}")
    name.press("Enter")
    expect(page.get_by_role("button", name="Disagree")).to_be_enabled(timeout=60_000)
    settled(page)
    ready(page)
    page.locator("canvas.stage").focus()
    for key in ("+", "Shift+ArrowRight", "m", "2"):  # faster than the server answers
        page.keyboard.press(key)
    expect(page.get_by_role("button", name="Remove the mark (view 1)")).to_be_visible()
    page.get_by_role("combobox", name="Body part").wait_for()
    clean(visit, missing)
