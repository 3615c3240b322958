"""Studies to put on a worklist: simulated radiographs with results that were made up."""

from __future__ import annotations

import hashlib

import numpy as np

from core.manifest import Release
from core.store import Store
from core.study import combine
from core.types import (
    BodyPart,
    BodyPartPrediction,
    Finding,
    FracturePrediction,
    Heatmap,
    ImageResult,
)
from tests.simulated import encoded, phantom


def put(
    store: Store, release: Release, title: str, probability: float, seed: int = 0, key: str = ""
) -> str:
    """Add a study of two views of a hand; its id. key: of the study, by default its title."""
    pictures = [encoded(phantom(200, 160, seed=seed + n), "PNG") for n in range(2)]
    digests = [hashlib.sha256(p).hexdigest() for p in pictures]
    views = [
        ImageResult(
            f"{title}.png",
            digest,
            None,
            release.id,
            release.sha256,
            1.0,
            BodyPartPrediction(BodyPart.HAND, 0.9, {BodyPart.HAND: 0.9, BodyPart.OTHER: 0.1}),
            FracturePrediction(probability, Finding.DOUBTFUL),
            Heatmap(np.full((3, 3), probability, np.float32), "Grad-CAM"),
        )
        for digest in digests
    ]
    result = combine(key or title, views, release)
    return store.add_study(title, result, release, dict(zip(digests, pictures)), "ann")
