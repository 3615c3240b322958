"""Whole processes: a cold start, memory against the size of a folder, Ray against one process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import cv2

from bench import ways
from core.settings import ROOT

FEW, MANY = 100, 10_000
SMALL = 128  # pixels; memory against the number of files does not need large ones
RAY_FILES = 512

START = (
    "import time; t = time.perf_counter(); u = time.process_time();"
    "from core.engines import choice; from core.settings import Settings;"
    "c = choice.load(Settings.from_environment());"
    "print(f'{time.perf_counter() - t:.1f} s ({time.process_time() - u:.1f} of processor)')"
)
# VmHWM, not getrusage: after fork and exec the latter still holds the parent's highest.
STREAM = """
import io, sys, threading
from pathlib import Path
from core.batch.run import Order, run
from tests.batches import Stand, scorer
run(Order(Path(sys.argv[1]), Path(sys.argv[2])), scorer(Stand()), threading.Event(), io.StringIO())
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
"""
# Files a second from the first batch to the last: what starting costs is not counted.
RATE = """
import sys, time
from pathlib import Path
from core.batch.inputs import source_at
from core.batch.scoring import Nothing, Scorer
from core.settings import Settings
settings, folder = Settings.from_environment(), sys.argv[1]
if sys.argv[2] == "ray":
    from core.batch.cluster import RayScorer
    scorer = RayScorer.of(settings, folder, 32)
else:
    from core.engines import choice
    cascade = choice.load(settings, convert=True, many=True)
    scorer = Scorer(cascade, settings.limits, 32)
source, began, done = source_at(folder), None, 0
for records in scorer.records(source, source.names(), Nothing()):
    done += len(records) if began else 0
    began = began or time.perf_counter()
print(done / (time.perf_counter() - began))
"""


def cold_start() -> Iterator[str]:
    """A new process to a loaded release, with each engine that is ready."""
    for engine in ("torch", "auto"):
        yield f"a process to a loaded release, {engine}: {_python(START, BONE_ENGINE=engine)}"


def memory() -> str:
    """Highest resident memory of a batch of few and of many small files, a process each."""
    if not Path("/proc/self/status").exists():
        return "memory: left out, this system does not tell the highest."
    found = []
    for count in (FEW, MANY):
        with tempfile.TemporaryDirectory() as folder:
            where = _fill(Path(folder) / "in", count, SMALL)
            found.append(float(_python(STREAM, str(where), f"{folder}/out.csv")))
    growth = found[1] / found[0] - 1
    return (
        f"memory of a batch, without the networks: {found[0]:.0f} MB for {FEW} files, "
        f"{found[1]:.0f} MB for {MANY} ({growth:+.1%})"
    )


def ray(rounds: int) -> Iterator[str]:
    """Files a second through Ray on this machine and in one process, in turns."""
    if find_spec("ray") is None:
        yield "Ray against one process: left out, ray is not installed (requirements-ray.txt)."
        return
    with tempfile.TemporaryDirectory() as folder:
        where = _fill(Path(folder) / "in", RAY_FILES, ways.SIDE)
        for _ in range(rounds):
            plain, spread = (float(_python(RATE, str(where), how)) for how in ("plain", "ray"))
            yield (
                f"one process {plain:.1f} files/s, Ray {spread:.1f} files/s: {spread / plain:.0%}"
            )


def _python(code: str, *arguments: str, **environment: str) -> str:
    """What a new process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.strip().splitlines()[-1]


def _fill(folder: Path, count: int, side: int) -> Path:
    """So many radiographs, all different."""
    folder.mkdir()
    sources = sorted((ROOT / "samples").glob("*.png"))
    greys = [cv2.imread(str(p), cv2.IMREAD_GRAYSCALE) for p in sources]
    greys = [cv2.resize(g, (side, side), interpolation=cv2.INTER_AREA) for g in greys]
    for n in range(count):
        grey = greys[n % len(greys)]
        grey[:8, :8], grey[:8, 8:16] = n % 256, n // 256  # whole blocks, so that JPEG keeps them
        cv2.imwrite(str(folder / f"{n:05d}.{('png', 'jpg')[n % 2]}"), grey)
    return folder
