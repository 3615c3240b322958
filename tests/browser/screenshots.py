"""``python -m tests.browser.screenshots``: every page at two sizes, into docs/screenshots/.

With the release in weights/, simulated radiographs of samples/ and runs that were made up, so that
nothing in the pictures is anybody's.
"""

from __future__ import annotations

import csv
import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from core.batch import kept
from core.cascade import Cascade
from core.pipeline import read_and_diagnose
from core.settings import ROOT, Settings
from core.store import Mark, Opinion, Store, Verdict
from core.study import combine
from core.types import BodyPart, Finding
from tests.browser.conftest import serving
from tests.browser.test_diagnose import ready, settled
from tests.chromium import CHROMIUM, FLAGS, WAIT
from tests.test_training_page import made_up

OUT = ROOT / "docs" / "screenshots"
SIZES = ((1440, 900), (1024, 768))
MOST_BYTES = 250_000
LOADED_IN = 900_000  # milliseconds: the release is loaded while the first page is looked at
STUDIES = {
    "Elbow, after a fall": ("elbow_ap_001", "elbow_lateral_003", "elbow_oblique_006"),
    "Hand": ("hand_pa_008", "hand_lateral_011"),
    "Wrist, left": ("hand_wrist_pa_015", "hand_wrist_lateral_263"),
    "Shoulder": ("shoulder_ap_016", "shoulder_y_344"),
    "Elbow, control": ("elbow_ap_111", "elbow_lateral_164"),
    "Hand, oblique": ("hand_oblique_231",),
    "Shoulder, right": ("shoulder_ap_305", "shoulder_internal_rotation_019"),
}


def main() -> int:
    os.environ.setdefault("BONE_ENGINE", "torch")
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        study = fill(home)
        with serving(ROOT / "weights", home, Path(folder) / "log") as url, tab() as page:
            for width, height in SIZES:
                page.set_viewport_size({"width": width, "height": height})
                for name in take(page, url, study):
                    save(page.screenshot(), OUT / f"{name}-{width}.png")
    return 0


def samples() -> dict[str, Path]:
    with (ROOT / "samples" / "manifest.csv").open(encoding="utf-8", newline="") as lines:
        return {row["id"]: ROOT / "samples" / row["file"] for row in csv.DictReader(lines)}


def fill(home: Path) -> str:
    """A worklist of simulated studies, runs and a batch; the study to open."""
    settings = Settings(home=home)
    cascade, files = Cascade.load(ROOT / "weights", device="cpu"), samples()
    store = Store.open(settings)
    ids = []
    for title, names in STUDIES.items():
        found = [read_and_diagnose(cascade, files[n], settings.limits)[1] for n in names]
        result = combine(title, found, cascade.release)
        pictures = {str(v.sha256): files[n].read_bytes() for v, n in zip(found, names)}
        ids.append(store.add_study(title, result, cascade.release, pictures, "ann"))
    mark = Mark(0, 0.4, 0.42, 0.6, 0.58)
    agree = Opinion(Verdict.AGREE, BodyPart.ELBOW, Finding.SUSPECTED, "Radial head", (mark,))
    store.decide(ids[0], "ann", agree, 0)
    store.decide(ids[1], "bob", Opinion(Verdict.SECOND_LOOK), 0)
    store.decide(ids[3], "bob", Opinion(Verdict.AGREE, BodyPart.SHOULDER, Finding.SUSPECTED), 0)
    store.close()
    made_up(home, 3, 40)
    batch(home, list(files.values())[:12])
    return ids[0]


def batch(home: Path, files: list[Path]) -> None:
    """A finished batch of some samples."""
    os.environ |= {"BONE_HOME": str(home), "BONE_DEVICE": "cpu"}
    given = [(f.name, f.read_bytes()) for f in files]
    begun = kept.of_files(given, Settings.from_environment())
    while begun.running:
        time.sleep(0.5)


@contextmanager
def tab() -> Iterator[Page]:
    expect.set_options(timeout=WAIT)
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_page()
        page.set_default_timeout(WAIT)
        yield page
        chromium.close()


def take(page: Page, url: str, study: str) -> Iterator[str]:
    """Open one page after another; the name of each when it is drawn."""
    opened(page, url)
    yield "diagnose-start"
    names = STUDIES["Elbow, after a fall"]
    page.locator("input[type=file]").set_input_files([str(samples()[n]) for n in names])
    page.get_by_role("button", name="All in one study").click()
    page.get_by_text("(3 views)").wait_for()
    drawn(page)
    yield "diagnose-study"
    opened(page, f"{url}/review")
    yield "review-list"
    opened(page, f"{url}/review?study={study}")
    name = page.get_by_role("textbox", name="Your name or initials")
    expect(name.or_(page.get_by_text("Reading as bob"))).to_be_visible()
    if name.count():  # at the second size the browser knows
        name.fill("bob")
        name.press("Enter")
    page.get_by_role("button", name="Agree", exact=True).wait_for()
    drawn(page)
    yield "review-study"
    for path in ("batch", "training", "metrics", "releases"):
        opened(page, f"{url}/{path}")
        yield path


def opened(page: Page, url: str) -> None:
    page.goto(url)
    page.locator("footer.quiet", has_text="Release").wait_for(timeout=LOADED_IN)
    settled(page)
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)  # pictures and plots fade in


def drawn(page: Page) -> None:
    ready(page)
    settled(page)
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)


def save(data: bytes, path: Path) -> None:
    """As a PNG of 256 colours, which these grey pages can do without seeing it."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    small = picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{path.name} has {size} bytes")


if __name__ == "__main__":
    sys.exit(main())
