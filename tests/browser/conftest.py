"""A server of its own on a free loopback port, and Debian's Chromium to look at it."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from core.settings import ROOT
from tests.chromium import WAIT
from tests.ports import free_port
from tests.waiting import eventually


@dataclass
class Visit:
    """A browser tab, and what it did that it should not have."""

    page: object
    url: str
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BONE_HOME of the server."""
    return tmp_path_factory.mktemp("home")


@contextmanager
def serving(weights: Path, home: Path, log: Path, database: str = "") -> Iterator[str]:
    """The app on a free port with a BONE_HOME and a DATABASE_URL; the address it listens on."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py"]
    options = ["--server.port", str(port), "--server.headless", "true"]
    environment = os.environ | {"BONE_WEIGHTS": str(weights), "BONE_DEVICE": "cpu"}
    environment |= {"BONE_HOME": str(home), "DATABASE_URL": database}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command + options, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        _await(url, process, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def server(weights: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app with random weights; the address it listens on."""
    with serving(weights, home, tmp_path_factory.mktemp("server") / "log") as url:
        yield url


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    def answers() -> bool:
        if process.poll() is not None:
            pytest.fail(f"The server did not start:\n{log.read_text()}")
        try:
            urllib.request.urlopen(f"{url}/_stcore/health", timeout=10).close()
        except OSError:
            return False
        return True

    eventually(answers)


@pytest.fixture
def visit(profile: object, server: str) -> Iterator[Visit]:
    """A fresh tab; its complaints are what the console says and what leaves the computer."""
    page = profile.new_page()
    page.set_default_timeout(WAIT)
    visit = Visit(page, server)
    page.on(
        "console",
        lambda m: visit.complaints.append(f"console: {m.text}") if m.type == "error" else None,
    )
    page.on("pageerror", lambda e: visit.complaints.append(f"page: {e}"))
    page.on("request", lambda r: _leaves(r.url, server) and visit.complaints.append(r.url))
    yield visit
    page.close()
    profile.clear_cookies()


def _leaves(url: str, server: str) -> bool:
    return not url.startswith((server, server.replace("http", "ws"), "data:", "blob:"))
