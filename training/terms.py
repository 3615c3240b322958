"""What a release may be used for, as it follows from what it was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from core.types import BodyPart
from training.phases import BODY_PART

FRACATLAS, MURA, HANDS, SIMULATED = "fracatlas", "mura", "rsna_hand", "simulated"
CREDITS = {
    FRACATLAS: "FracAtlas: Abedeen et al., Scientific Data 2023, CC BY 4.0.",
    MURA: "MURA: Rajpurkar et al. 2018, Stanford research use.",
    "unifesp": "UNIFESP X-ray body part: body part only.",
    HANDS: "RSNA bone age: body part only.",
}
"""Of the known sources, by how their names begin."""
TEACHER = "Teacher: EfficientNet-Lite2, ImageNet, Apache-2.0."


def sources(data: Mapping[str, Any]) -> set[str]:
    """Of ``training_data`` of a release, and of the release that it began with."""
    return {*data.get("sources", ()), *(sources(base) if (base := _base(data)) else ())}


def commands(data: Mapping[str, Any]) -> list[str]:
    """As ``sources``."""
    return [*data.get("commands", ()), *(commands(base) if (base := _base(data)) else ())]


def _base(data: Mapping[str, Any]) -> Mapping[str, Any]:
    return dict(data.get("base", {})).get("training_data") or {}


def _of(names: Iterable[str], source: str) -> bool:
    return any(name.startswith(source) for name in names)


def licence(data: Mapping[str, Any]) -> str:
    """What the owners of the radiographs ask for."""
    found, said = sources(data), []
    if _of(found, MURA):
        said.append("research use only, non-commercial (trained on MURA)")
    if _of(found, FRACATLAS):
        said.append("credit FracAtlas (CC BY 4.0)")
    others = sorted(n for n in found if n != SIMULATED and not any(map(n.startswith, CREDITS)))
    if others:
        said.append(f"what the owners of {', '.join(others)} allow")
    return f"Weights: {'; '.join(said)}." if said else "Weights: trained on no named data set."


def intended_use(stages: Iterable[str]) -> str:
    """For the parts that have a model."""
    parts = [BodyPart(name).words for name in sorted(stages) if name != BODY_PART]
    if not parts:
        return "None: it has no fracture model."
    named = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    return f"Research. Supports a reader of {named} radiographs; not a medical device."


def credits(data: Mapping[str, Any]) -> str:
    """Who made what it was trained on, as far as it is known here."""
    found = sources(data)
    said = [text for name, text in CREDITS.items() if _of(found, name)]
    return " ".join([*said, *[TEACHER] * any(map(_taught, commands(data)))])


def _taught(command: str) -> bool:
    """Whether ImageNet's network has a part in it; ``member`` takes it where no other is named."""
    frozen = "training member " in command and " --init " not in command
    return frozen or "training distill" in command or " --init imagenet" in command


def limits(data: Mapping[str, Any]) -> list[str]:
    """What a reader must know of the sources, a sentence each."""
    found, said = sources(data), []
    if _of(found, MURA):
        said.append(
            "About half of MURA's positives show plates, screws or casts; the model may take metal "
            "for a finding."
        )
    if _of(found, HANDS):
        said.append("Children's hands were seen for the body part only, never with a label.")
    return said
