"""What was measured: the figures of releases and runs, and the rows behind them where they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from core import files
from core.errors import WeightsInvalid
from core.manifest import Release
from core.registry import Registry

SCORES = "scores.csv"
COMPANIONS = ("heatmaps.json", "robustness.json", "strangers.json", "photographs.json")
"""What the commands so named write beside ``metrics.json``."""
SHIPPED = (
    "source", "id", "study", "patient", "part", "positive", "said", "truth", "looks_like",
    "probability", "finding", "recalled",
)  # fmt: skip
"""The columns of ``scores.csv`` that go out with a release, as far as there are any."""
CODED = "#"


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
        path = self.folder / SCORES if self.folder else None
        return path if path is not None and path.exists() else None

    def scores(self) -> pd.DataFrame | None:
        """A row a picture, with what the cascade said of it; None where it is not here."""
        path = self.scores_path
        return None if path is None else read_scores(path)


def read_scores(path: Path) -> pd.DataFrame:
    """``scores.csv`` as ``evaluate`` wrote it, or as it came with a release."""
    text = {"id": str, "study": str, "patient": str, "finding": str, "view": str}
    return pd.read_csv(path, dtype=text)


def of_candidate(run: Path, release: Release) -> dict[str, Any]:
    """The figures of ``run/test`` and what other commands wrote beside them (COMPANIONS).

    Raises ValueError where they are missing or damaged, or of another release than the run's
    candidate, or of another split: of its name, or with pictures that the run has learned from.
    The hash of the split does not tell, as what is evaluated need not be all that was trained on.
    """
    from training import duplicates  # which brings what compares pictures

    path = run / "test" / "metrics.json"
    if not path.exists():
        raise ValueError(f"{path} is missing: evaluate the candidate on the test split first.")
    measured: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if measured["release_sha256"] != release.sha256 or measured["split"] != "test":
        raise ValueError(f"{path} holds figures of another release or split.")
    scores = path.with_name(SCORES)
    if scores.exists() and (count := duplicates.taught(run / duplicates.ROWS, read_scores(scores))):
        raise ValueError(f"{path} holds figures of {count} pictures that the run has learned from.")
    for other in (path.with_name(name) for name in COMPANIONS):
        if not other.exists():
            continue
        beside = json.loads(other.read_text(encoding="utf-8"))
        if beside["release_sha256"] != release.sha256:
            raise ValueError(f"{other} holds figures of another release.")
        measured["figures"] += beside["figures"]
    return measured


def ship(run: Path, folder: Path) -> None:
    """Write the rows behind the figures of ``run/test`` to the folder of its release.

    Curves and thresholds are drawn from them wherever the release is used. They hold no picture,
    and no name of one: who has the data set finds its pictures again by ``code``, nobody else.
    """
    path = run / "test" / SCORES
    if not path.exists():
        return
    rows = coded(read_scores(path))
    kept = rows[[c for c in SHIPPED if c in rows]]
    files.write_atomically(folder / SCORES, lambda p: kept.to_csv(p, index=False))


def coded(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows with pictures, studies and patients named by ``code``; those that are stay so."""
    named = {
        c: [*codes(scores.source, scores[c])] for c in ("id", "study", "patient") if c in scores
    }
    return scores.assign(**named)


def codes(sources: Iterable[object], names: Iterable[object]) -> Iterable[object]:
    """``code`` of each; a name that is missing stays missing."""
    return (n if pd.isna(n) else code(str(s), str(n)) for s, n in zip(sources, names))


def code(source: str, name: str) -> str:
    """A name that only who knows the data set can tell; one that is coded stays as it is."""
    if name.startswith(CODED):
        return name
    return CODED + hashlib.sha256(f"{source}\n{name}".encode()).hexdigest()[:16]


def evaluations(registry: Registry | None, runs: Path) -> list[Evaluation]:
    """Of the releases (by their manifest) and of the runs that were evaluated, the newest first.

    The rows of a release are found where its candidate was scored (its checksum tells), else where
    they came with it.
    """
    of_runs = [e for e in map(_read, _folders(runs)) if e is not None]
    rows = {e.metrics.get("release_sha256"): e.folder for e in of_runs if _is_test(e)}
    found = []
    if registry is not None:
        for release in registry.releases.values():
            if release.metrics.get("figures"):
                folder = rows.get(release.sha256) or registry.folder / release.id
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
