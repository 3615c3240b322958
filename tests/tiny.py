"""A tiny data set of drawn pictures: discs of five sizes for parts, a bar for a finding.

With what the tests of runs on it share.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

PARTS = ("elbow", "hand", "shoulder", "leg", "chest")


def picture(part: str, positive: bool, rng: np.random.Generator) -> np.ndarray:
    """HxW uint8: noise, a disc whose size tells the part, and a bright bar where positive."""
    grey = rng.integers(0, 80, (90, 70)).astype(np.uint8)
    cv2.circle(grey, (35, 30), 4 + 5 * PARTS.index(part), 220, -1)
    if positive:
        grey[68:80, 5:65] = 255
    return grey


def write(folder: Path, each: int = 6) -> Path:
    """``each`` pictures of every part, label and split; returns manifest.csv."""
    rng, rows = np.random.default_rng(0), []
    (folder / "images" / "drawn").mkdir(parents=True)
    for split in ("train", "val", "test"):
        for part in PARTS:
            for positive in (0, 1):
                for k in range(each):
                    name = f"{split}_{part}_{positive}_{k}"
                    path = folder / "images" / "drawn" / f"{name}.webp"
                    cv2.imwrite(str(path), picture(part, bool(positive), rng))
                    label = None if part == "chest" else positive
                    rows.append((name, "drawn", part, label, "fracture", f"p{name}", split))
    columns = ["id", "source", "part", "positive", "positive_means", "group", "split"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def arguments(settings: Any) -> list[str]:
    """The options of ``python -m training fit`` that give these settings."""
    words = []
    for name, value in dataclasses.asdict(settings).items():
        for one in value if isinstance(value, tuple) else (value,):
            words += ["--" + name.replace("_", "-"), str(one)]
    return words


def events(run: Path) -> list[dict[str, Any]]:
    """What ``events.jsonl`` says, without the time of day and without lines cut by a crash."""
    found = []
    for line in (run / "events.jsonl").read_text().splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [{k: v for k, v in e.items() if k != "time"} for e in found]
