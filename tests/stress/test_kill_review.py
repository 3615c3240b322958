"""kill -9 at fifty random moments while two readers decide: what was answered is there, whole."""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from core.registry import Registry
from core.settings import ROOT, Settings
from core.store import Store
from core.store.records import status_of
from tests import worklist
from tests.waiting import eventually

pytestmark = pytest.mark.stress
log = logging.getLogger(__name__)
KILLS, STUDIES = 50, 40
EARLY = 0.2
"""Share of the kills while the process still starts; the others count from its first answer."""


def started(weights: Path, home: Path, said: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "BONE_WEIGHTS": str(weights),
        "BONE_HOME": str(home),
        "BONE_DEVICE": "cpu",
        "DATABASE_URL": "",
    }
    with said.open("wb") as out, said.with_suffix(".err").open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.stress.reader"],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=errors,
        )


def answers(said: Path) -> list[dict[str, Any]]:
    """The whole lines: one that was cut was answered to nobody."""
    return [json.loads(s) for s in said.read_text().splitlines(keepends=True) if s.endswith("\n")]


def check(home: Path, answered: list[dict[str, Any]]) -> Counter[str]:
    """Every answered decision as it was answered, all else whole; how many each reader made."""
    store = Store.open(Settings(home=home))
    records = {r.id: r for r in store.studies()}
    lines, problems = store.audit_lines(), store.verify_audit().problems
    store.close()
    assert problems == ()
    for one in answered:
        history = records[one["study"]].history
        mine = {d.revision: d for d in history if d.reader == one["reader"]}
        opinion = mine[one["revision"]].opinion
        assert opinion is not None
        assert one["verdict"] in (None, opinion.verdict) and one["comment"] in (
            None,
            opinion.comment,
        )
    made = Counter(d.reader for r in records.values() for d in r.history)
    told = Counter(line.actor for line in lines if line.event == "decision.made")
    assert made == told  # both or neither
    for record in records.values():
        assert record.status is status_of(d.opinion for d in record.decisions if d.opinion)
        for reader in ("ann", "bob"):
            mine = sorted(d.revision for d in record.history if d.reader == reader)
            assert mine == list(range(1, len(mine) + 1))
    json.loads((home / "audit.anchor.json").read_text())
    return made


def test_fifty_kills_lose_no_decision(weights: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    store, release = Store.open(Settings(home=home)), Registry.open(weights).find("champion")
    for n in range(STUDIES):
        worklist.put(store, release, f"study {n}", n / STUDIES, 2 * n)
    store.close()
    seed = random.randrange(2**32)
    log.warning("seed %d", seed)
    rng, answered, made, early = random.Random(seed), [], Counter[str](), 0
    starting = 3.0
    for kill in range(KILLS):
        said, began = tmp_path / f"{kill}.said", time.monotonic()
        process = started(weights, home, said)
        if rng.random() < EARLY:
            early += 1
            time.sleep(rng.uniform(0, starting))
        else:
            try:
                eventually(
                    lambda said=said, process=process: (
                        process.poll() is not None or '"bob"' in said.read_text()
                    ),
                    600,
                )
            except AssertionError:
                process.kill()
                process.wait()
                raise
            starting = time.monotonic() - began
            time.sleep(rng.uniform(0, 1.5))
        assert process.poll() is None, said.with_suffix(".err").read_text()[-3000:]
        process.kill()
        process.wait()
        answered += answers(said)
        made = check(home, answered)
    by = Counter(one["reader"] for one in answered)
    assert by["ann"] > KILLS and by["bob"] >= KILLS - early  # a life that is not killed early
    log.warning(
        "%d kills, %d of them at the start: %d decisions answered (%d by the page), 0 lost; %d "
        "made and not answered; audit whole",
        *(KILLS, early, len(answered), by["bob"], made.total() - len(answered)),
    )
