"""ResNet50 as one trunk and several branches.

The trunk is conv1 ... layer3, a branch is layer4, average pooling and one linear layer.
Parameter names are torchvision's, so ``{**trunk.state_dict(), **branch.state_dict()}`` loads
into ``torchvision.models.resnet50(num_classes=...)`` and the other way round
(He et al. 2016, arXiv:1512.03385; stride in the 3x3 convolution as in torchvision, "v1.5").
torchvision itself is not imported here: it adds seconds to the first prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

M = TypeVar("M", bound=nn.Module)

EXPANSION = 4
WIDTH = 64  # channels of conv1, of which all others are multiples
_LAYERS = ((1, 3, 1), (2, 4, 2), (4, 6, 2), (8, 3, 2))  # widths, blocks, stride


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; BxCxHxW in, Bx(4 width)xH'xW' out."""

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out = width * EXPANSION
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)).add_(shortcut))


def _layer(channels: int, base: int, widths: int, blocks: int, stride: int) -> nn.Sequential:
    width = widths * base
    first = Bottleneck(channels, width, stride)
    rest = (Bottleneck(width * EXPANSION, width) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


class Trunk(nn.Module):
    """conv1 ... layer3: Bx3xSxS float in, Bx1024x(S/16)x(S/16) out.

    width: channels of conv1. ResNet50 has 64; with less it is the same network, narrower: the
    output has 16 times the width.
    """

    def __init__(self, width: int | None = None) -> None:
        super().__init__()
        self.width = width = width or WIDTH
        # of layer1, layer2 and layer3: 256, 512 and 1024
        self.channels = tuple(EXPANSION * widths * width for widths, _, _ in _LAYERS[:3])
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = _layer(width, width, *_LAYERS[0])
        self.layer2 = _layer(self.channels[0], width, *_LAYERS[1])
        self.layer3 = _layer(self.channels[1], width, *_LAYERS[2])
        _initialise(self)

    def stages(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs of layer1, layer2 and layer3, at strides 4, 8 and 16."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        one = self.layer1(x)
        two = self.layer2(one)
        return one, two, self.layer3(two)

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x)[-1]


class BranchOutput(NamedTuple):
    """Logits (BxC) and the activations they were pooled from (Bx2048xhxw)."""

    logits: Tensor
    activations: Tensor


class Branch(nn.Module):
    """layer4, global average pooling, one linear layer: Bx1024xhxw in, ``classes`` logits out.

    width: of the trunk before it.
    """

    def __init__(self, classes: int, width: int | None = None) -> None:
        super().__init__()
        width = width or WIDTH
        self.layer4 = _layer(EXPANSION * _LAYERS[2][0] * width, width, *_LAYERS[3])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(EXPANSION * _LAYERS[3][0] * width, classes)
        _initialise(self)

    def forward(self, features: Tensor) -> BranchOutput:
        activations = self.layer4(features)
        return BranchOutput(self.fc(self.avgpool(activations).flatten(1)), activations)


def split_state_dict(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split a torchvision ResNet50 state dict into (trunk, branch)."""
    trunk = {k: v for k, v in state.items() if not k.startswith(("layer4.", "fc."))}
    branch = {k: v for k, v in state.items() if k.startswith(("layer4.", "fc."))}
    return trunk, branch


def _initialise(module: nn.Module) -> None:
    if torch.get_default_device().type == "meta":
        return  # nothing to fill, and torch would import its compiler for it: one second
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(m, Bottleneck):
            # A block starts as its shortcut (Goyal et al. 2017): steadier from scratch.
            nn.init.zeros_(m.bn3.weight)


def channels_last(module: M) -> M:
    """The same module with its weights in the layout that convolutions run fastest in."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def fold(module: M) -> M:
    """The module itself, with every batch norm folded into the convolution before it.

    It gives the same output as ``module.eval()`` did, up to rounding, and cannot be trained.
    """
    module.eval().requires_grad_(False)
    for owner in module.modules():
        for conv, norm in (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1")):
            c, n = owner._modules.get(conv), owner._modules.get(norm)
            if isinstance(c, nn.Conv2d) and isinstance(n, nn.BatchNorm2d):
                assert n.running_mean is not None and n.running_var is not None
                c.weight, c.bias = fuse_conv_bn_weights(
                    c.weight, c.bias, n.running_mean, n.running_var, n.eps, n.weight, n.bias
                )
                owner._modules[norm] = nn.Identity()
    return module
