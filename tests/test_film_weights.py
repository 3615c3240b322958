"""The weights by which a film is chosen of all quadrilaterals in a photograph."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from core.quadrilaterals import WEIGHTS
from tests import tiny
from training import corners
from training.__main__ import main
from training.corners import Seen


def seen(rng: np.random.Generator) -> Seen:
    """Fifty quadrilaterals; the nearer to the film, the larger the first figure and the smaller
    the second; the third says nothing."""
    away = rng.uniform(0, 1, 50)
    away[rng.integers(50)] = 0.0
    figures = np.stack([1 - away, 2 * away, rng.uniform(0, 1, 50)], 1)
    return Seen("screen", figures + rng.normal(0, 0.1, (50, 3)), away)


def test_what_speaks_for_the_film_gets_weight() -> None:
    rng = np.random.default_rng(0)
    weights = corners.fitted([seen(rng) for _ in range(60)])
    assert weights[0] == 1 and weights[1] < -0.2 and abs(weights[2]) < 0.2
    others = [seen(rng) for _ in range(60)]
    by_chance = corners.right(others, np.array([0.0, 0.0, 1.0]))
    assert corners.right(others, weights) > 0.5
    assert by_chance < 0.3


def test_the_command_says_every_weight_and_how_often_it_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corners, "VALIDATION", 2)
    data = tiny.write(tmp_path, each=2)
    assert main(["corners", "--data", f"manifest:{data}", "--count", "1"]) == 0
    said = capsys.readouterr().out
    in_use = dict(re.findall(r"^(\w.*?\w) +-?\d+\.\d+ +(-?\d+\.\d+)$", said, re.M))
    assert {name: float(value) for name, value in in_use.items()} == WEIGHTS
    assert re.search(r"right on the screen: [01]\.\d+, by those in use [01]\.\d+ \(n=\d+\)", said)
