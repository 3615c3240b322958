"""kill -9 of the listener at fifty random moments while dcmtk sends: what it answered is there."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from core.settings import Settings
from core.store import Store
from tests.listening import Listening, studies
from tests.ports import free_port
from tests.stress.test_pacs import answered, assessed, digest
from tests.waiting import eventually

log = logging.getLogger(__name__)
KILLS, VIEWS = 50, 2
EACH = 2
"""New studies in each life of the listener, so that every one has some to take and to assess."""


def sending(port: int, files: list[Path], said: Path) -> subprocess.Popen[bytes]:
    command = ["storescu", "-v", "-aet", "ROUTER", "-aec", "BONE", "127.0.0.1", str(port)]
    with said.open("wb") as log:
        return subprocess.Popen([*command, *map(str, files)], stdout=log, stderr=subprocess.STDOUT)


def check(home: Path, acknowledged: set[Path]) -> int:
    """What was acknowledged is there, no file under a final name is half; how many there are."""
    inbox = home / "pacs" / "inbox"
    objects = [p for p in inbox.glob("*/*.dcm") if not p.name.startswith(".")]
    for path in objects:  # each is named by its own digest
        assert path.name.startswith(hashlib.sha256(path.read_bytes()).hexdigest()[:24])
    there = {digest(p) for p in objects}
    assert {digest(p) for p in acknowledged} <= there
    notes = [*inbox.glob("*/study.json"), *inbox.glob("*/scored.json")]
    assert all(json.loads(p.read_text()) for p in notes)
    return len(objects) + len(notes)


@pytest.mark.stress
@pytest.mark.skipif(not shutil.which("storescu"), reason="dcmtk is not installed")
def test_fifty_kills_lose_nothing_that_was_answered(weights: Path, tmp_path: Path) -> None:
    sent = studies(tmp_path / "sent", EACH * (KILLS + 1), views=VIEWS)
    files = [f for study in sent for f in sorted(study.glob("*.dcm"))]
    home, port, acknowledged, whole = tmp_path / "home", free_port(), set[Path](), 0
    seed = random.randrange(2**32)
    log.warning("seed %d", seed)
    rng, took, busy = random.Random(seed), 0.0, 0
    for life in range(KILLS + 2):  # in the first one and the last one nobody kills
        released, killed = files[: EACH * VIEWS * (life + 1)], 0 < life <= KILLS
        running, began = Listening(weights, home, "--port", str(port)), time.monotonic()
        said = tmp_path / f"{life}.said"
        router = sending(port, [f for f in released if f not in acknowledged], said)
        if killed:
            # As often while it takes files in, in the first moments, as when it assesses.
            time.sleep(rng.uniform(0, 0.5 if rng.random() < 0.5 else took))
            busy += router.poll() is None
        else:  # the first one measures how long everything takes
            eventually(lambda files=released: assessed(home) == len(files) // VIEWS, 1200)
            took = took or time.monotonic() - began
        code = running.stop(signal.SIGKILL if killed else signal.SIGTERM)
        assert code == (-signal.SIGKILL if killed else 0)
        router.wait(120)
        acknowledged |= {f for f, answer in answered(said.read_text()) if answer == "Success"}
        whole += check(home, acknowledged)
    assert acknowledged == set(files)
    store = Store.open(Settings(home=home))
    records, problems = store.studies(), store.verify_audit().problems
    store.close()
    kept = Counter(digest(p) for p in (home / "pacs" / "inbox").glob("*/*.dcm"))
    assert kept == Counter(map(digest, files)) and problems == ()
    assert {r.key for r in records if len(r.result.views) == VIEWS} == {r.key for r in records}
    assert len({r.key for r in records}) == len(sent)
    log.warning(
        "%d kills (%d while a file was on its way): %d of %d answered for and there, %d of %d "
        "studies assessed; %d files looked at after the kills, 0 half; a life took %.1f s",
        *(KILLS, busy, len(acknowledged), len(files), len(sent), len(sent), whole, took),
    )
