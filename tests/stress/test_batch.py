"""A batch killed twenty-five times in each format ends with the bytes of one that was not.

In JSON lines all but ``milliseconds``: how long a file took is of one run.
"""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import time

import pytest

from core.batch.journal import folder_of
from core.settings import ROOT
from tests.batches import Stand, fill
from tests.test_batch import killed_after, lasting, score

pytestmark = pytest.mark.stress
log = logging.getLogger(__name__)
KILLS, EARLY = 25, 0.2
"""EARLY: share of the kills while the process still starts; the others, some time after its first
new row."""


def killed_at_the_start(folder, out, rng) -> None:
    command = [sys.executable, "-m", "tests.batches", str(folder), str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    time.sleep(rng.uniform(0, 2))
    process.kill()
    process.wait()


# The killed ones are processes of their own, where a warning is no error and so no refusal.
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_killed_at_random_moments(tmp_path, kind):
    folder = fill(tmp_path / "in", 900, 30)
    whole, out = tmp_path / f"whole.{kind}", tmp_path / f"out.{kind}"
    score(folder, whole)
    seed = random.randrange(2**32)
    log.warning("seed %d", seed)
    rng, journal, before = random.Random(seed), folder_of(out) / "journal.jsonl", b""
    for _ in range(KILLS):
        if rng.random() < EARLY:
            killed_at_the_start(folder, out, rng)
        else:
            killed_after(folder, out, rng.uniform(0, 0.15))
        assert not out.exists(), "too few files for so many kills"
        now = journal.read_bytes() if journal.exists() else b""
        assert now.startswith(before)  # no row that was written is lost
        before = now[: now.rfind(b"\n") + 1]
    written = before.count(b"\n")
    stand = Stand()
    score(folder, out, stand, resume=True)
    assert stand.seen <= 930 - written
    assert lasting(out) == lasting(whole)
    assert kind != "csv" or out.read_bytes() == whole.read_bytes()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    log.warning("%d kills, %d rows written before the last, 0 of 930 lost or other", KILLS, written)
