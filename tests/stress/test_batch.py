"""A batch killed twenty times ends with the bytes of one that was not.

In JSON lines all but ``milliseconds``: how long a file took is of one run.
"""

from __future__ import annotations

import random

import pytest

from core.batch.journal import folder_of
from tests.batches import Stand, fill
from tests.test_batch import killed_after, lasting, score

pytestmark = pytest.mark.stress
KILLS = 20


# The killed ones are processes of their own, where a warning is no error and so no refusal.
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_killed_at_twenty_random_moments(tmp_path, kind):
    folder = fill(tmp_path / "in", 400, 30)
    whole, out = tmp_path / f"whole.{kind}", tmp_path / f"out.{kind}"
    score(folder, whole)
    rng, journal = random.Random(0), folder_of(out) / "journal.jsonl"
    for _ in range(KILLS):
        killed_after(folder, out, rng.uniform(0, 0.15))
        assert not out.exists(), "too few files for so many kills"
    written = journal.read_bytes().count(b"\n")
    stand = Stand()
    score(folder, out, stand, resume=True)
    assert stand.seen <= 430 - written
    assert lasting(out) == lasting(whole)
    assert kind != "csv" or out.read_bytes() == whole.read_bytes()
