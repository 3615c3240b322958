"""The batch through Ray gives the rows of the batch without it."""

from __future__ import annotations

import io
import threading
import warnings
from pathlib import Path

import pytest

from core.batch.run import Order, run
from core.batch.scoring import Scorer
from core.engines import choice
from core.settings import ImageLimits, Settings
from tests.batches import fill

pytestmark = pytest.mark.stress


@pytest.mark.filterwarnings("ignore")  # Ray's own, of which there are many
def test_ray_gives_the_same_table(weights: Path, tmp_path: Path, monkeypatch):
    ray = pytest.importorskip("ray")
    from core.batch.cluster import RayScorer

    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    settings = Settings(device="cpu", engine="torch", weights=weights, home=tmp_path / "home")
    folder = fill(tmp_path / "in", 8, 4)
    plain = Scorer(choice.load(settings), ImageLimits(), 4)
    run(Order(folder, tmp_path / "plain.csv"), plain, threading.Event(), io.StringIO())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spread = RayScorer.of(settings, str(folder), 4)
        assert spread.settings.release == spread.release.id  # no alias, which could move meanwhile
        try:
            run(Order(folder, tmp_path / "ray.csv"), spread, threading.Event(), io.StringIO())
        finally:
            ray.shutdown()
    assert (tmp_path / "ray.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
