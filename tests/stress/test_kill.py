"""kill -9 at twenty random moments of a fit; resumed each time, it ends with the same numbers."""

from __future__ import annotations

import logging
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import tiny
from training import fit

log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
KILLS = 20


def start(settings: fit.Settings) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "training", "fit", *tiny.arguments(settings)]
    with Path(f"{settings.out}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def uninterrupted(settings: fit.Settings) -> tuple[float, float]:
    """Run to the end; seconds until the first validation, and from there to the end."""
    started = time.monotonic()
    process = start(settings)
    while not (Path(settings.out) / "events.jsonl").exists() and process.poll() is None:
        time.sleep(0.05)
    ready = time.monotonic()
    assert process.wait() == 0, Path(f"{settings.out}.log").read_text()[-3000:]
    return ready - started, time.monotonic() - ready


def interrupted(settings: fit.Settings, delays: list[float]) -> int:
    """Run to the end, killed after each delay for as long as there are any; how many it took."""
    for kills, delay in enumerate([*delays, None]):
        process = start(settings)
        try:
            assert process.wait(delay) == 0, Path(f"{settings.out}.log").read_text()[-3000:]
            return kills
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    raise AssertionError("the last start has no delay")


def compare(whole: Path, resumed: Path) -> None:
    """Every event, within 1e-5 (one may be there twice), and every weight."""
    by_place = {(e["phase"], e["seen"]): e for e in tiny.events(resumed)}
    events = tiny.events(whole)
    assert by_place.keys() == {(e["phase"], e["seen"]) for e in events}
    for event in events:
        other = by_place[event["phase"], event["seen"]]
        assert other == {
            k: pytest.approx(v, abs=1e-5) if isinstance(v, float) else v for k, v in event.items()
        }
    networks = [torch.load(f / "networks.pt", weights_only=True) for f in (whole, resumed)]
    torch.testing.assert_close(*(n["networks"] for n in networks), rtol=0, atol=1e-5)
    assert not list(resumed.glob(".*"))  # no temporary file of a killed process is left


@pytest.mark.stress
def test_twenty_kills_change_nothing(tmp_path):
    settings = fit.Settings(
        data=(f"manifest:{tiny.write(tmp_path)}",),
        out=str(tmp_path / "whole"),
        size=32,
        joint_passes=96,
        branch_passes=32,
        batch=16,
        validations=3,
        joint_rate=1e-3,
        device="cpu",
        minutes_between_checkpoints=0.0,
    )
    startup, training = uninterrupted(settings)
    seed = random.randrange(2**32)
    log.info("seed %d, %.1f s to start, %.1f s to train", seed, startup, training)
    rng = random.Random(seed)
    done, runs = 0, 0
    while done < KILLS:
        runs += 1
        resumed = tmp_path / f"resumed{runs}"
        latest = startup + training / 10
        delays = [rng.uniform(startup / 2, latest) for _ in range(KILLS - done)]
        done += interrupted(replace(settings, out=str(resumed)), delays)
        compare(tmp_path / "whole", resumed)
        shutil.rmtree(resumed)  # 0.8 GB each
    log.info("%d kills in %d runs", done, runs)
