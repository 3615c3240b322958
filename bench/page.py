"""The page in a real Chromium: from nothing to the first page, to its first result, to the next.

By the clock, with the browser on the same processor: what a reader at this computer waits for.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bench import ways
from bench.clock import spread
from core.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Page

# At every frame: whether the picture and the reading of a study are drawn. In the page's own clock.
WATCH = """() => {
  window.drawn = null;
  window.given = null;
  const look = () => {
    const host = [...document.querySelectorAll(".st-key-picture *")].find((e) => e.shadowRoot);
    const ready = host?.shadowRoot.querySelector(".viewer[data-ready=true]");
    const read = [...document.querySelectorAll("dl.reading")].some((e) => e.offsetParent);
    if (window.given !== null && window.drawn === null && ready && read)
      window.drawn = performance.now();
    requestAnimationFrame(look);
  };
  look();
  document.addEventListener("change", (event) => {
    if (event.target.type === "file") window.given = performance.now();
  }, true);
}"""
WAIT = 600_000  # milliseconds


def latency(settings: Settings, rounds: int) -> Iterator[str]:
    """Seconds of a cold start, and milliseconds of one radiograph from upload to result drawn."""
    if find_spec("playwright") is None:
        yield "the page: left out, playwright is not installed (requirements-dev.txt)."
        return
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import serving
    from tests.chromium import CHROMIUM, FLAGS

    if not Path(CHROMIUM).exists():
        yield "the page: left out, there is no chromium (apt-get install chromium)."
        return
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        files = []
        for n, data in enumerate(ways.pictures(rounds + 1)):
            files.append(Path(folder) / f"{n}.{('png', 'jpg')[n % 2]}")
            files[-1].write_bytes(data)
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = chromium.new_page(viewport={"width": 1440, "height": 900})
        tab.set_default_timeout(WAIT)
        began = time.perf_counter()
        with serving(settings.weights, settings.home, Path(folder) / "log") as url:
            _open(tab, url)
            yield f"streamlit run to the first page: {time.perf_counter() - began:.1f} s"
            _drop(tab, files[0])
            yield f"streamlit run to the first prediction: {time.perf_counter() - began:.1f} s"
            found = []
            for file in files[1:]:
                _open(tab, url)
                tab.locator("footer.quiet", has_text="Release").wait_for()
                found.append(_drop(tab, file))
            yield f"one radiograph, upload to result drawn: {spread(found)} ms"
        chromium.close()


def _open(tab: Page, url: str) -> None:
    tab.goto(url)
    tab.get_by_test_id("stFileUploaderDropzone").wait_for()


def _drop(tab: Page, file: Path) -> float:
    """Seconds until the result of that file is drawn."""
    tab.evaluate(WATCH)
    tab.locator("input[type=file]").set_input_files(str(file))
    tab.wait_for_function("() => window.drawn !== null")
    return float(tab.evaluate("() => (window.drawn - window.given) / 1000"))
