"""A graphics processor without memory, or gone: pretended, as most machines have none."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core import recovery, refusals
from core.cascade import Cascade
from core.engines.native import TorchEngine
from core.errors import DeviceUnavailable
from core.types import Radiograph

BATCH = 8


@pytest.fixture
def canvases(cascade: Cascade) -> np.ndarray:
    size = cascade.release.preprocessing.size
    return np.random.default_rng(0).integers(0, 256, (11, size, size), np.uint8)


def pretended(weights: Path, cascade: Cascade, fits: int, broken: bool = False) -> Cascade:
    """A cascade whose passes fail with more than ``fits`` pictures; 0: always."""

    class Card(TorchEngine):
        def smaller(self) -> Card | None:
            half = self._device.batch // 2
            return Card(replace(self._device, batch=half), *self._made_from) if half else None

        def _fixed(self, network, chunk, dtype):
            if broken:
                raise torch.AcceleratorError("CUDA error: an illegal memory access")
            if self._device.batch > fits:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super()._fixed(network, chunk, dtype)

    device = replace(cascade.device, batch=BATCH, name="Pretended card")
    card = Card(device, cascade.release.preprocessing, *cascade.modules)
    return Cascade(
        cascade.release,
        cascade._networks,
        device,
        engine=card,
        elsewhere=lambda: Cascade.load(weights, device="cpu"),
    )


def same(one: list, other: list) -> None:
    assert any(a.fracture for a in one)
    for a, b in zip(one, other, strict=True):
        assert a.body_part.label == b.body_part.label
        for part, value in b.body_part.probabilities.items():
            assert a.body_part.probabilities[part] == pytest.approx(value, abs=1e-3)
        assert (a.fracture is None) == (b.fracture is None)
        if a.fracture:
            assert a.fracture.probability == pytest.approx(b.fracture.probability, abs=1e-3)


@pytest.mark.parametrize("fits", [4, 2, 1])
def test_out_of_memory_halves_the_batch_and_stays_on_the_card(weights, cascade, canvases, fits):
    card = pretended(weights, cascade, fits)
    assert not card.trouble
    same(card.assess(canvases), cascade.assess(canvases))
    assert card.engine._device.batch == fits
    assert card.engine.description.startswith("Pretended card")
    assert card.trouble == recovery.SMALLER


@pytest.mark.parametrize("broken", [False, True])
def test_a_card_without_memory_or_gone_is_replaced_by_the_cpu(weights, cascade, canvases, broken):
    card = pretended(weights, cascade, fits=0, broken=broken)
    same(card.assess(canvases), cascade.assess(canvases))
    assert card.engine.description.startswith("CPU")
    assert card.trouble == recovery.ON_CPU
    logits, _ = card.logits_and_features("body_part", canvases)
    np.testing.assert_allclose(
        logits, cascade.logits_and_features("body_part", canvases)[0], atol=1e-3
    )


def test_many_threads_replace_it_once(weights, cascade, canvases, monkeypatch):
    loads = []
    load = Cascade.load.__func__
    monkeypatch.setattr(
        Cascade, "load", classmethod(lambda cls, *a, **k: (loads.append(1), load(cls, *a, **k))[1])
    )
    card, expected = pretended(weights, cascade, fits=0), cascade.assess(canvases[:3])
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: card.assess(canvases[:3]), range(16)):
            same(found, expected)
    assert len(loads) == 1


def test_other_errors_and_a_cpu_that_fails_too_are_raised(weights, cascade, canvases):
    asked = recovery.Recovery(cascade, lambda: cascade)
    with pytest.raises(RuntimeError, match="mine"):
        asked.ask(lambda _: (_ for _ in ()).throw(RuntimeError("mine")))
    with pytest.raises(torch.OutOfMemoryError):
        asked.ask(lambda _: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory.")))
    assert asked.trouble == recovery.ON_CPU


def test_no_memory_for_the_release_is_said_as_that(weights, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("core.stages.prepare", full)
    with pytest.raises(DeviceUnavailable, match="graphics processor failed"):
        Cascade.load(weights)


class NoNumbers(TorchEngine):
    """Gives no number for a canvas of one grey value."""

    def trunk(self, path, canvases):
        found = super().trunk(path, canvases).clone()
        found[torch.from_numpy(np.ptp(canvases, axis=(1, 2)) == 0)] = torch.nan
        return found


def without_numbers(cascade: Cascade, elsewhere=None) -> Cascade:
    engine = NoNumbers(cascade.device, cascade.release.preprocessing, *cascade.modules)
    return Cascade(
        cascade.release, cascade._networks, cascade.device, engine=engine, elsewhere=elsewhere
    )


def test_what_a_card_gives_no_number_for_is_asked_of_the_cpu(cascade, canvases):
    canvases[1] = 255
    card = without_numbers(cascade, lambda: cascade)
    found = card.assess(canvases[:3])
    assert card.trouble == recovery.ON_CPU
    expected = cascade.assess(canvases[:3])
    assert [a.body_part for a in found] == [a.body_part for a in expected]


@pytest.mark.parametrize("cpu_too", [False, True])
def test_what_has_no_number_anywhere_is_refused_alone(cascade, canvases, caplog, cpu_too):
    canvases[1] = 255
    expected = cascade.assess(canvases[:3])
    elsewhere = (lambda: without_numbers(cascade)) if cpu_too else None
    first, refused, last = without_numbers(cascade, elsewhere).assess(canvases[:3])
    assert [first.body_part, last.body_part] == [expected[0].body_part, expected[2].body_part]
    assert (refused.reason, refused.fracture) == (refusals.NO_NUMBER, None)
    assert "NoNumber" in caplog.text
    assert "graphics processor" not in caplog.text
    white = Radiograph(np.full((64, 64), 255, np.uint8), "a.png", "0" * 64, "PNG")
    [result] = without_numbers(cascade, elsewhere).predict([white])
    assert json.loads(json.dumps(result.to_json(), allow_nan=False))["status"] == "rejected"


def test_a_picture_without_a_number_on_the_cpu_either_leaves_the_card_in_use(cascade, canvases):
    """It is the picture. And the CPU is asked for that one alone."""
    canvases[1] = 255
    asked: list[int] = []

    class OnCpu(NoNumbers):
        def trunk(self, path, canvases):
            asked.append(len(canvases))
            return super().trunk(path, canvases)

    def elsewhere() -> Cascade:
        asked.clear()
        engine = OnCpu(cascade.device, cascade.release.preprocessing, *cascade.modules)
        return cascade.with_engine(engine)

    card = without_numbers(cascade, elsewhere)
    before = card.engine
    for _ in range(2):
        reasons = [a.reason for a in card.assess(canvases[:3])]
        assert reasons[1] == refusals.NO_NUMBER
    assert card.engine is before and not card.trouble and asked == [1, 1]
