"""What is no radiograph: drawn the same from one seed, and counted when a release refuses it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from core.transforms import Preprocessing
from training import strangers
from training.data import DataInvalid


@pytest.mark.parametrize("kind", strangers.KINDS)
def test_a_seed_gives_the_same_picture_and_another_seed_another(kind):
    make = strangers.KINDS[kind]
    one, same, other = (make(np.random.default_rng(s)) for s in (3, 3, 4))
    assert one.dtype == np.uint8
    assert one.ndim == 2
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_no_photograph_is_both_learned_and_measured():
    learned, measured = strangers._photographs(False), strangers._photographs(True)
    assert len(learned) == 3
    assert len(measured) == 11
    assert not {p.tobytes() for p in learned} & {p.tobytes() for p in measured}


def test_leaves_are_as_uneven_in_the_small_as_in_the_large():
    """As natural pictures are, and noise is not: halving the size keeps most of the contrast."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        picture = strangers.leaves(rng).astype(float)
        half = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
        half = half.reshape(half.shape[0] // 2, 2, -1, 2).mean((1, 3))
        assert picture.std() > 10
        assert half.std() > 0.85 * picture.std()


def test_rows_and_canvases_are_ready_for_training():
    spec = Preprocessing(size=32)
    canvases, rows = strangers.canvases(12, spec, 0), strangers.rows(12)
    assert canvases.shape == (12, 32, 32)
    assert len(rows) == 12
    assert rows.positive.isna().all()
    assert set(rows.part) == {strangers.KIND}


def test_crops_of_one_photograph_are_resampled_together(cascade, monkeypatch):
    """Of 40 crops of two photographs, one refused and one not, nothing is known to a tenth."""
    two = (np.zeros((64, 64), np.uint8), np.full((64, 64), 255, np.uint8))
    monkeypatch.setattr(strangers, "_photographs", lambda held_out: two)
    monkeypatch.setattr(strangers, "KINDS", {"photograph": strangers.photograph})
    numbers = {}

    def drawn(rng, held_out):
        number = int(rng.integers(2))
        return two[number], number

    def predict(radiographs):
        [one] = radiographs
        numbers[one.name] = dark = not one.pixels.any()
        return [SimpleNamespace(reason="No radiograph." if dark else None)]

    monkeypatch.setattr(strangers, "_of_photograph", drawn)
    [found, _] = strangers.measure(SimpleNamespace(predict=predict), count=40, seed=0, draws=200)
    assert len(numbers) == found["n"] == 40 and 0.2 < found["value"] < 0.8
    assert (found["low"], found["high"]) == (0.0, 1.0)


def test_without_the_photographs_nothing_is_scored_first(monkeypatch):
    """It was a traceback, after all other kinds."""

    def missing(held_out):
        raise ModuleNotFoundError("No module named 'skimage'")

    monkeypatch.setattr(strangers, "_photographs", missing)
    with pytest.raises(DataInvalid, match="pip install scikit-image"):
        strangers.measure(SimpleNamespace(), count=1, seed=0)


def test_refusals_are_counted_by_kind(cascade):
    records = strangers.measure(cascade, count=2, seed=0, draws=20)
    assert [r["part"] for r in records] == [*strangers.KINDS, "all"]
    assert [r["n"] for r in records] == [2, 2, 2, 2, 2, 10]
    mean = np.mean([r["value"] for r in records[:-1]])
    assert records[-1]["value"] == pytest.approx(mean)
