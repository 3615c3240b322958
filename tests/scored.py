"""A release without networks, and rows as if it had scored them: every figure can be counted."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from core.manifest import Release, Stage
from core.transforms import Preprocessing
from core.types import OperatingPoint

COLUMNS = ("id", "study", "patient", "positive", "probability", "said")
# Two studies of two views, two pictures of no study, a study of one view.
ELBOWS = (
    ("1", "s1", "a", 1.0, 0.9, "elbow"),
    ("2", "s1", "a", 1.0, 0.3, "rejected"),
    ("3", "s2", "b", 0.0, 0.6, "elbow"),
    ("4", "s2", "b", 0.0, 0.2, "elbow"),
    ("5", None, "c", 0.0, 0.7, "elbow"),
    ("6", None, "d", 1.0, 0.2, "hand"),
    ("7", "s3", "e", 1.0, 0.8, "elbow"),
)

FIGURE = {"stage": "fracture", "part": "elbow", "source": "all", "level": "image"} | {
    "metric": "auroc", "value": 0.9, "low": 0.8, "high": 0.95, "n": 58,
}  # fmt: skip


def release() -> Release:
    """Elbows only, with one operating point: balanced at 0.5."""
    point = OperatingPoint("balanced", 0.5, 0.8, 0.7, 100)
    stages = {
        "body_part": Stage("", "", ("elbow", "hand", "shoulder", "other")),
        "elbow": Stage("", "", ("positive",), operating_points=(point,), label_means="fracture"),
    }
    spec = Preprocessing(size=64)
    return Release("made-1", "2026-11-23", {}, stages, spec, {}, {}, {}, "none", "tests")


def cascade() -> Any:
    return SimpleNamespace(release=release())


def rows(source: str = "drawn") -> pd.DataFrame:
    """The seven elbows."""
    table = pd.DataFrame(ELBOWS, columns=list(COLUMNS))
    said = {"truth": "elbow", "named": "elbow", "sureness": 0.97, "looks_like": "", "finding": ""}
    return table.assign(source=source, part="elbow", **said)


def torn() -> tuple[Release, pd.DataFrame]:
    """A release of elbows and hands, and 60 studies of two views of the elbow, many of which it
    takes for the hand: what is suspected, and so which part leads, is far from a half."""
    made = release()
    high, low = (
        tuple(OperatingPoint(name, t, 0.8, 0.7, 100) for name in ("sensitive", "specific"))
        for t in (0.8, 0.2)
    )
    stages = {
        "body_part": made.stages["body_part"],
        "elbow": replace(made.stages["elbow"], operating_points=high),
        "hand": replace(made.stages["elbow"], operating_points=low),
    }
    rng, count = np.random.default_rng(3), 120
    study = np.arange(count) // 2
    table = {
        "id": np.arange(count).astype(str),
        "study": study.astype(str),
        "patient": study.astype(str),
        "positive": (study % 2).astype(float),
        "probability": rng.random(count),
        "said": rng.choice(["elbow", "hand"], count),
        "shown": rng.random(count),
        "sureness": rng.uniform(0.5, 1, count),
    }
    found = pd.DataFrame(table).assign(
        source="drawn", part="elbow", truth="elbow", named="elbow", looks_like="", finding="",
        side="",
    )  # fmt: skip
    found.loc[found.said == "elbow", "shown"] = found.probability
    return replace(made, stages=stages), found
