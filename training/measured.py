"""What was measured: the figures of releases and runs, and the rows behind them where they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import WeightsInvalid
from core.manifest import Release
from core.registry import Registry


@dataclass(frozen=True)
class Evaluation:
    """One evaluation. name: for a list. metrics: as ``evaluate`` wrote them. folder: where
    ``scores.csv`` lies. release: whose operating points belong to it, where it is known.
    """

    name: str
    metrics: dict[str, Any]
    folder: Path | None = None
    release: Release | None = None

    @property
    def records(self) -> list[dict[str, Any]]:
        """The figures: stage, part, source, level, metric, value, low, high, n."""
        return list(self.metrics.get("figures", []))

    @property
    def scores_path(self) -> Path | None:
        """``scores.csv``; None where it is not here."""
        path = self.folder / "scores.csv" if self.folder else None
        return path if path is not None and path.exists() else None

    def scores(self) -> pd.DataFrame | None:
        """A row a picture, with what the cascade said of it; None where it is not here."""
        path = self.scores_path
        return None if path is None else read_scores(path)


def read_scores(path: Path) -> pd.DataFrame:
    """``scores.csv`` as ``evaluate`` wrote it."""
    text = {"id": str, "study": str, "patient": str, "finding": str, "view": str}
    return pd.read_csv(path, dtype=text)


def evaluations(registry: Registry | None, runs: Path) -> list[Evaluation]:
    """Of the releases (by their manifest) and of the runs that were evaluated, the newest first.

    The rows of a release are found where its candidate was scored: its checksum tells.
    """
    of_runs = [e for e in map(_read, _folders(runs)) if e is not None]
    rows = {e.metrics.get("release_sha256"): e.folder for e in of_runs if _is_test(e)}
    found = []
    for release in registry.releases.values() if registry else ():
        if release.metrics.get("figures"):
            folder = rows.get(release.sha256)
            found.append(Evaluation(f"Release {release.id}", release.metrics, folder, release))
    return [*reversed(found), *of_runs]


def _is_test(evaluation: Evaluation) -> bool:
    return evaluation.metrics.get("split") == "test"


def _folders(runs: Path) -> list[Path]:
    if not runs.is_dir():
        return []
    return [p.parent for p in sorted(runs.glob("*/*/metrics.json"), reverse=True)]


def _read(folder: Path) -> Evaluation | None:
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        figures = metrics["figures"]
        heat = folder / "heatmaps.json"
        if heat.exists():
            figures += json.loads(heat.read_text(encoding="utf-8"))["figures"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    name = f"Run {folder.parent.name}, {metrics.get('split', folder.name)}"
    return Evaluation(name, metrics, folder, _candidate(folder.parent, metrics))


def _candidate(run: Path, metrics: dict[str, Any]) -> Release | None:
    """The run's candidate, if it is the one that was measured."""
    try:
        releases = Registry.open(run / "candidate").releases.values()
    except WeightsInvalid:
        return None
    return next((r for r in releases if r.sha256 == metrics.get("release_sha256")), None)
