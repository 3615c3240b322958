"""Why a picture gets no second stage, or no answer at all: the sentences that a reader sees."""

from __future__ import annotations

from core.manifest import Release
from core.types import STRANGER, BodyPart, BodyPartPrediction

NAMED_ANOTHER = (
    "A reader named another body part, which has no fracture model here, so it was not assessed."
)
NOT_A_RADIOGRAPH = (
    "This does not look like a radiograph of a bone, so it was not assessed for a fracture."
)
NO_NUMBER = "The networks gave no valid result for this picture, so it was not assessed."


def of_part(part: BodyPartPrediction, release: Release) -> str | None:
    """One sentence where stage 1 takes a picture for what the release has no model of, else None.

    It names what the picture looks like where stage 1 can say, and the files that are missing.
    """
    if part.looks_like == STRANGER:
        return NOT_A_RADIOGRAPH
    if part.label != BodyPart.OTHER:
        return None
    supported = ", ".join(p.words for p in release.parts) or "none"
    absent = {BodyPart(name).words: f for name, f in release.absent.items()}
    if part.looks_like in absent:
        missing = ", ".join(absent[part.looks_like])
        return (
            f"This looks like the {part.looks_like}, whose fracture model is not installed "
            f"here (missing: {missing}), so it was not assessed."
        )
    if part.looks_like:
        return (
            f"This looks like the {part.looks_like}, which has no fracture model here "
            f"(available: {supported}), so it was not assessed."
        )
    return (
        "This does not look like a body part that has a fracture model here "
        f"({supported}), so it was not assessed."
    )
