"""The same scoring through Ray Data: one scorer for each GPU or core, on one machine or many.

Only the middle is different: names go out in blocks, records come back in order and go into the
same journal, so resuming, locking and the tables are those of a run on one machine. A worker
decodes and scores a block as ``scoring`` does. Equal bytes are scored once within a block.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.batch.inputs import Source, absolute, source_at
from core.batch.journal import KEPT, Record
from core.batch.scoring import Known, Nothing, Scorer
from core.errors import BatchFailed, CascadeError
from core.manifest import Release
from core.registry import Registry
from core.settings import ImageLimits, Settings

log = logging.getLogger(__name__)

WINDOW = 100_000  # names handed to Ray at a time: the driver never holds all of them
ENDED = "ended"  # what a worker sends for a record where the run cannot go on: why


@dataclass(frozen=True)
class RayScorer:
    """What ``run`` asks of a scorer, done by Ray. address: of a cluster, None for this machine.

    source: every worker opens it for itself, so each must reach it. release: the one release of the
    whole run, whatever is promoted meanwhile. Made by ``RayScorer.of``, which makes paths absolute:
    a worker has another current folder.
    """

    settings: Settings
    release: Release
    source: str
    batch: int
    address: str | None = None
    heatmaps: Path | None = None
    roots: Sequence[Path] | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        source: str,
        batch: int,
        *,
        address: str | None = None,
        heatmaps: Path | None = None,
        roots: Sequence[Path] | None = None,
    ) -> RayScorer:
        """With the release that the settings name now. Raises WeightsInvalid."""
        found = Registry.open(settings.weights).find(settings.release, settings.mode)
        everywhere = replace(
            settings,
            release=found.id,
            weights=settings.weights.absolute(),
            home=settings.home.absolute(),
            roots=tuple(r.absolute() for r in settings.roots),
        )
        return cls(
            everywhere,
            found,
            absolute(source),
            batch,
            address,
            heatmaps and heatmaps.absolute(),
            None if roots is None else [r.absolute() for r in roots],
        )

    @property
    def engine(self) -> str:
        return f"Ray, {self.settings.engine} on {self.settings.device}"

    @property
    def engine_setting(self) -> str:
        return self.settings.engine

    @property
    def limits(self) -> ImageLimits:
        return self.settings.limits

    def records(self, source: Source, names: Iterable[str], known: Known) -> Iterator[list[Record]]:
        """Records in the order of ``names``, a block at a time.

        Raises BatchFailed where a worker or the cluster cannot go on.
        """
        from core.batch.flow import chunks

        ray = _ray(self.address)
        gpus = int(ray.cluster_resources().get("GPU", 0)) if self.settings.device != "cpu" else 0
        workers = gpus or max(1, int(ray.cluster_resources().get("CPU", 1)))
        for window in chunks(names, WINDOW):
            try:
                found = ray.data.from_items([{"name": n} for n in window]).map_batches(
                    _Worker,
                    fn_constructor_args=(replace(self, address=None),),
                    batch_size=self.batch,
                    concurrency=workers,
                    **({"num_gpus": 1} if gpus else {"num_cpus": 1}),
                )
                for block in found.iter_batches(batch_size=self.batch):
                    yield _as_given(block, source)
            except CascadeError:
                raise
            except Exception as error:  # the boundary of the cluster: Ray raises many kinds
                log.exception("Ray could not go on.")
                raise BatchFailed(f"The Ray cluster failed. {KEPT}") from error


def _as_given(block: dict[str, Any], source: Source) -> list[Record]:
    """The records under the names that a run on one machine gives; a worker has absolute ones."""
    found = []
    for name, text in zip(block["name"], block["record"], strict=True):
        record = json.loads(text)
        if ENDED in record:
            raise BatchFailed(record[ENDED])
        found.append(record | {"file": source.label(str(name))})
    return found


class _Worker:
    """One scorer, made once in its process; called with blocks of names."""

    def __init__(self, order: RayScorer) -> None:
        from core.engines import choice

        cascade = choice.load(order.settings, convert=True, many=True)
        if cascade.release.sha256 != order.release.sha256:
            raise BatchFailed(f"Release {order.release.id} is not the same on every machine.")
        self._source = source_at(order.source, order.roots)
        self._scorer = Scorer(
            cascade, order.limits, order.batch, threads=2, heatmaps=order.heatmaps
        )

    def __call__(self, block: dict[str, Any]) -> dict[str, Any]:
        names = [str(n) for n in block["name"]]
        found: list[Record]
        try:
            found = [r for b in self._scorer.records(self._source, names, Nothing()) for r in b]
        except CascadeError as error:  # of an error raised here Ray would keep a trace alone
            log.exception("A worker could not go on.")
            found, names = [{ENDED: str(error)}], names[:1]
        texts = [json.dumps(r, ensure_ascii=False) for r in found]
        return {"name": np.array(names, object), "record": np.array(texts, object)}


def _ray(address: str | None) -> Any:
    """Ray, connected; blocks keep their order. Raises BatchFailed where it is not installed."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise BatchFailed("Ray is not installed: pip install -r requirements-ray.txt") from error
    if not ray.is_initialized():
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False)
        except (ConnectionError, OSError, RuntimeError) as error:
            raise BatchFailed(
                f"There is no Ray cluster at {address or 'this computer'}."
            ) from error
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray
