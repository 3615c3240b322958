"""Which processor runs the network, and in which precision."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from core.allocator import keep_large_blocks
from core.errors import DeviceUnavailable
from core.settings import DEVICES


@dataclass(frozen=True)
class Device:
    """A torch device with the precision and the batch that suit it.

    batch: every forward pass has exactly this many images, padded if there are fewer. A kernel
        is chosen by the batch size, so a fixed one is what makes a result independent of the
        images that happen to be scored beside it.
    """

    processor: torch.device
    dtype: torch.dtype
    batch: int
    name: str

    @property
    def description(self) -> str:
        precision = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
        return f"{self.name}, {precision[self.dtype]}"


def choose(wish: str = "auto") -> Device:
    """auto, cpu or cuda -> Device; raises DeviceUnavailable."""
    if wish not in DEVICES:
        raise DeviceUnavailable(f"The device must be auto, cpu or cuda, not {wish!r}.")
    if wish != "cpu" and torch.cuda.is_available():
        return Device(torch.device("cuda"), torch.float16, 8, torch.cuda.get_device_name())
    if wish == "cuda":
        raise DeviceUnavailable("There is no CUDA device that this installation of torch can use.")
    keep_large_blocks()
    dtype = torch.bfloat16 if _has_native_bf16() else torch.float32
    return Device(torch.device("cpu"), dtype, 1, "CPU")


def _has_native_bf16() -> bool:
    """Emulated bf16 is slower than float32, so only the processor's own instructions count."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, p, lambda: False)() for p in probes)
