# ruff: noqa: F811 (a fixture that is imported, and asked for by its name)
"""Names that are markup, formulas, LaTeX, right-to-left or very long, on every page in Chromium.

Nothing of them may run, be fetched or be drawn as anything but text.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from core.registry import Registry
from core.settings import Settings
from core.store import Mark, Opinion, Store, Verdict
from core.types import BodyPart, Finding
from tests import worklist
from tests.browser.conftest import Visit, serving, visit  # noqa: F401
from tests.browser.test_diagnose import exported
from tests.simulated import dicom, encoded, phantom
from tests.waiting import eventually

pytestmark = pytest.mark.stress
RUN = "window.pwned=1"
NAMES = {
    "tag": f"<img src=x onerror={RUN}>",
    "script": f"<script>{RUN}<\\script>".replace("\\", "∕"),
    "remote": "<img src=http:∕∕203.0.113.1∕a.png>",
    "markdown": "![a](x) **bold** [link](javascript:window.pwned=1)",
    "latex": r"$\int_0^1 x$ $$\sum$$",
    "formula": '=HYPERLINK("x";"y")',
    "formula plus": "+1+1",
    "formula at": "@SUM(1)",
    "material": ":material∕delete: :red[red]",
    "right to left": "\u202egnp.dnah",
    "long": "n" * 200,
    "quote": "\"' onfocus=window.pwned=1 autofocus x='",
}
TEXT = {"long": "n" * 1000}
MARKS = "img[src='x'], img[src^='http:'], .katex, a[href^='javascript']"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def given(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "given"
    folder.mkdir()
    for n, name in enumerate(NAMES.values()):
        (folder / f"{name}.png").write_bytes(encoded(phantom(120, 100, seed=n), "PNG"))
    tags = {"StudyDescription": NAMES["tag"], "PatientName": "<b>Doe^Jane", "ViewPosition": "AP"}
    (folder / "tags.dcm").write_bytes(dicom(phantom(seed=99, bits=16), **tags))
    return sorted(folder.iterdir())


@pytest.fixture
def studies(home: Path, weights: Path) -> list[str]:
    """A study on the worklist with each of the names as title, comment and, short, as reader."""
    store, release = Store.open(Settings(home=home)), Registry.open(weights).find("champion")
    ids = []
    for n, (kind, name) in enumerate(NAMES.items()):
        text = TEXT.get(kind, name)
        study = worklist.put(store, release, text, 0.9, seed=60 + n)
        mark = Mark(0, 0.3, 0.3, 0.6, 0.6)
        opinion = Opinion(Verdict.DISAGREE, BodyPart.HAND, Finding.NOT_SUSPECTED, text, (mark,))
        store.decide(study, name[:60], opinion, 0)
        ids.append(study)
    store.close()
    return ids


@pytest.fixture
def server(
    weights: Path, home: Path, given: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    monkeypatch.setenv("BONE_ROOTS", str(tmp_path / "given"))
    with serving(weights, home, tmp_path / "server.log") as url:
        yield url


def still(page: object) -> None:
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")


def harmless(visit: Visit) -> None:
    """Nothing ran, nothing was drawn as markup, nothing was asked of elsewhere."""
    page = visit.page
    assert page.evaluate("window.pwned") is None
    assert page.locator(MARKS).count() == 0
    assert [c for c in visit.complaints if "404" not in c] == []


def cells(text: str) -> list[str]:
    return [cell for row in csv.reader(io.StringIO(text)) for cell in row]


def safe(text: str) -> None:
    """No cell begins as a formula would, for LibreOffice and Excel alike."""
    for cell in cells(text):
        number = re.fullmatch(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", cell)
        assert number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell


def test_on_diagnose(visit, given):
    page = visit.page
    page.goto(visit.url)
    page.get_by_test_id("stFileUploaderDropzone").wait_for()
    page.locator("input[type=file]").set_input_files([str(f) for f in given])
    expect(page.get_by_role("button", name="Export data")).to_have_count(1)
    expect(page.get_by_test_id("stProgress")).to_have_count(0)
    page.get_by_role("radio", name="As given").click()  # from the first to the last
    still(page)
    shown = []
    for n in range(1, len(given) + 1):
        expect(page.locator(".st-key-pager")).to_contain_text(f"{n} of {len(given)}")
        still(page)
        shown.append(page.locator(".cardname").inner_text().strip())
        harmless(visit)
        if n < len(given):
            page.get_by_role("button", name="Next").click()
    assert any("onerror" in name for name in shown), shown
    text = exported(page, "CSV")
    safe(text)
    assert sum("HYPERLINK" in cell for cell in cells(text)) >= 1
    harmless(visit)


def test_on_review(visit, studies):
    page = visit.page
    page.goto(f"{visit.url}/review")
    page.get_by_role("button", name="Start reading").wait_for()
    still(page)
    harmless(visit)
    with page.expect_download() as download:
        page.get_by_text("Include names and comments").click()
        still(page)
        page.get_by_role("button", name="Decisions (CSV)").click()
    safe(Path(download.value.path()).read_text(encoding="utf-8"))
    for study in studies:
        page.goto(f"{visit.url}/review?study={study}")
        expect(page.locator(".viewer")).to_have_attribute("data-ready", "true")
        still(page)
        harmless(visit)


def test_on_batch(visit, given, tmp_path):
    page = visit.page
    page.goto(f"{visit.url}/batch")
    page.get_by_role("textbox").first.fill(str(tmp_path / "given"))
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Assess the folder").click()
    eventually(lambda: page.get_by_role("button", name="CSV").count(), 300)
    still(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV of all").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    safe(text)
    assert sum("HYPERLINK" in cell for cell in cells(text)) >= 1
    harmless(visit)
