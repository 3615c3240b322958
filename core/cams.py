"""Other class activation maps, from the ``grad-cam`` library.

The library registers hooks and runs backward passes, which on a shared model gives one session the
heatmap of another. So it gets a private float32 copy of the branch, and one caller at a time. Its
input is the trunk's output: the expensive part of the network is not run again.
"""

from __future__ import annotations

import copy
import threading
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.compat import import_torchvision
from core.types import Heatmap

# name: (class in pytorch_grad_cam, layer). layer3 has twice as many cells a side as layer4.
METHODS = {
    "Grad-CAM++": ("GradCAMPlusPlus", "layer4"),
    "XGrad-CAM": ("XGradCAM", "layer4"),
    "LayerCAM": ("LayerCAM", "layer4"),
    "LayerCAM, layer 3": ("LayerCAM", "layer3"),
    "Eigen-CAM": ("EigenCAM", "layer4"),
}


class _Branch(nn.Module):
    """layer4 and the linear layer; ``layer3`` is where the trunk's output comes in."""

    def __init__(self, layer4: nn.Module, weight: np.ndarray, bias: np.ndarray) -> None:
        super().__init__()
        self.layer3 = nn.Identity()
        self.layer4 = copy.deepcopy(layer4).float()
        self.fc = nn.Linear(weight.shape[1], weight.shape[0])
        self.fc.weight.data, self.fc.bias.data = torch.tensor(weight), torch.tensor(bias)
        self.to(next(layer4.parameters()).device)

    def forward(self, features: Tensor) -> Tensor:
        pooled = self.layer4(self.layer3(features)).mean((2, 3))
        return self.fc(pooled)


class LibraryCam:
    """Maps of one branch. layer4: its last layer. weight (CxD), bias (C): its linear layer."""

    def __init__(self, layer4: nn.Module, weight: np.ndarray, bias: np.ndarray) -> None:
        self._model = _Branch(layer4, weight, bias).eval()
        self._lock = threading.Lock()

    def heatmap(self, features: Tensor, probability: float, method: str) -> Heatmap:
        """1x1024xhxw trunk output -> Heatmap of the first logit; KeyError: unknown method.

        The library stretches every map to [0, 1]; here the maximum is ``probability``, what this
        branch says, as in the closed form. Cells: those of the trunk's output.
        """
        name, layer = METHODS[method]
        with self._lock, torch.enable_grad():
            cams = _library()
            cam = getattr(cams, name)(
                model=self._model, target_layers=[getattr(self._model, layer)]
            )
            cam.compute_input_gradient = True
            try:
                stretched = cam(features.detach().float(), [lambda logits: logits[0]])[0]
            finally:
                cam.activations_and_grads.release()
        values = np.nan_to_num(stretched) * probability
        return Heatmap(np.ascontiguousarray(values, np.float32), method)


def _library() -> Any:
    """pytorch_grad_cam; importing it takes seconds, and it warns about what it imports."""
    import_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pytorch_grad_cam
    return pytorch_grad_cam
