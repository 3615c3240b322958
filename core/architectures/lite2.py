"""EfficientNet-Lite2 as a feature extractor: a stem, 21 blocks and the last 1x1 convolution.

Tan and Le 2019, arXiv:1905.11946; the "lite" variants have ReLU6 and no squeeze-and-excitation.
The padding is TensorFlow's "same": with stride 2 on an even side, nothing on the left and one cell
more on the right. Each convolution and its batch norm are named as in ``core.network``'s blocks,
so ``fold`` folds them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu6

from core.transforms import Preprocessing

CHANNELS = 1280
MID_GREY = 127  # of [0, 255]: the zero of the network's own inputs, (grey - 127) / 128
SCALE = 128
_STEM, _EPSILON, _MOMENTUM = 32, 1e-3, 0.01


class _Layer(NamedTuple):
    kernel: int
    stride: int
    channels: int
    blocks: int
    expansion: int


_LAYERS = (
    _Layer(3, 1, 16, 1, 1),
    _Layer(3, 2, 24, 3, 6),
    _Layer(5, 2, 48, 3, 6),
    _Layer(3, 2, 88, 4, 6),
    _Layer(5, 1, 120, 4, 6),
    _Layer(5, 2, 208, 5, 6),
    _Layer(3, 1, 352, 1, 6),
)


class SameConv2d(nn.Conv2d):
    """A strided convolution with TensorFlow's padding. fill: what the border is padded with."""

    fill = 0.0

    def padded(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        sides = []
        for size in (x.shape[-1], x.shape[-2]):
            missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            sides += [missing // 2, missing - missing // 2]
        return pad(x, sides, value=self.fill)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.groups > 1:
            # In bf16 the gradient of one of these takes a CPU many times as long.
            with torch.autocast(x.device.type, enabled=False):
                return super().forward(self.padded(x.float()))
        return super().forward(self.padded(x))


def _convolution(channels: int, out: int, kernel: int, stride: int, groups: int = 1) -> nn.Conv2d:
    if stride > 1:
        return SameConv2d(channels, out, kernel, stride, groups=groups, bias=False)
    return nn.Conv2d(channels, out, kernel, padding=kernel // 2, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON, momentum=_MOMENTUM)


class Block(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection; BxCxHxW in, BxC'xH'xW' out."""

    def __init__(self, channels: int, layer: _Layer, stride: int) -> None:
        super().__init__()
        wide = channels * layer.expansion
        self.conv1: nn.Module | None = None
        if layer.expansion != 1:
            self.conv1, self.bn1 = _convolution(channels, wide, 1, 1), _norm(wide)
        self.conv2, self.bn2 = _convolution(wide, wide, layer.kernel, stride, wide), _norm(wide)
        self.conv3, self.bn3 = _convolution(wide, layer.channels, 1, 1), _norm(layer.channels)
        self.shortcut = stride == 1 and channels == layer.channels

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.conv1 is None else relu6(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(relu6(self.bn2(self.conv2(y)))))
        return y + x if self.shortcut else y


class EfficientNetLite2(nn.Module):
    """Bx3xSxS in the normalisation of ``spec`` -> Bx1280x(S/32)x(S/32), rounded up.

    The network was trained on (grey - 127) / 128. The affine step from the release's normalisation
    to that one is in the stem's weights, where ``adapted`` puts it, so it costs nothing and rounds
    nothing; what is left of it is the value that the border is padded with.
    """

    def __init__(self, spec: Preprocessing) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(3, _STEM, 3, 2), _norm(_STEM)
        assert isinstance(self.conv1, SameConv2d)
        self.conv1.fill = (MID_GREY / 255 - spec.mean) / spec.std
        channels, blocks = _STEM, []
        for layer in _LAYERS:
            for n in range(layer.blocks):
                blocks.append(Block(channels, layer, layer.stride if n == 0 else 1))
                channels = layer.channels
        self.blocks = nn.Sequential(*blocks)
        self.conv2, self.bn2 = _convolution(channels, CHANNELS, 1, 1), _norm(CHANNELS)

    def early(self, stages: int) -> list[nn.Module]:
        """The layers with maps of stride 4 (1 stage) or 8 (2) and wider."""
        return [self.conv1, self.bn1, *list(self.blocks)[: (0, 4, 7)[stages]]]

    def forward(self, x: Tensor) -> Tensor:
        x = relu6(self.bn1(self.conv1(x)))
        return relu6(self.bn2(self.conv2(self.blocks(x))))


def adapted(state: dict[str, Tensor], spec: Preprocessing) -> dict[str, Tensor]:
    """A state dict for the network's own inputs -> one for inputs as ``spec`` normalises them.

    With own = a x + b, the stem's convolution of ``own`` is that of x with a times the weights,
    plus b times their sum, which the batch norm after it takes off again.
    """
    a = 255 * spec.std / SCALE
    b = (255 * spec.mean - MID_GREY) / SCALE
    weight = state["conv1.weight"].double()
    mean = state["bn1.running_mean"].double() - b * weight.sum((1, 2, 3))
    return state | {"conv1.weight": (a * weight).float(), "bn1.running_mean": mean.float()}


def unadapted(state: dict[str, Tensor], spec: Preprocessing) -> dict[str, Tensor]:
    """What ``adapted`` made, for the network's own inputs again."""
    a = 255 * spec.std / SCALE
    b = (255 * spec.mean - MID_GREY) / SCALE
    weight = state["conv1.weight"].double() / a
    mean = state["bn1.running_mean"].double() + b * weight.sum((1, 2, 3))
    return state | {"conv1.weight": weight.float(), "bn1.running_mean": mean.float()}


def from_package(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the package ``efficientnet_lite_pytorch`` by the names used here.

    Its classifier is left out.
    """
    return {own: state[name] for name, own in _names(state).items()}


def to_package(state: dict[str, Tensor], template: dict[str, Tensor]) -> dict[str, Tensor]:
    """The other way: a state dict like ``template``, of which the rest, such as its classifier,
    stays."""
    return template | {name: state[own] for name, own in _names(template).items()}


def _names(state: Iterable[str]) -> dict[str, str]:
    """The names used here by those of the package."""
    found = {}
    for name in state:
        *block, layer, parameter = name.split(".")
        if layer == "_fc" or parameter == "num_batches_tracked":
            continue
        place = ["blocks", block[1]] if block else []
        found[name] = ".".join([*place, (_BLOCK if block else _ENDS)[layer], parameter])
    return found


_ENDS = {"_conv_stem": "conv1", "_bn0": "bn1", "_conv_head": "conv2", "_bn1": "bn2"}
_BLOCK = {"_expand_conv": "conv1", "_depthwise_conv": "conv2", "_project_conv": "conv3"}
_BLOCK |= {"_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}
