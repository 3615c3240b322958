"""Make ``import torchvision`` work beside a CPU build of torch.

The torchvision wheel on PyPI links to CUDA libraries. Beside a CPU build of torch its extension
does not load, and the first import fails with ``operator torchvision::nms does not exist``, as
would every package that imports it (grad-cam among them). Declaring the two missing operators is
enough for models, transforms and datasets; ``torchvision.ops.nms`` and ``torchvision.io`` stay
unusable, and nothing here uses them. Where torchvision loads by itself this does nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[torch.library.Library] = []  # the operators live as long as this reference


def import_torchvision() -> ModuleType:
    """Import torchvision, declaring its operators first where its extension cannot load."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    if not _kept:
        _kept.append(torch.library.Library("torchvision", "FRAGMENT"))
        for schema in _SCHEMAS:
            _kept[0].define(schema)
    return importlib.import_module("torchvision")
