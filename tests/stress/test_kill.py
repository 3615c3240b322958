"""kill -9 at fifty random moments of a fit; resumed each time, it ends with the same numbers."""

from __future__ import annotations

import json
import logging
import random
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import tiny
from training import fit

log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
KILLS = 50


def start(settings: fit.Settings) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "training", "fit", *tiny.arguments(settings)]
    with Path(f"{settings.out}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def finish(process: subprocess.Popen[bytes], settings: fit.Settings) -> None:
    assert process.wait() == 0, Path(f"{settings.out}.log").read_text()[-3000:]


def heartbeat(settings: fit.Settings) -> float:
    status = Path(settings.out) / "status.json"
    return json.loads(status.read_text())["heartbeat"] if status.exists() else 0.0


def first_beat(process: subprocess.Popen[bytes], settings: fit.Settings, before: float) -> None:
    """Wait until this process has validated, or taken a step, or ended."""
    while heartbeat(settings) == before and process.poll() is None:
        time.sleep(0.02)


def uninterrupted(settings: fit.Settings) -> tuple[float, float]:
    """Run to the end; seconds until the first validation, and from there to the end."""
    started = time.monotonic()
    process = start(settings)
    first_beat(process, settings, 0.0)
    ready = time.monotonic()
    finish(process, settings)
    return ready - started, time.monotonic() - ready


def kill_at_random(settings: fit.Settings, times: tuple[float, float], rng: random.Random) -> bool:
    """Start or resume, and kill: one in four while it starts, else in training. False: it ended.

    times: as of ``uninterrupted``. The moment counts from the first beat, so that on a machine with
    other work the kills still fall into training, and still leave some of it to the next.
    """
    before, process = heartbeat(settings), start(settings)
    if rng.random() < 0.25:
        time.sleep(rng.uniform(0, times[0]))
    else:
        first_beat(process, settings, before)
        time.sleep(rng.uniform(0, times[1] / 20))
    if process.poll() is None:
        process.kill()
        process.wait()
        return True
    finish(process, settings)
    return False


def whole_files(run: Path) -> int:
    """Every file of a run that was killed is whole, whatever the moment; how many there are.

    But for the two that are appended to (events.jsonl, log.txt), whose last line may be cut.
    """
    checks = {
        ".pt": lambda p: zipfile.ZipFile(p).testzip() is None,  # reads it all, against its sums
        ".json": lambda p: json.loads(p.read_text()),
        ".toml": lambda p: tomllib.loads(p.read_text()),
        ".csv": lambda p: p.read_text().endswith("\n"),
    }
    files = [p for p in run.iterdir() if p.suffix in checks and not p.name.startswith(".")]
    assert all(checks[p.suffix](p) for p in files), files
    return len(files)


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
def test_fifty_kills_change_nothing(tmp_path):
    settings = fit.Settings(
        data=(f"manifest:{tiny.write(tmp_path)}",),
        out=str(tmp_path / "whole"),
        size=32,
        joint_passes=96,
        branch_passes=32,
        body_part_passes=32,
        batch=16,
        validations=3,
        joint_rate=1e-3,
        device="cpu",
        minutes_between_checkpoints=0.0,
    )
    times = uninterrupted(settings)
    seed = random.randrange(2**32)
    log.info("seed %d, %.1f s to start, %.1f s to train", seed, *times)
    rng = random.Random(seed)
    kills, runs, files = 0, 0, 0
    while kills < KILLS:
        runs += 1
        resumed = replace(settings, out=str(tmp_path / f"resumed{runs}"))
        while kills < KILLS and kill_at_random(resumed, times, rng):
            kills += 1
            files += whole_files(Path(resumed.out)) if Path(resumed.out).exists() else 0
        finish(start(resumed), resumed)
        compare(Path(settings.out), Path(resumed.out))
        shutil.rmtree(resumed.out)  # 0.8 GB each
    log.warning("%d kills in %d runs, %d files after them whole, 0 not", kills, runs, files)
