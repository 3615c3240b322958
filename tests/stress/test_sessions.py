"""Many sessions on one server, in Chromium: nobody gets another's results, and memory stays flat.

``python -m pytest -m stress tests/stress/test_sessions.py
--log-cli-level=INFO`` prints the figures of SECURITY.md.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import re
import signal
import statistics
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import numpy as np
import psutil
import pytest
from playwright.sync_api import expect

from core import imaging
from core.cascade import Cascade
from core.settings import ImageLimits, Settings
from core.store import Store
from tests.browser.conftest import serving
from tests.browser.test_diagnose import clear, exported
from tests.chromium import WAIT
from tests.simulated import encoded, phantom
from tests.stress.client import Client
from tests.waiting import eventually

pytestmark = pytest.mark.stress
log = logging.getLogger(__name__)
PAGES = ("", "review", "batch", "training", "metrics", "releases")
SECRET_ADDRESS = re.compile(r"/media/[0-9a-f]{32}(\.\w+)?$")
CHOOSE, RESULTS = "input[type=file]", ("button", "Export data")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def server(weights: Path, home: Path, tmp_path: Path) -> Iterator[str]:
    with serving(weights, home, tmp_path / "server.log") as url:
        yield url


def process(url: str) -> psutil.Process:
    """The server that listens on the port of ``url``."""
    port = int(url.rsplit(":", 1)[1])
    for one in psutil.process_iter():
        try:
            if any(c.laddr.port == port for c in one.net_connections() if c.status == "LISTEN"):
                return one
        except psutil.Error:
            continue
    raise AssertionError("nobody listens there")


def files(folder: Path, name: str, count: int, seed: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}-{i:03d}.png" for i in range(count)]
    for i, path in enumerate(paths):
        path.write_bytes(encoded(phantom(200, 160, seed=seed + i), "PNG"))
    return paths


def give(page: object, paths: list[Path]) -> None:
    expect(page.locator(CHOOSE)).to_have_count(1)  # while the page is cleared there are two
    page.locator(CHOOSE).set_input_files([str(p) for p in paths])


def done(page: object) -> bool:
    return (
        page.get_by_role(RESULTS[0], name=RESULTS[1]).count() == 1
        and page.get_by_test_id("stProgress").count() == 0
    )


def rows(page: object) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(exported(page, "CSV"))))


def opened(browser: object, url: str, leave: ExitStack) -> object:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    leave.callback(context.close)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.goto(url)
    page.get_by_test_id("stFileUploaderDropzone").wait_for()
    return page


def seconds_of(home: Path, count: int) -> float:
    """From the first to the last of the newest results that were shown, by the audit."""
    store = Store.open(Settings(home=home))
    shown = [x.time for x in store.audit_lines() if x.event == "result.shown"][-count:]
    store.close()
    assert len(shown) == count
    first, last = (datetime.fromisoformat(time) for time in (shown[0], shown[-1]))
    return (last - first).total_seconds()


def wrong_of(found: list[dict[str, str]], paths: list[Path], cascade: Cascade) -> int:
    """Answers that are not those of the cascade by itself, of one session's rows."""
    assert [r["file"] for r in found] == [p.name for p in paths]
    pictures = [imaging.decode(p.read_bytes(), p.name, ImageLimits()) for p in paths]
    wrong = 0
    for row, truth in zip(found, cascade.predict(pictures), strict=True):
        assert row["sha256"] == truth.sha256
        wrong += row["body_part"] != str(truth.body_part.label)
        if truth.fracture:
            wrong += abs(float(row["fracture_probability"]) - truth.fracture.probability) > 1e-3
    return wrong


def test_twenty_readers_wait_no_longer_than_five_times_one_alone(server, cascade, home, tmp_path):
    """Row 8, the time: of the server, asked by sessions that have no browser to draw with.

    Twenty people each upload ten radiographs, one after another, and look at each for two to eight
    seconds. Alone is the median of ten uploads of one session after the release was loaded.
    """
    rng = np.random.default_rng(0)

    def one(paths: list[Path], pauses: Iterable[float]) -> tuple[list[float], str]:
        took, text = [], ""
        with Client(server) as client:
            for path, pause in zip(paths, pauses, strict=True):
                time.sleep(pause)
                began = time.monotonic()
                text = client.assess([path])
                took.append(time.monotonic() - began)
            assert not client.errors
        return took, text

    one(files(tmp_path, "warm", 1, 900), [0.0])
    alone = statistics.median(one(files(tmp_path, "alone", 10, 3000), [0.0] * 10)[0])
    given = [files(tmp_path, f"session{n:02d}", 10, 100 * n) for n in range(20)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(one, given, rng.uniform(2.0, 8.0, (20, 10))))
    wrong = sum(
        wrong_of(list(csv.DictReader(io.StringIO(text))), paths, cascade)
        for (_, text), paths in zip(answers, given, strict=True)
    )
    p95 = statistics.quantiles([t for took, _ in answers for t in took], n=20)[-1]
    log.info(
        f"20 readers x 10 uploads: 0 errors, {wrong} wrong of 200; alone {alone:.2f} s, p95 "
        f"{p95:.2f} s, {p95 / alone:.1f} times"
    )
    assert wrong == 0
    assert p95 <= 5 * alone


def test_two_hundred_radiographs_at_once_are_shared_among_twenty(server, home, tmp_path):
    """Row 8, the worst: all twenty drop ten files at the same moment, and nobody pauses.

    Twenty times the work of one alone, on the same processors, may take twenty times as long.
    """

    def one(paths: list[Path], gate: threading.Barrier) -> float:
        with Client(server) as client:
            gate.wait(60)
            began = time.monotonic()
            client.assess(paths)
            assert not client.errors
            return time.monotonic() - began

    one(files(tmp_path, "warm", 1, 900), threading.Barrier(1))
    alone = statistics.median(
        one(files(tmp_path, f"alone{n}", 10, 3000 + 10 * n), threading.Barrier(1)) for n in range(5)
    )
    given = [files(tmp_path, f"session{n:02d}", 10, 100 * n) for n in range(20)]
    host, gate = process(server), threading.Barrier(20)
    before = sum(host.cpu_times()[:2])
    with ThreadPoolExecutor(20) as pool:
        took = list(pool.map(lambda paths: one(paths, gate), given))
    used = sum(host.cpu_times()[:2]) - before
    log.info(
        f"20 x 10 at once: alone {alone:.2f} s, longest {max(took):.1f} s, "
        f"{max(took) / alone:.1f} times; {used:.1f} s of processor in the server"
    )
    assert max(took) <= 20 * alone


def test_twenty_browsers_with_ten_uploads_each(browser, server, cascade, home, tmp_path):
    """Row 8, the answers. Twenty browsers on the server's own processors take most of their time,
    so the five times are asked above, where nothing else draws."""
    with ExitStack() as leave:
        page = opened(browser, server, leave)
        give(page, files(tmp_path, "warm", 1, 900))
        eventually(lambda: done(page), 300)
    with ExitStack() as leave:
        page = opened(browser, server, leave)
        started = time.monotonic()
        give(page, files(tmp_path, "alone", 10, 1000))
        eventually(lambda: done(page), 300)
        alone = time.monotonic() - started

    with ExitStack() as leave:
        pages = [opened(browser, server, leave) for _ in range(20)]
        given = [files(tmp_path, f"session{n:02d}", 10, 100 * n) for n in range(20)]
        started, took = {}, {}
        host = process(server)
        before, began = sum(host.cpu_times()[:2]), time.monotonic()
        for n, page in enumerate(pages):
            started[n] = time.monotonic()
            give(page, given[n])

        def all_done() -> bool:
            for n, page in enumerate(pages):
                if n not in took and done(page):
                    took[n] = time.monotonic() - started[n]
            return len(took) == 20

        eventually(all_done, 1200)
        used, lasted = sum(host.cpu_times()[:2]) - before, time.monotonic() - began
        wrong = 0
        for page, paths in zip(pages, given):
            assert not page.get_by_test_id("stException").count()
            wrong += wrong_of(rows(page), paths, cascade)
    p95 = statistics.quantiles(took.values(), n=20)[-1]
    answered = seconds_of(home, 200)
    log.info(
        f"20 x 10: 0 errors, {wrong} wrong of 200; alone {alone:.1f} s, p95 {p95:.1f} s; "
        f"the server had answered all after {answered:.1f} s and took {used:.1f} s of processor in "
        f"{lasted:.1f} s; the browsers draw beside it"
    )
    assert wrong == 0
    lines = (tmp_path / "home" / "logs" / "app.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["logger"] == "core.engines.choice" for line in lines) == 1  # load
    # Twenty times the work on the same processors: the p95 may be twenty times that of one alone.
    assert p95 < 20 * alone


def test_five_hundred_images_in_one_session_leave_memory_flat(browser, server, tmp_path):
    """Row 9: after the first two hundred, at most 0.05 MB an image."""
    with ExitStack() as leave:
        page = opened(browser, server, leave)
        host, used = process(server), []
        for n in range(10):
            give(page, files(tmp_path, f"round{n}", 50, 50 * n))
            eventually(lambda: done(page), 600)
            assert len(rows(page)) == 50
            used.append(host.memory_info().rss / 2**20)
            clear(page)
            page.get_by_text("and sent nowhere else").wait_for()
    each = (used[-1] - used[3]) / 300
    log.info(f"500 images: {each:.3f} MB an image; after each fifty: {[round(u) for u in used]} MB")
    assert each < 0.05


def test_a_session_sees_nothing_of_another(browser, server, tmp_path):
    """Row 13: on no page, under no address that can be guessed, in no error page.

    What a download button holds lies under an address with 128 random bits, which only its own
    session is told: SECURITY.md says so.
    """
    secret = files(tmp_path, "only-mine", 2, 7)
    with ExitStack() as leave:
        mine, addresses = opened(browser, server, leave), set()
        mine.on("request", lambda r: addresses.add(r.url))
        give(mine, secret)
        eventually(lambda: done(mine), 300)
        digests = [r["sha256"] for r in rows(mine)]
        mine.get_by_role("button", name="Next").click()
        expect(mine.locator(".cardname")).to_contain_text("only-mine-001")

        other, hits = opened(browser, server, leave), []
        for name in PAGES:
            other.goto(f"{server}/{name}")
            other.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
            hits += [(name, w) for w in ("only-mine", *digests) if w in other.content()]
        stranger = browser.new_context()
        leave.callback(stranger.close)
        pictures = {p.read_bytes() for p in secret}
        asked = [u for u in addresses if u.startswith(server) and not SECRET_ADDRESS.search(u)]
        for url in [
            *asked,
            f"{server}/media/",
            f"{server}/_stcore/upload_file",
            f"{server}/x/../..",
        ]:
            answer = stranger.request.get(url)
            body = answer.body()
            if body in pictures or b"only-mine" in body or any(d.encode() in body for d in digests):
                hits.append(url)
    log.info(f"{len(PAGES)} pages, {len(asked) + 3} addresses: {len(hits)} hits")
    assert not hits


def test_no_image_is_left_on_the_disk(browser, server, home, tmp_path, monkeypatch):
    """Row 14: after a quick look, and after kill -9 in the middle of one."""
    paths = files(tmp_path / "given", "look", 30, 40)
    pixels = [phantom(200, 160, seed=40 + i) for i in range(30)]
    marks = [p.read_bytes()[60:124] for p in paths] + [p.tobytes()[:64] for p in pixels]
    host = process(server)
    temporary = [Path(p) for p in ("/tmp", "/dev/shm", "/var/tmp") if Path(p).is_dir()]
    began = time.time()
    with ExitStack() as leave:
        page = opened(browser, server, leave)
        give(page, paths[:10])
        eventually(lambda: done(page), 300)
        give(page, paths[10:])
        host.send_signal(signal.SIGKILL)
        host.wait(60)
    left = []
    for folder in (home, *temporary):
        for place, _, names in os.walk(folder):
            for name in names:
                path = Path(place) / name
                if (
                    tmp_path / "given" in path.parents
                    or "playwright" in place
                    or "chromium" in place
                ):
                    continue  # the browser's own copies are of this test, not of the program
                try:
                    if path.stat().st_mtime < began or not path.is_file():
                        continue
                    data = path.read_bytes()
                except OSError:
                    continue
                left += [str(path) for m in marks if m in data][:1]
    log.info(f"{len(left)} files with image bytes")
    assert not left
