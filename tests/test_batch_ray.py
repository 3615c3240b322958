"""The batch through Ray, where Ray is a stand-in: one worker in this process, in another folder.

``tests/stress/test_ray.py`` has the real one.
"""

from __future__ import annotations

import contextlib
import csv
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.__main__ import main
from core.batch import cluster
from core.batch.cluster import RayScorer
from core.batch.flow import chunks
from core.batch.inputs import Folder
from core.batch.journal import folder_of
from core.batch.run import Order, run
from core.batch.scoring import Scorer
from core.engines import choice
from core.errors import BatchFailed
from core.settings import ImageLimits, Settings
from tests.batches import fill


@dataclass
class StandIn:
    """Of Ray what ``RayScorer`` asks of it. elsewhere: the current folder of its worker."""

    elsewhere: Path
    dies_after: int = 1000
    workers: list[Any] = field(default_factory=list)

    @property
    def data(self) -> StandIn:
        return self

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 1.0}

    def from_items(self, items: list[dict[str, str]]) -> StandIn:
        self.items = items
        return self

    def map_batches(self, worker: Any, **options: Any) -> StandIn:
        with contextlib.chdir(self.elsewhere):
            self.workers.append(worker(*options["fn_constructor_args"]))
        return self

    def iter_batches(self, batch_size: int) -> Iterator[dict[str, Any]]:
        for n, block in enumerate(chunks(self.items, batch_size)):
            if n >= self.dies_after:
                raise RuntimeError("ActorDiedError: the node has gone")
            with contextlib.chdir(self.elsewhere):
                yielded = self.workers[-1]({"name": np.array([i["name"] for i in block])})
            yield yielded


@pytest.fixture
def ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand = StandIn(tmp_path / "elsewhere")
    stand.elsewhere.mkdir()
    monkeypatch.setattr(cluster, "_ray", lambda _: stand)
    monkeypatch.chdir(tmp_path)
    return stand


def spread(weights: Path, tmp_path: Path, **options: Any) -> RayScorer:
    """With paths as a user types them, relative to the current folder."""
    (tmp_path / "weights").symlink_to(weights)
    settings = Settings(device="cpu", engine="torch", weights=Path("weights"), home=Path("home"))
    return RayScorer.of(settings, "in", 2, **options)


def score(order: Order, scorer: Scorer | RayScorer) -> None:
    run(order, scorer, threading.Event(), io.StringIO())


def test_a_worker_in_another_folder_reads_the_same(weights: Path, tmp_path: Path, ray: StandIn):
    folder = fill(tmp_path / "in", 5, 2)
    settings = Settings(device="cpu", engine="torch", weights=weights)
    score(Order("in", Path("plain.csv")), Scorer(choice.load(settings), ImageLimits(), 2, 1))
    scorer = spread(weights, tmp_path, heatmaps=Path("heat"), roots=[Path("in")])
    score(Order("in", Path("ray.csv")), scorer)
    assert ray.workers and not list(ray.elsewhere.iterdir())
    plain, found = (
        list(csv.DictReader(io.StringIO((tmp_path / f"{n}.csv").read_text(encoding="utf-8"))))
        for n in ("plain", "ray")
    )
    assert found == plain and {r["status"] for r in found} == {"ok", "rejected"}
    assert [r["file"].lstrip("'")[:3] for r in found] == ["in/"] * 7  # as it was given
    assert len(list((tmp_path / "heat").iterdir())) == 5
    kept = (scorer.settings.weights, scorer.settings.home, scorer.heatmaps, *(scorer.roots or ()))
    assert all(p is not None and p.is_absolute() for p in kept)
    assert scorer.source == str(folder)


def test_a_cluster_that_dies_is_a_sentence_and_goes_on(
    weights: Path, tmp_path: Path, ray: StandIn, caplog: pytest.LogCaptureFixture
):
    fill(tmp_path / "in", 6)
    ray.dies_after, scorer, out = 1, spread(weights, tmp_path), Path("out.csv")
    with pytest.raises(BatchFailed, match=r"Ray cluster failed.*--resume"):
        score(Order("in", out), scorer)
    assert "the node has gone" in caplog.text
    assert len((folder_of(out) / "journal.jsonl").read_text().splitlines()) == 2
    ray.dies_after = 1000
    score(Order("in", out, resume=True), scorer)
    assert len(out.read_text().splitlines()) == 7


def test_a_source_that_a_worker_no_longer_reads_ends_the_run(
    weights: Path, tmp_path: Path, ray: StandIn, monkeypatch: pytest.MonkeyPatch
):
    folder = fill(tmp_path / "in", 4)
    (folder / "a.png").symlink_to("nothing")
    monkeypatch.setattr(Folder, "there", lambda _: False)
    with pytest.raises(BatchFailed, match=r"can no longer be read\. Results so far are kept"):
        score(Order("in", Path("out.csv")), spread(weights, tmp_path))
    assert not (folder_of(Path("out.csv")) / "journal.jsonl").read_text()


@pytest.mark.parametrize("where", ["local", "ray"])
def test_where_it_runs_says_nothing_of_what_runs_the_network(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    engines = []

    def kept(_: object, settings: Settings) -> None:
        engines.append(settings.engine)
        raise BatchFailed("Enough.")

    monkeypatch.setattr("core.commands.batch._scorer", kept)
    monkeypatch.setenv("BONE_ENGINE", "torch")
    out = str(tmp_path / "out.csv")
    assert main(["batch", str(tmp_path), "--out", out, "--engine", where]) == 1
    assert engines == ["torch"]
