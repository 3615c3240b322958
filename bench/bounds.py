"""What the processor could do: a prediction if every layer ran like the best convolution here."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from core import device as devices
from core.engines import vino
from core.errors import EngineUnavailable

PASS_GFLOP = 8.2  # one ResNet50 at 224 px, a multiplication and an addition counted as two
CASCADE_PASSES = 1.2
CHANNELS, SIDE, BATCH = 256, 14, 16  # 3x3, as in layer3, where most of the work is
OPERATIONS = 2 * 9 * CHANNELS**2 * SIDE**2 * BATCH
DEPTH = 6  # int8: so many after each other, or the rounding at both ends would count
TRIES, CALLS = 10, 20  # a single call is shorter than what a virtual processor's clock can tell


def all_bounds(size: int, threads: int) -> dict[str, float]:
    """Processor seconds of a prediction of that side, by precision; int8 where OpenVINO is."""
    whole = CASCADE_PASSES * PASS_GFLOP * (size / 224) ** 2 * 1e9 / OPERATIONS
    native = devices.choose("cpu").dtype  # emulated, bf16 would be slower than float32
    found = {"bf16" if native is torch.bfloat16 else "fp32": _floating(native) * whole}
    with suppress(EngineUnavailable):
        found["int8"] = _int8(vino.library(), threads) * whole
    return found


def _best(run: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(TRIES):
        began = time.process_time()
        for _ in range(CALLS):
            run()
        best = min(best, (time.process_time() - began) / CALLS)
    return best


@torch.inference_mode()
def _floating(dtype: torch.dtype) -> float:
    conv = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1).to(dtype).requires_grad_(False)
    conv = conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(BATCH, CHANNELS, SIDE, SIDE).to(dtype, memory_format=torch.channels_last)
    return _best(lambda: conv(x))


def _int8(openvino: Any, threads: int) -> float:
    """A chain of quantised convolutions, each with its ReLU, as OpenVINO runs them."""
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    given = ops.parameter([BATCH, CHANNELS, SIDE, SIDE], np.float32)
    x: Any = given
    for _ in range(DEPTH):
        weight = rng.normal(0, 0.03, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
        x = ops.fake_quantize(x, *(np.float32(v) for v in (0, 6, 0, 6)), 256)
        w = ops.fake_quantize(weight, *(np.float32(v) for v in (-0.12, 0.12) * 2), 255)
        x = ops.relu(ops.convolution(x, w, [1, 1], [1, 1], [1, 1], [1, 1]))
    wish = {"PERFORMANCE_HINT": "LATENCY"}
    if threads:
        wish["INFERENCE_NUM_THREADS"] = str(threads)
    model = openvino.Core().compile_model(openvino.Model([x], [given]), "CPU", wish)
    request = model.create_infer_request()
    request.set_input_tensor(openvino.Tensor(rng.random(given.shape, np.float32) * 6))
    return _best(request.infer) / DEPTH
