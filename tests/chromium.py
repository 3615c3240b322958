"""Debian's Chromium: one for all tests of a process, as Playwright can be started only once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT = 180_000  # milliseconds: the first file also waits for torch and the release


VIEWPORT = {"width": 1440, "height": 900}


@pytest.fixture(scope="session")
def driver() -> Iterator[object]:
    if not Path(CHROMIUM).exists():
        pytest.skip("There is no chromium: apt-get install chromium.")
    expect.set_options(timeout=WAIT)
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(driver: object) -> Iterator[object]:
    """Each of its contexts knows nothing of the others."""
    chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    yield chromium
    chromium.close()


@pytest.fixture(scope="session")
def profile(driver: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """One that keeps its cache: compiling the page's code anew is a third of what opening costs."""
    context = driver.chromium.launch_persistent_context(
        str(tmp_path_factory.mktemp("profile")),
        executable_path=CHROMIUM,
        args=FLAGS,
        viewport=VIEWPORT,
    )
    yield context
    context.close()
