"""The phases of a run, in their order, and how many pictures each of them sees.

Nothing here imports torch: the queue and the page count with it as well as ``training.fit``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core import types
from core.architectures import RESNET50
from core.types import BodyPart

BODY_PART = types.BODY_PART  # the phase has the name of its stage
# Plain strings, as they stand in checkpoints, which hold nothing else.
PARTS = tuple(str(p) for p in (BodyPart.ELBOW, BodyPart.HAND, BodyPart.SHOULDER))
OTHER = str(BodyPart.OTHER)
JOINT = "joint"
# Each phase's passes by the name of the setting.
SETTINGS = {JOINT: "joint_passes", BODY_PART: "body_part_passes"} | dict.fromkeys(
    PARTS, "branch_passes"
)
BRANCHES = (BODY_PART, *PARTS)
AUTO, BF16, FP32 = PRECISIONS = ("auto", "bf16", "fp32")  # see ``training.precision``
DUPLICATES = ("drop", "refuse", "keep")  # see ``training.duplicates.settle``


def passes(settings: Mapping[str, Any]) -> dict[str, int]:
    """Pictures by phase; of a run that trains one branch (``only``, any part) there is no other,
    and of one that trains another network than the cascade (``arch``) the joint one alone."""
    if settings.get("arch", RESNET50) != RESNET50:
        return {JOINT: int(settings.get(SETTINGS[JOINT], 0))}
    only = settings.get("only") or ""
    wanted = {only: SETTINGS.get(only, "branch_passes")} if only else SETTINGS
    return {phase: int(settings.get(setting, 0)) for phase, setting in wanted.items()}


def needed(only: str) -> tuple[str, ...]:
    """The parts that must have positives and negatives, in training and to choose on."""
    if only == BODY_PART:
        return ()
    return (only,) if only else PARTS
