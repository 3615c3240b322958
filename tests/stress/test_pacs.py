"""200 studies by dcmtk in five associations at once; the listener dies by kill -9 all the while."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pydicom
import pytest

from core.settings import Settings
from core.store import Store
from tests.listening import Listening, studies
from tests.ports import free_port
from tests.waiting import eventually

log = logging.getLogger(__name__)
STUDIES, VIEWS, ASSOCIATIONS = 200, 2, 5
RECEIVING = (0.15, 0.5, 0.8)
"""Shares of the pictures after which the listener is killed while it takes them in."""
SCORING = (0.3, 0.7)
"""Shares of the studies after which it is killed while it assesses them."""
_SAID = re.compile(r"Sending file: (?P<file>.+)|Received Store Response \((?P<answer>[^)]*)\)")


class Router:
    """Sends its files by ``storescu`` until each was answered with success, as a router does."""

    def __init__(self, port: int, files: list[Path], said: Path) -> None:
        self.port, self.acknowledged, self.answers = port, set[Path](), Counter[str]()
        self._left, self._log = files, said
        self._process: subprocess.Popen[bytes] | None = None

    def poll(self) -> bool:
        """Read what was said, start again where it ended; whether all was acknowledged."""
        if self._process is not None and self._process.poll() is not None:
            self._listen()
        if self._process is None and self._left:
            command = ["storescu", "-v", "-aet", "ROUTER", "-aec", "BONE"]
            with self._log.open("wb") as said:
                self._process = subprocess.Popen(
                    [*command, "127.0.0.1", str(self.port), *map(str, self._left)],
                    stdout=said,
                    stderr=subprocess.STDOUT,
                )
        return not self._left

    def _listen(self) -> None:
        for sent, answer in answered(self._log.read_text()):
            self.answers[answer] += 1
            if answer == "Success":
                self.acknowledged.add(sent)
        self._left = [f for f in self._left if f not in self.acknowledged]
        self._process = None


def answered(said: str) -> list[tuple[Path, str]]:
    """What ``storescu -v`` says of each file that was answered: the file, and the answer."""
    found, sent = [], None
    for one in _SAID.finditer(said):
        if one["file"]:
            sent = Path(one["file"])
        elif sent is not None:
            found.append((sent, one["answer"]))
    return found


def arrived(home: Path) -> int:
    return len(list((home / "pacs" / "inbox").glob("*/*.dcm")))


def assessed(home: Path) -> int:
    """Studies whose marker is there: what is only in the database may still be done again."""
    return len(list((home / "pacs" / "inbox").glob("*/scored.json")))


def digest(path: Path) -> tuple[str, str]:
    """The object's UID with the digest of its pixels."""
    read = pydicom.dcmread(path)
    return str(read.SOPInstanceUID), hashlib.sha256(read.PixelData).hexdigest()


@pytest.mark.stress
@pytest.mark.skipif(not shutil.which("storescu"), reason="dcmtk is not installed")
def test_two_hundred_studies_and_five_kills(weights: Path, tmp_path: Path) -> None:
    sent = studies(tmp_path / "sent", STUDIES, views=VIEWS)
    files = [f for study in sent for f in sorted(study.glob("*.dcm"))]
    home, port, kills = tmp_path / "home", free_port(), []
    routers = [
        Router(port, [f for f in files if f.parent in sent[n::ASSOCIATIONS]], tmp_path / f"{n}.log")
        for n in range(ASSOCIATIONS)
    ]
    running = Listening(weights, home, "--port", str(port))
    began = time.monotonic()

    def kill() -> None:
        nonlocal running
        time.sleep(random.uniform(0, 0.05))  # not always at the same step of a write
        kills.append((round(time.monotonic() - began, 1), arrived(home), assessed(home)))
        running.stop(signal.SIGKILL)
        running = Listening(weights, home, "--port", str(port))

    def all_sent() -> bool:
        if len(kills) < len(RECEIVING) and arrived(home) >= RECEIVING[len(kills)] * len(files):
            kill()
        return all([router.poll() for router in routers])

    try:
        eventually(all_sent, 600)
        acknowledged = set().union(*(r.acknowledged for r in routers))
        assert acknowledged == set(files)
        seconds = time.monotonic() - began
        for share in SCORING:
            eventually(lambda share=share: assessed(home) >= share * STUDIES, 1200)
            kill()
        eventually(lambda: assessed(home) == STUDIES, 1200)
        store = Store.open(Settings(home=home))
        records = store.studies()
        problems = store.verify_audit().problems
        store.close()
    finally:
        said = running.stop()
    assert said == 0
    kept = Counter(digest(p) for p in (home / "pacs" / "inbox").glob("*/*.dcm"))
    assert kept == Counter(map(digest, files))  # each once, with the pixels that were sent
    whole = {r.key for r in records if len(r.result.views) == VIEWS}
    assert len(whole) == STUDIES and problems == ()
    assert len({r.key for r in records}) == STUDIES
    assert all(json.loads(p.read_text())["names"] for p in home.glob("pacs/inbox/*/scored.json"))
    log.warning(
        "%d studies of %d views in %d associations: %d answered, %.0f s; kills at (s, pictures, "
        "studies) %s; %d studies were first assessed with what had come before a kill; all "
        "assessed after %.0f s",
        *(STUDIES, VIEWS, ASSOCIATIONS, len(acknowledged), seconds, kills),
        *(len(records) - STUDIES, time.monotonic() - began),
    )
    log.warning("answers: %s", sum((r.answers for r in routers), Counter[str]()))
