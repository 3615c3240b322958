"""The networks of a release, ready to run: folded batch norm, read-only, on their device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from core import device as devices
from core.network import Branch, channels_last, fold
from core.registry import Stage


@dataclass(frozen=True)
class Network:
    """One stage, ready to run. branch: its layer4. weight (CxD), bias (C): its linear layer.

    The linear layer stays in float32 outside torch: pooling and one product cost nothing, and a
    probability is not rounded to half precision.
    """

    stage: Stage
    trunk: nn.Module
    branch: nn.Module
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class Activations:
    """What one image leaves behind in one branch: C logits and Dxhxw activations, float32."""

    logits: NDArray[np.float32]
    maps: NDArray[np.float32]

    @property
    def pooled(self) -> NDArray[np.float32]:
        return self.maps.mean((1, 2))


def prepare(
    make: Callable[[], nn.Module], tensors: dict[str, torch.Tensor], target: devices.Device
) -> nn.Module:
    """The module on its device and in its precision, folded and read-only."""
    with torch.device("meta"):  # no time for random weights that are replaced at once
        module = make()
    module.load_state_dict(tensors, assign=True)
    return ready(module, target)


def ready(module: nn.Module, target: devices.Device) -> nn.Module:
    """The module itself, which cannot be trained from then on."""
    return channels_last(fold(module).to(target.processor, target.dtype))


def network(
    stage: Stage, trunk: nn.Module, tensors: dict[str, torch.Tensor], target: devices.Device
) -> Network:
    prefix = "layer4."
    state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    weight, bias = tensors["fc.weight"].numpy(), tensors["fc.bias"].numpy()
    if weight.shape[0] != len(stage.classes):
        raise KeyError(f"{stage.branch} has {weight.shape[0]} outputs")
    return Network(stage, trunk, prepare(lambda: Branch(1).layer4, state, target), weight, bias)
