"""What a network of ``fit --arch`` says by its own heads, without a release around it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.network import channels_last
from core.transforms import Preprocessing, to_tensor
from training.fit_member import MemberNetwork
from training.phases import BODY_PART
from training.precision import autocast

BATCH = 32
Array = NDArray[np.float64]


@torch.inference_mode()
def logits(
    found: dict[str, Any], canvases: NDArray[np.uint8], spec: Preprocessing, flip: bool = False
) -> dict[str, Array]:
    """By head NxK logits of NxSxS canvases; found: what ``networks.trained`` gives. Heads that the
    network does not have are missing. flip: averaged with those of the mirror image."""
    if flip:
        views = canvases, np.ascontiguousarray(canvases[:, :, ::-1])
        plain, mirrored = (logits(found, view, spec) for view in views)
        return {name: (plain[name] + mirrored[name]) / 2 for name in plain}
    heads, kinds = found["heads"], list(found["kinds"])
    names = sorted({name.split(".")[0] for name in heads})
    network = MemberNetwork(found["arch"], spec, set(names) - {BODY_PART}, kinds, 0)
    network.features.load_state_dict(found["features"])
    network.heads.load_state_dict(heads, strict=False)  # a release may ask it of findings alone
    channels_last(network.eval())
    said: dict[str, list[Array]] = {name: [] for name in names}
    for i in range(0, len(canvases), BATCH):
        with autocast():
            answer, _, _ = network.answer(to_tensor(canvases[i : i + BATCH], spec))
        for name in names:
            said[name].append(answer[name].double().numpy())
    outputs = {name: len(kinds) if name == BODY_PART else 1 for name in names}
    return {n: np.concatenate([np.empty((0, outputs[n])), *chunks]) for n, chunks in said.items()}
