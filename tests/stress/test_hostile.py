"""The decode boundary under attack, at length: 6,000 and 1,500 mutations, ten minutes of a fuzzer.

Each runs in a process of its own, so that the death of a decoder is a failed test and not the end
of all tests.
"""

from __future__ import annotations

import logging
import random
import subprocess
import sys
from pathlib import Path

import pytest

from core.settings import ROOT

log = logging.getLogger(__name__)
FUZZ_SECONDS = 600


def run(*arguments: str, seconds: float) -> str:
    """Standard output of a Python process that must end well."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-X", "faulthandler", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-3000:]}"
    return done.stdout.strip()


@pytest.mark.stress
@pytest.mark.parametrize(("what", "n"), [("pictures", 6000), ("dicoms", 1500)])
def test_mutations(what: str, n: int) -> None:
    told = run("-m", "tests.hostile", what, str(n), str(random.randrange(2**32)), seconds=1800)
    log.info("%s", told)
    assert f"n={n}:" in told
    assert float(told.partition("slowest ")[2].split()[0]) < 2.0
    assert int(told.partition(", ")[2].rpartition(" MB at most")[0].split()[-1]) < 500


@pytest.mark.stress
def test_fuzz() -> None:
    told = run("-m", "tests.stress.fuzz", str(FUZZ_SECONDS), seconds=FUZZ_SECONDS + 300)
    log.info("%s", told)
    assert int(told.partition("n=")[2].partition(":")[0]) > 10_000


@pytest.mark.stress
def test_the_same_picture_in_other_processes_and_with_other_threads(weights: Path) -> None:
    """100 times in each of four processes with 1, 2, 3 and 4 threads: one answer."""
    answers = set()
    for threads in range(1, 5):
        told = run("-m", "tests.stress.repeat", str(weights), str(threads), seconds=600)
        log.info("%d threads: %s", threads, told)
        finding, low, high, n = told.split()
        assert n == "100"
        answers.add((finding, round(float(low), 6), round(float(high), 6)))
    assert len({finding for finding, _, _ in answers}) == 1
    assert max(high for _, _, high in answers) - min(low for _, low, _ in answers) <= 1e-6
