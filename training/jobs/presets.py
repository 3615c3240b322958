"""What a run can be told to do: presets, and each setting with its unit and range."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from core.settings import CHAMPION, DEVICES
from training import phases


@dataclass(frozen=True)
class Preset:
    """A place to start from. changed: the settings that differ from those of ``training.fit``."""

    name: str
    about: str
    changed: dict[str, Any]


_FINE: dict[str, Any] = {
    "init": CHAMPION,
    "branch_passes": 2_000,
    "body_part_passes": 2_000,
    "branch_rate": 3e-5,
    "body_part_rate": 3e-5,
    "validations": 8,
    "patience": 3,
}
PRESETS = (
    Preset(
        "Quick look on the CPU",
        "Minutes to an hour: to see whether the data teaches anything at all. Not for a release.",
        {
            "size": 128,
            "joint_passes": 2_000,
            "branch_passes": 400,
            "body_part_passes": 800,
            "batch": 16,
            "validations": 8,
            "device": "cpu",
        },
    ),
    Preset(
        "Full on the GPU",
        "Hours: every picture some fifty times, at full size. Starts from ImageNet (downloads "
        "torchvision's weights).",
        {
            "init": "imagenet",
            "size": 320,
            "joint_passes": 1_000_000,
            "branch_passes": 100_000,
            "body_part_passes": 200_000,
            "batch": 128,
            "validations": 40,
            "patience": 10,
            "device": "cuda",
        },
    ),
    Preset(
        "Fine-tune one body part on my corrections",
        "Minutes: trains the released branch of one part further, at a low rate; everything else "
        "stays as released, byte for byte, but for the part's second network, if it has one: it "
        "was fitted to the branch before and is left out. Choose the part, the corrections, and "
        "beside them data with enough of the part for validation.",
        {
            **_FINE,
            "only": "elbow",
        },
    ),
    Preset(
        "Fine-tune all branches on my corrections",
        "Trains stage 1 and every part of the release in use further; the trunk stays. Choose the "
        "corrections and, beside them, the data the release was trained on.",
        {
            **_FINE,
            "joint_passes": 0,
        },
    ),
)


@dataclass(frozen=True)
class Limit:
    """How a setting is shown: its label, unit and range (both ends allowed), and what it does."""

    label: str
    unit: str
    low: float
    high: float
    about: str = ""


LIMITS = {
    "size": Limit("Input size", "pixels", 32, 1024, "Side of the square that the network sees."),
    "joint_passes": Limit("Joint phase", "pictures", 0, 1e9, "Trunk and all branches together."),
    "branch_passes": Limit("Each fracture branch", "pictures", 0, 1e9, "On the frozen trunk."),
    "body_part_passes": Limit("Body-part branch", "pictures", 0, 1e9, "On the frozen trunk."),
    "batch": Limit("Batch size", "pictures", 2, 4096, "Pictures per step."),
    "joint_rate": Limit("Learning rate, joint phase", "", 1e-7, 0.1, "At its peak."),
    "branch_rate": Limit("Learning rate, fracture branches", "", 1e-7, 0.1, "At its peak."),
    "body_part_rate": Limit("Learning rate, body-part branch", "", 1e-7, 0.1, "At its peak."),
    "weight_decay": Limit("Weight decay", "", 0, 1, "That of AdamW."),
    "smoothing": Limit("Label smoothing", "share", 0, 0.5, "0: none."),
    "ema": Limit("Weight averaging", "per step", 0, 0.9999, "Decay of the averaged weights."),
    "warmup": Limit("Warm-up", "share of a phase", 0, 0.5, "Until the peak learning rate."),
    "validations": Limit("Validations", "per phase", 1, 1000, "How often a phase is validated."),
    "patience": Limit("Patience", "validations", 0, 1000, "For early stopping; 0: never."),
    "freeze": Limit("Frozen stages of the trunk", "stages", 0, 2, "The first ones."),
    "strangers": Limit(
        "Out-of-distribution pictures (synthetic)", "", 0, 1e6, "For stage 1 to learn to refuse."
    ),
    "pointing": Limit(
        "Heatmap loss", "weight", 0, 10, "Keeps the heatmap inside the annotated boxes."
    ),
    "steady": Limit(
        "Consistency loss", "weight", 0, 10, "Makes two augmented views of a picture agree."
    ),
    "focus": Limit("Crop to the limb", "", 0, 1, "1: pictures are cropped to the limb first."),
    "seed": Limit("Seed", "", 0, 2**31 - 1, "Two runs with one seed give the same numbers."),
    "minutes_between_checkpoints": Limit(
        "Checkpoint interval", "minutes", 0, 600, "This much of a run can be lost."
    ),
}
CHOICES = {
    "only": ("", *phases.BRANCHES),
    "device": DEVICES,
    "precision": phases.PRECISIONS,
    "duplicates": phases.DUPLICATES,
}
TEXTS = {
    "init": "scratch, imagenet, a release or its alias, or a file in a folder that may be read "
    "here.",
    "only": "Where one is chosen, everything else stays as the release has it.",
}
LABELS = {"init": "Initial weights", "only": "Branches to train"}


def problems(settings: dict[str, Any]) -> list[str]:
    """A sentence for each setting that is out of its range."""
    found = []
    for name, limit in LIMITS.items():
        value = settings.get(name)
        if isinstance(value, int | float) and not limit.low <= value <= limit.high:
            unit = f" {limit.unit}" if limit.unit else ""
            found.append(
                f"{limit.label} must lie between {limit.low:g} and {limit.high:g}{unit}, "
                f"not {value:g}."
            )
    return found


def label(name: str) -> str:
    """What a setting is called on the page."""
    limit = LIMITS.get(name)
    return limit.label if limit else LABELS.get(name, name.replace("_", " ").capitalize())


def command(settings: dict[str, Any], out: str) -> str:
    """The command line that would do the same."""
    words = ["python -m training fit"]
    for name, value in {**settings, "out": out}.items():
        for one in value if isinstance(value, list | tuple) else (value,):
            if one != "":
                words.append(f"--{name.replace('_', '-')} {shlex.quote(str(one))}")
    return " ".join(words)
