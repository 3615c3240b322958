"""How long a run would take: a few timed steps on this machine, on pictures of noise."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from core.settings import ROOT
from training import phases
from training.data import DataInvalid

STEPS = 3
WAIT_SECONDS = 180


@dataclass(frozen=True)
class Speeds:
    """Pictures a second of the joint phase and of a branch's own phase."""

    joint: float
    branch: float

    def seconds(self, settings: Mapping[str, Any]) -> float:
        """What the phases of a run would take, without validations and reading the pictures."""
        return sum(
            passes / (self.joint if phase == phases.JOINT else self.branch)
            for phase, passes in phases.passes(settings).items()
        )


def ask(settings: Mapping[str, Any]) -> Speeds:
    """Measure in a process of its own; raises DataInvalid where that fails."""
    given = json.dumps({k: v for k, v in settings.items() if k != "data"})
    command = [sys.executable, "-m", "training.jobs.estimate", given]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_SECONDS, check=True
        )
        return Speeds(**json.loads(done.stdout))
    except subprocess.TimeoutExpired as error:
        raise DataInvalid(f"A few steps took more than {WAIT_SECONDS} seconds.") from error
    except (subprocess.CalledProcessError, ValueError) as error:
        said = (getattr(error, "stderr", "") or "").strip().splitlines()
        raise DataInvalid(f"No step could be timed: {said[-1] if said else error}") from error


def measure(settings: Mapping[str, Any]) -> Speeds:
    """Time real steps of ``training.fit``; the first of each phase is not counted."""
    import numpy as np
    import pandas as pd
    import torch

    from core import device as devices
    from core.allocator import keep_large_blocks
    from core.network import channels_last
    from core.transforms import Preprocessing
    from training import fit
    from training.data import PARTS
    from training.model import JointNetwork
    from training.phase import Phase, PhaseState
    from training.pictures import Pictures

    keep_large_blocks()
    known = {f.name for f in fields(fit.Settings)}
    made = fit.Settings(
        data=(), out="", **{k: v for k, v in settings.items() if k in known - {"data", "out"}}
    )

    class Noise(fit.Run):
        def __init__(self) -> None:
            """A run of noise: every part with both labels, nothing read and nothing written."""
            self.settings, self.spec = made, Preprocessing(size=made.size)
            self.passes = dict.fromkeys(phases.SETTINGS, STEPS * made.batch)
            self.device, self.parts = devices.choose(made.device), PARTS
            n = 4 * len(PARTS)
            rows = pd.DataFrame(
                {
                    "part": list(PARTS) * 4,
                    "positive": [0.0, 1.0] * (n // 2),
                    "source": "noise",
                    "boxes": None,
                }
            )
            grey = np.random.default_rng(0).integers(256, size=(n, made.size, made.size))
            part = torch.tensor([PARTS.index(p) for p in rows.part])
            positive = torch.tensor(rows.positive.to_numpy(np.float32, copy=True))
            self.train = Pictures(rows, grey.astype(np.uint8), part, positive)

        def speed(self, phase: Phase) -> float:
            state = PhaseState(phase, made, self.device)
            self._step(phase, state)
            started = time.perf_counter()
            for _ in range(STEPS):
                self._step(phase, state)
            return STEPS * made.batch / (time.perf_counter() - started)

    run = Noise()
    joint = JointNetwork(run.parts)
    channels_last(joint.to(run.device.processor))
    whole = run.speed(run._joint_phase(joint))
    joint.requires_grad_(False).eval()
    return Speeds(whole, run.speed(run._branch_phase(joint, PARTS[0])))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(measure(json.loads(sys.argv[1])))))
