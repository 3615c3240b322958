"""From an upload to a decision that teaches: the worklist in a real Chromium, on both databases."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from core.registry import Registry
from core.settings import ROOT, Settings
from core.store import Status, Store, Verdict
from core.types import BodyPart
from tests import postgres, worklist
from tests.browser.conftest import Visit, serving
from tests.browser.test_diagnose import choose, picture, ready, settled
from tests.browser.test_viewer import FOUR_TURNS, assessed, state
from tests.simulated import dicom, phantom
from tests.waiting import eventually

STUDY = "1.2.826.0.1.3680043.10.1.78"
REMARK = "Cortical step, radial side"


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.stress)]
)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """DATABASE_URL: empty for SQLite, else a PostgreSQL server of this module's own."""
    if request.param == "sqlite":
        yield ""
        return
    if postgres.binaries() is None:
        pytest.skip("There is no PostgreSQL server: apt-get install postgresql.")
    with postgres.server() as url:
        yield f"{url}/postgres"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, database: str) -> Path:
    """BONE_HOME of this module's servers, one for each database."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def server(weights: Path, kept: Path, database: str) -> Iterator[str]:
    with serving(weights, kept, kept / "server.log", database) as url:
        yield url


@pytest.fixture
def store(kept: Path, database: str) -> Iterator[Store]:
    found = Store.open(Settings(home=kept, database_url=database))
    yield found
    found.close()


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three views of one DICOM study, simulated."""
    folder = tmp_path_factory.mktemp("views")
    for n, position in enumerate(("AP", "LL", "RL")):
        uids = {"StudyInstanceUID": STUDY, "SOPInstanceUID": f"{STUDY}.{n}"}
        data = dicom(phantom(400, 300, bits=16, seed=n), ViewPosition=position, **uids)
        (folder / f"Doe^Jane_{n}.dcm").write_bytes(data)
    return sorted(folder.iterdir())


def named(page, reader: str) -> None:
    """Say who reads, where the page asks for it."""
    name = page.get_by_role("textbox", name="Your name or initials")
    name.fill(reader)
    name.press("Enter")
    expect(page.get_by_role("button", name="Disagree", exact=True)).to_be_visible()


def downloaded(page, button: str, path: Path) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name=button, exact=True).click()
    download.value.save_as(path)
    return path


def marked(page) -> None:
    """Draw a rectangle in the middle of the picture; a rerun may take the first one away."""
    mark = page.get_by_role("button", name="Mark", exact=True)
    mark.click()
    expect(mark).to_have_attribute("aria-pressed", "true")
    box = picture(page).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 40, y - 60)
    page.mouse.down()
    page.mouse.move(x, y, steps=4)
    page.mouse.move(x + 40, y + 60, steps=4)
    page.mouse.up()
    expect(page.get_by_role("button", name="Remove the mark (view 1)")).to_be_visible()


def watched(visit: Visit) -> list[str]:
    """From now on: the addresses that the server does not know."""
    missing: list[str] = []
    visit.page.on("response", lambda r: r.status == 404 and missing.append(r.url))
    return missing


def clean(visit: Visit, missing: list[str]) -> None:
    """No complaint, but for Streamlit, which looks for its root below the page first."""
    assert all(url.count("/") > 4 and "/_stcore/" in url for url in missing), missing
    assert [c for c in visit.complaints if "404" not in c] == []


def looked_at(visit: Visit, views: list[Path]):
    """The study on Diagnose: grouped, zoomed, windowed, and the heatmap taken away."""
    page = assessed(visit, views)
    expect(page.locator("[class*=st-key-card-]")).to_contain_text("(3 views)")
    before = state(page)
    picture(page).hover()
    for _ in range(4):
        page.mouse.wheel(0, -200)
    zoomed = state(page, lambda s: float(s["zoom"]) > FOUR_TURNS > 2 > float(before["zoom"]))
    picture(page).focus()
    page.keyboard.press("]")
    windowed = state(page, lambda s: s["window"] != before["window"])
    page.keyboard.press("Space")
    toggled = state(page, lambda s: s["overlay"] != windowed["overlay"])
    assert toggled["zoom"] == zoomed["zoom"]
    return page


def added(page, reader: str) -> None:
    """Put the study that is shown on the worklist."""
    page.get_by_role("button", name="Add to worklist").click()
    name = page.get_by_role("textbox", name="Your name or initials")
    name.fill(reader)
    name.press("Enter")
    expect(page.get_by_text("On the worklist")).to_be_visible()


def disagreed(page) -> None:
    """Disagree with the study at the top of the worklist: another part, a mark and a remark."""
    page.get_by_role("link", name="Review").click()
    page.get_by_role("button", name="Start reading").click()
    page.get_by_text("Changes are saved automatically.").wait_for()
    page.get_by_role("button", name="Disagree", exact=True).click()
    # Until then the list's filters are still there, and one of them has the same label.
    expect(page.get_by_text(re.compile("^Disagreed. Added by"))).to_be_visible()
    settled(page)
    choose(page, "Body part", "Elbow")
    expect(page.get_by_text("Body part named by bob")).to_be_visible()
    ready(page)
    settled(page)
    marked(page)
    comment = page.get_by_label("Comment")
    comment.fill(REMARK)
    comment.press("Control+Enter")


def test_from_three_views_to_a_decision_that_teaches(
    visit: Visit, views: list[Path], store: Store, tmp_path: Path
) -> None:
    missing = watched(visit)
    page = looked_at(visit, views)
    added(page, "bob")
    disagreed(page)
    eventually(lambda: store.study(store.worklist()[0].id).decisions[0].opinion.comment == REMARK)

    page.reload()
    expect(page.get_by_text("Reading as bob")).to_be_visible()
    expect(page.get_by_label("Comment")).to_have_value(REMARK)
    expect(page.get_by_role("button", name="Remove the mark (view 1)")).to_be_visible()
    expect(page.get_by_text("Body part named by bob")).to_be_visible()
    record = store.study(store.worklist()[0].id)
    assert record.status is Status.DISAGREED
    opinion = record.decisions[0].opinion
    assert (opinion.verdict, opinion.body_part) == (Verdict.DISAGREE, BodyPart.ELBOW)
    assert (opinion.marks[0].x0 + opinion.marks[0].x1) / 2 == pytest.approx(0.5, abs=0.1)
    assert [r.result.body_part for r in record.reassessments] == [BodyPart.ELBOW]
    assert record.result.body_part == BodyPart.HAND

    said = printed(downloaded(page, "Report (PDF)", tmp_path / "report.pdf"))
    for words in ("Reader disagrees: bob", "Marked on view 1", REMARK, "Assessed as elbow"):
        assert words in said
    assert "Doe" not in said
    page.get_by_role("button", name="Worklist").click()
    manifest = downloaded(page, "Data set manifest", tmp_path / "export.csv")
    command = [sys.executable, "-m", "training", "data", "--data", f"manifest:{manifest}"]
    learnt = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "reviewed" in learnt and "elbow" in learnt
    clean(visit, missing)


def test_keys_pressed_faster_than_the_server_answers(
    visit: Visit, store: Store, weights: Path
) -> None:
    """All are taken in their order, and none decides about a study that was not seen."""
    release = Registry.open(weights).find("champion")
    first, second = (
        worklist.put(store, release, f"keys {n}", 0.99 - n / 1000, seed=70 + 5 * n)
        for n in range(2)
    )
    page, reader = visit.page, "fast"
    page.goto(f"{visit.url}/review?study={first}")
    named(page, reader)
    settled(page)
    ready(page)
    expect(page.locator(".digits")).to_contain_text("1 agree")
    picture(page).focus()
    for key in ("m", "1", "ArrowRight", "ArrowRight", "3"):
        page.keyboard.press(key)
    expect(page).to_have_url(re.compile(second))
    expect(page.get_by_text("Study 2 of")).to_be_visible()
    settled(page)
    mine = [d for d in store.study(first).history if d.reader == reader]
    assert [d.opinion.verdict for d in mine] == [Verdict.DRAFT, Verdict.AGREE]
    assert len(mine[-1].opinion.marks) == 1
    assert not store.study(second).history


def printed(paper: Path) -> str:
    """What pdftotext reads, with single spaces; pdftoppm draws it as a page that is not empty."""
    command = ["pdftotext", "-layout", str(paper), "-"]
    text = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    drawn = paper.with_suffix("")
    subprocess.run(["pdftoppm", "-png", "-r", "40", "-singlefile", paper, drawn], check=True)
    assert drawn.with_suffix(".png").stat().st_size > 5000
    return " ".join(text.split())


def test_two_browsers_review_one_study_at_once(
    browser: object, server: str, store: Store, weights: Path
) -> None:
    release = Registry.open(weights).find("champion")
    study = worklist.put(store, release, "both", 0.97, seed=50)
    contexts = {reader: browser.new_context() for reader in ("ann", "carol")}
    try:
        pages = {}
        for reader, context in contexts.items():
            pages[reader] = page = context.new_page()
            page.goto(f"{server}/review?study={study}")
            named(page, reader)
        pages["ann"].get_by_role("button", name="Agree", exact=True).click()
        pages["carol"].get_by_role("button", name="Second look").click()
        comments = {"ann": "as it says", "carol": "please look again"}
        for reader, page in pages.items():
            expect(page.get_by_text("Saved at ")).to_be_visible()
            page.get_by_label("Comment").fill(comments[reader])
        for page in pages.values():
            page.get_by_label("Comment").press("Control+Enter")

        def both() -> bool:
            opinions = {d.reader: d.opinion for d in store.study(study).decisions}
            return {r: o.comment for r, o in opinions.items()} == comments

        eventually(both)
        for page in pages.values():
            page.reload()
            table = page.locator("table.readers")
            for words in ("ann", "carol", "Agrees", "Asks for a second look", *comments.values()):
                expect(table).to_contain_text(words)
        record = store.study(study)
        verdicts = {d.reader: d.opinion.verdict for d in record.decisions}
        assert verdicts == {"ann": Verdict.AGREE, "carol": Verdict.SECOND_LOOK}
        assert record.status is Status.SECOND_LOOK and len(record.history) == 4
        assert store.verify_audit().problems == ()
    finally:
        for context in contexts.values():
            context.close()
