"""The first result is there at once and before the others, and nothing moves when they arrive."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import expect

from pages._drops import ONE_DROP
from tests.browser.conftest import Visit
from tests.browser.test_diagnose import opened
from tests.simulated import encoded, phantom

# A browser that is slower than the server draws nothing before all is read: then with more files.
COUNTS = (12, 40, 120)
# At every frame: where the drawn picture stands, and whether files are still awaited.
WATCH = """() => {
  window.seen = [];
  const look = () => {
    const host = [...document.querySelectorAll(".st-key-picture *")].find((e) => e.shadowRoot);
    const viewer = host?.shadowRoot.querySelector(".viewer[data-ready=true]");
    if (viewer) {
      const stage = viewer.querySelector("canvas.stage");
      const { top, left, width, height } = stage.getBoundingClientRect();
      const reading = document.querySelector("[data-testid=stProgress]") !== null;
      window.seen.push([reading, ...[top + scrollY, left, width, height].map(Math.round)]);
    }
    requestAnimationFrame(look);
  };
  look();
}"""


Places = list[list[int]]


def radiographs(folder: Path, count: int) -> list[str]:
    """Simulated ones that take a while: each is a study of its own."""
    files = [folder / f"{n:03d}.png" for n in range(count)]
    for n, file in enumerate(files):
        file.write_bytes(encoded(phantom(900, 700, seed=n), "PNG"))
    return [str(f) for f in files]


def places(visit: Visit, files: list[str]) -> tuple[Places, Places]:
    """Where the picture stood while files were awaited, and after."""
    page = opened(visit)
    page.evaluate(WATCH)
    page.locator("input[type=file]").set_input_files(files)
    expect(page.get_by_role("button", name="Export data")).to_be_visible()
    expect(page.get_by_text(re.compile(rf"Study \d+ of {len(files)}"))).to_be_visible()
    page.wait_for_function("() => window.seen.some(([reading]) => !reading)")
    seen = page.evaluate("() => window.seen")
    early = [place for reading, *place in seen if reading]
    return early, [place for reading, *place in seen if not reading]


def test_the_first_result_comes_first_and_stays_where_it_is(visit: Visit, tmp_path: Path) -> None:
    for count in COUNTS:
        early, late = places(visit, radiographs(tmp_path, count))
        if early:
            break
    assert early, "nothing was shown before all was read"
    moved = [p for p in early + late if max(abs(a - b) for a, b in zip(p, late[-1])) > 2]
    assert not moved
    assert not visit.complaints


# At every frame: the studies that are shown, where they are others than before.
SHOWN = """() => {
  window.shown = [];
  const look = () => {
    const now = [...document.querySelectorAll(".cardname")].map((e) => e.textContent).join();
    if (now !== window.shown.at(-1)) window.shown.push(now);
    requestAnimationFrame(look);
  };
  look();
}"""


def test_nothing_of_the_last_patient_stays_while_the_next_one_is_read(
    visit: Visit, tmp_path: Path
) -> None:
    page = opened(visit)
    for name, side in (("ann.png", 300), ("bob.png", 4500)):  # the larger one takes a while
        (tmp_path / name).write_bytes(encoded(phantom(side, side), "PNG"))
    page.locator("input[type=file]").set_input_files(str(tmp_path / "ann.png"))
    page.locator(".cardname", has_text="ann.png").wait_for()
    expect(page.locator(".st-key-picture .viewer[data-ready=true]")).to_be_visible()
    page.wait_for_timeout(1000 * ONE_DROP + 500)  # what comes sooner came with the first one
    page.evaluate(SHOWN)
    page.locator("input[type=file]").set_input_files(str(tmp_path / "bob.png"))
    page.locator(".cardname", has_text="bob.png").wait_for()
    assert page.evaluate("() => window.shown") == ["ann.png", "", "bob.png"]


def test_no_code_is_fetched_between_drop_and_result(visit: Visit, tmp_path: Path) -> None:
    page = opened(visit)
    page.locator("footer.quiet", has_text="Release").wait_for()  # the model is loaded
    page.wait_for_load_state("networkidle")
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url.rpartition("/static/js/")[2]))
    page.locator("input[type=file]").set_input_files(radiographs(tmp_path, 2))
    expect(page.get_by_role("button", name="Export data")).to_be_visible()
    expect(page.locator(".st-key-picture .viewer[data-ready=true]")).to_be_visible()
    scripts = [name for name in fetched if name.endswith(".js")]
    # The one that sends a file: nothing but a file that is given makes the page fetch it.
    assert [s for s in scripts if not s.startswith("axios.")] == []
    assert len(fetched) > len(scripts)  # the file itself was sent


def test_what_adds_more_files_stays_in_sight(visit: Visit, tmp_path: Path) -> None:
    page = opened(visit)
    page.locator("input[type=file]").set_input_files(radiographs(tmp_path, 12))
    expect(page.get_by_text(re.compile(r"Study \d+ of 12"))).to_be_visible()
    chips = page.get_by_test_id("stFileChips").bounding_box()
    more = page.get_by_role("button", name="Add files").bounding_box()
    assert chips and more
    assert chips["y"] <= more["y"] and more["y"] + more["height"] <= chips["y"] + chips["height"]
