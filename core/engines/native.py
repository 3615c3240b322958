"""The networks in torch, on the CPU or on CUDA.

On a CPU in bf16 each convolution is one oneDNN kernel together with its ReLU or its shortcut. Eager
torch rounds a convolution to bf16 before it adds the shortcut, and the sum once more; fused, it is
rounded once, which is faster, nearer to float32, and bit for bit what OpenVINO computes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from core.architectures import needs_float32
from core.architectures.lite2 import Block, EfficientNetLite2, SameConv2d
from core.device import Device
from core.network import Bottleneck, Trunk
from core.transforms import Preprocessing, to_tensor

Network = Callable[[Tensor], Tensor]


class TorchEngine:
    """Folded, read-only modules, by the file of a trunk and by the stage of a branch."""

    setting = "torch"

    def __init__(
        self,
        device: Device,
        preprocessing: Preprocessing,
        trunks: Mapping[str, nn.Module],
        branches: Mapping[str, nn.Module],
    ) -> None:
        self.description = device.description
        self._made_from = preprocessing, trunks, branches
        self._device = device
        self._preprocessing = preprocessing
        self._trunks = {path: _runner(m, device) for path, m in trunks.items()}
        self._dtypes = {
            path: torch.float32 if needs_float32(m) else device.dtype for path, m in trunks.items()
        }
        self._branches = {stage: _runner(m, device) for stage, m in branches.items()}
        # Each calling thread has its own team of as many threads as there are cores, and the teams
        # of twenty sessions fight for them: taking turns, a pass costs half. CUDA has its queue.
        cpu = device.processor.type == "cpu"
        self._turn: AbstractContextManager[object] = threading.Lock() if cpu else nullcontext()

    def smaller(self) -> TorchEngine | None:
        """The same networks with half as many pictures in a pass; None where it is one already."""
        half = self._device.batch // 2
        return TorchEngine(replace(self._device, batch=half), *self._made_from) if half else None

    @torch.inference_mode()
    def trunk(self, path: str, canvases: NDArray[np.uint8]) -> Tensor:
        x = to_tensor(canvases, self._preprocessing)
        network, dtype = self._trunks[path], self._dtypes[path]
        return torch.cat([self._fixed(network, c, dtype) for c in x.split(self._device.batch)])

    @torch.inference_mode()
    def branch(self, stage: str, features: Tensor) -> NDArray[np.float32]:
        network = self._branches[stage]
        dtype = self._device.dtype
        chunks = [self._fixed(network, c, dtype) for c in features.split(self._device.batch)]
        return torch.cat(chunks).float().cpu().numpy()

    def _fixed(self, network: Network, chunk: Tensor, dtype: torch.dtype) -> Tensor:
        """Run one chunk padded to the device's batch, and return only its own rows."""
        device = self._device
        if device.processor.type == "cuda" and not chunk.is_cuda:
            chunk = chunk.pin_memory()  # so that the copy overlaps the pass before it
        x = chunk.to(device.processor, dtype, non_blocking=True)
        missing = device.batch - len(x)
        if missing:
            x = torch.cat([x, x.new_zeros((missing, *x.shape[1:]))])
        x = x.contiguous(memory_format=torch.channels_last)
        with self._turn:
            return network(x)[: len(chunk)]


def _runner(module: nn.Module, device: Device) -> Network:
    """The module, or its fused form where oneDNN has the kernels."""
    if device.processor.type != "cpu" or device.dtype is not torch.bfloat16:
        return module
    if not torch.backends.mkldnn.is_available():
        return module
    if isinstance(module, EfficientNetLite2):
        return partial(_lite2, module)
    blocks = [m for m in module.modules() if isinstance(m, Bottleneck)]

    if not blocks:
        return module  # a transformer: its products have no kernel with anything fused to them

    def run(x: Tensor) -> Tensor:
        if isinstance(module, Trunk):
            x = max_pool2d(_convolved(module.conv1, x, "relu"), 3, 2, 1)
        for block in blocks:
            x = _block(block, x)
        return x

    return run


def _block(block: Bottleneck, x: Tensor) -> Tensor:
    """A folded bottleneck; the shortcut is added inside the last convolution's kernel."""
    shortcut = x
    if isinstance(block.downsample, nn.Sequential):
        shortcut = _convolved(block.downsample[0], x, "none")
    y = _convolved(block.conv2, _convolved(block.conv1, x, "relu"), "relu")
    return torch.ops.mkldnn._convolution_pointwise.binary(
        y, shortcut, *_arguments(block.conv3), "add", 1.0, "relu", [], ""
    )


def _lite2(network: EfficientNetLite2, x: Tensor) -> Tensor:
    """A folded EfficientNet-Lite2, each convolution with its ReLU6 or its shortcut."""
    x = _convolved(network.conv1, x, "hardtanh")
    for block in network.blocks:
        assert isinstance(block, Block)
        y = x if block.conv1 is None else _convolved(block.conv1, x, "hardtanh")
        y = _convolved(block.conv2, y, "hardtanh")
        if block.shortcut:
            x = torch.ops.mkldnn._convolution_pointwise.binary(
                y, x, *_arguments(block.conv3), "add", 1.0, None, [], ""
            )
        else:
            x = _convolved(block.conv3, y, "none")
    return _convolved(network.conv2, x, "hardtanh")


def _convolved(conv: nn.Module, x: Tensor, then: str) -> Tensor:
    """then: "none", "relu", or "hardtanh", which is ReLU6 between these limits."""
    limits = [0.0, 6.0] if then == "hardtanh" else []
    if isinstance(conv, SameConv2d):
        x = conv.padded(x).contiguous(memory_format=torch.channels_last)
    return torch.ops.mkldnn._convolution_pointwise(x, *_arguments(conv), then, limits, "")


def _arguments(conv: nn.Module) -> tuple[object, ...]:
    assert isinstance(conv, nn.Conv2d)
    return conv.weight, conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups
