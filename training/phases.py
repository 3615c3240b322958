"""The phases of a run, in their order, and how many pictures each of them sees.

Nothing here imports torch: the queue and the page count with it as well as ``training.fit``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.types import BodyPart

BODY_PART = "body_part"
PARTS = (BodyPart.ELBOW.value, BodyPart.HAND.value, BodyPart.SHOULDER.value)
JOINT = "joint"
# Each phase's passes by the name of the setting.
SETTINGS = {JOINT: "joint_passes", BODY_PART: "body_part_passes"} | dict.fromkeys(
    PARTS, "branch_passes"
)
BRANCHES = (BODY_PART, *PARTS)


def passes(settings: Mapping[str, Any]) -> dict[str, int]:
    """Pictures by phase; of a run that fine-tunes one branch (``only``) there is no other phase."""
    only = settings.get("only") or ""
    return {
        phase: int(settings.get(setting, 0))
        for phase, setting in SETTINGS.items()
        if only in ("", phase)
    }


def needed(only: str) -> tuple[str, ...]:
    """The parts that must have positives and negatives, in training and to choose on."""
    if only == BODY_PART:
        return ()
    return (only,) if only else PARTS
