"""Training computes in bf16 only where the processor does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core import device as devices
from training.phases import AUTO, BF16, FP32
from training.precision import autocast, native

TRAINING = Path(__file__).parents[1] / "training"


@pytest.mark.parametrize(
    ("precision", "dtype", "mixed"),
    [
        (AUTO, torch.bfloat16, True),
        (AUTO, torch.float32, False),
        (BF16, torch.float32, True),
        (FP32, torch.bfloat16, False),
    ],
)
def test_bf16_where_the_processor_has_it_or_it_is_asked_for(precision, dtype, mixed):
    device = replace(devices.choose("cpu"), dtype=dtype)
    layer = torch.nn.Linear(4, 4)
    with autocast(device, precision):
        assert layer(torch.ones(1, 4)).dtype is (torch.bfloat16 if mixed else torch.float32)


def test_a_graphics_card_that_only_emulates_bf16_computes_in_float32(monkeypatch):
    """Turing and older say that they support bf16, and are slower with it."""
    asked = []

    def supported(including_emulation=True):
        asked.append(including_emulation)
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    card = devices.Device(torch.device("cuda"), torch.float16, 8, "a card")
    assert not native(card) and asked == [False]


def test_nothing_in_training_asks_for_bf16_by_itself():
    told = [p for p in TRAINING.rglob("*.py") if "torch.autocast(" in p.read_text("utf-8")]
    assert told == [TRAINING / "precision.py"]
