"""In which precision a network is trained, and asked between two steps."""

from __future__ import annotations

import torch

from core import device as devices
from training.phases import AUTO, BF16


def autocast(device: devices.Device | None = None, precision: str = AUTO) -> torch.autocast:
    """bf16 for what bears it, float32 for the rest; device: None is the CPU.

    auto: bf16 where the processor computes in it. Emulated it is slower than float32: on a CPU
    with AVX2 alone a convolution takes nine times as long.
    """
    device = device or devices.choose("cpu")
    wanted = precision == BF16 or (precision == AUTO and native(device))
    return torch.autocast(device.processor.type, torch.bfloat16, wanted)


def native(device: devices.Device) -> bool:
    """Whether the processor has instructions for bf16 of its own."""
    if device.processor.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.dtype is torch.bfloat16
