"""The first result is there while the others are read, and nothing moves when they arrive."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.test_diagnose import opened
from tests.simulated import encoded, phantom

COUNT = 12
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


@pytest.fixture
def many(tmp_path: Path) -> list[Path]:
    """Simulated radiographs that take a while: each is a study of its own."""
    files = [tmp_path / f"{n:02d}.png" for n in range(COUNT)]
    for n, file in enumerate(files):
        file.write_bytes(encoded(phantom(900, 700, seed=n), "PNG"))
    return files


def test_the_first_result_comes_first_and_stays_where_it_is(visit: Visit, many: list[Path]) -> None:
    page = opened(visit)
    page.evaluate(WATCH)
    page.locator("input[type=file]").set_input_files([str(f) for f in many])
    expect(page.get_by_role("button", name="CSV", exact=True)).to_be_visible()
    expect(page.get_by_text(f"Study 1 of {COUNT}")).to_be_visible()
    seen = page.evaluate("() => window.seen")
    early = [place for reading, *place in seen if reading]
    late = [place for reading, *place in seen if not reading]
    assert early and late, len(seen)
    moved = [p for p in early + late if max(abs(a - b) for a, b in zip(p, late[-1])) > 2]
    assert not moved
    assert not visit.complaints
