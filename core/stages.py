"""The networks of a release, ready to run: folded batch norm, read-only, on their device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from core import architectures
from core import device as devices
from core.manifest import Member, Release, Stage
from core.network import Branch, Trunk, channels_last, fold


@dataclass(frozen=True)
class Network:
    """One stage or member, ready to run. weight (CxD), bias (C): its linear layer.

    The linear layer stays in float32 outside torch: pooling and one product cost nothing, and a
    probability is not rounded to half precision.

    key: by which an engine knows the branch. name: of a member, empty of a stage's own. branch:
    layer4 of a ResNet50; None where the trunk gives the maps that are pooled. members: the other
    networks of the stage's ensemble.
    """

    key: str
    stage: Stage | Member
    trunk: nn.Module
    branch: nn.Module | None
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    members: tuple[Network, ...] = ()

    @property
    def name(self) -> str:
        return self.stage.name if isinstance(self.stage, Member) else ""


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
    dtype = torch.float32 if architectures.needs_float32(module) else target.dtype
    return channels_last(fold(module).to(target.processor, dtype))


def networks(
    release: Release, tensors: dict[str, dict[str, torch.Tensor]], target: devices.Device
) -> dict[str, Network]:
    """All networks of a release by stage; raises KeyError or RuntimeError where a file does not
    fit. A trunk that several name is made once."""
    trunks: dict[str, nn.Module] = {}

    def trunk(path: str) -> nn.Module:
        if path not in trunks:
            name = release.architectures.get(path, architectures.RESNET50)
            make = partial(architectures.make, name, release.preprocessing, tensors[path])
            trunks[path] = prepare(make, tensors[path], target)
        return trunks[path]

    def network(key: str, stage: Stage | Member, outputs: int) -> Network:
        state = tensors[stage.branch]
        weight, bias = state["fc.weight"].numpy(), state["fc.bias"].numpy()
        if len(weight) != outputs:
            raise KeyError(f"{stage.branch} has {len(weight)} outputs")
        before = trunk(stage.trunk)
        return Network(key, stage, before, _layer4(state, before, target), weight, bias)

    found = {}
    for name, stage in release.stages.items():
        joined = stage.ensemble.members if stage.ensemble else ()
        others = tuple(network(f"{name} {m.name}", m, len(m.classes) or 1) for m in joined)
        found[name] = replace(network(name, stage, len(stage.classes)), members=others)
    return found


def _layer4(
    tensors: dict[str, torch.Tensor], trunk: nn.Module, target: devices.Device
) -> nn.Module | None:
    prefix = "layer4."
    state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    if not state:
        return None
    if not isinstance(trunk, Trunk):
        raise KeyError("layer4 belongs to a ResNet50")
    return prepare(lambda: Branch(1, trunk.width).layer4, state, target)
