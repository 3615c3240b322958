"""``python -m tests.stress.repeat WEIGHTS THREADS``: a picture 100 times; finding, extremes, n."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from core import imaging
from core.cascade import Cascade
from core.types import BodyPart
from tests import hostile

TIMES = 100


def main(weights: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    cascade = Cascade.load(Path(weights), device="cpu")
    radiograph = imaging.decode(hostile.pictures()[0], "x", hostile.LIMITS)
    results = [cascade.predict([radiograph], BodyPart.HAND)[0].fracture for _ in range(TIMES)]
    findings = {r.finding.value for r in results if r is not None}
    probabilities = [r.probability for r in results if r is not None]
    told = f"{'/'.join(findings)} {min(probabilities):.9f} {max(probabilities):.9f}"
    sys.stdout.write(f"{told} {len(probabilities)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
