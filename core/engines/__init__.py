"""What runs the networks. Two functions, so that nothing else knows which one it is."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray


class Engine(Protocol):
    """The networks of one release on one device. Thread-safe.

    The same input gives the same numbers whatever is computed beside it: every pass has one fixed
    batch. Linear layers, softmax and calibration are no part of an engine; they are float32 or
    float64 in ``core.cascade`` for all of them.

    description: library, processor and precision, for the page and the journal of a batch; the
    same for the same numbers, so without how many threads.
    setting: the one of ``core.settings.ENGINES`` that asks for it.
    """

    description: str
    setting: str

    def trunk(self, path: str, canvases: NDArray[np.uint8]) -> torch.Tensor:
        """The trunk of that file on NxSxS canvases, N at least 1: of a ResNet50
        Nx1024x(S/16)x(S/16), of another architecture the maps that its branch pools."""

    def branch(self, stage: str, features: torch.Tensor) -> NDArray[np.float32]:
        """layer4 of that stage (``Network.key``) on a trunk's output: Nx2048x(S/32)x(S/32)."""
