"""What was measured: the figures of releases and runs, and the rows behind them where they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core import files
from core.errors import CascadeError, WeightsInvalid
from core.manifest import Release
from core.registry import Registry
from training import candidate_folder

SCORES = "scores.csv"
COMPANIONS = ("heatmaps.json", "robustness.json", "strangers.json", "photographs.json")
"""What the commands so named write beside ``metrics.json``."""
SHIPPED = (
    "source", "id", "study", "patient", "part", "positive", "said", "sureness", "side", "truth",
    "looks_like", "probability", "finding", "shown", "recalled",
)  # fmt: skip
"""The columns of ``scores.csv`` that go out with a release, as far as there are any."""
CODED = "#"


class FiguresInvalid(CascadeError):
    """The figures of a candidate are missing, damaged or of something else."""


@dataclass(frozen=True)
class Measured:
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


def caution(metrics: Mapping[str, Any]) -> str:
    """What a reader of figures must know of them, a sentence; empty where there is nothing."""
    if count := metrics.get("learned"):
        return f"The release was trained on {count} of these pictures: these are not test figures."
    if count := metrics.get("chosen"):
        return f"The release was chosen on {count} of these pictures: these are not test figures."
    if sources := metrics.get("untold"):
        return (
            "These figures may be too good: the release was trained on pictures from the same "
            f"sources ({', '.join(sources)}), and it is not recorded whether any of these were "
            "among them."
        )
    return ""


def of_candidate(run: Path, release: Release) -> dict[str, Any]:
    """The figures of ``run/test`` and what other commands wrote beside them (COMPANIONS).

    Raises FiguresInvalid where they are missing, damaged or none, or of another release or mode
    than the run's candidate, or of another split: of its name, or with pictures that the run, or
    one that it began with, has learned from.
    The hash of the split does not tell, as what is evaluated need not be all that was trained on.
    """
    from training import learned  # which brings what compares pictures

    path = run / "test" / "metrics.json"
    if not path.exists():
        raise FiguresInvalid(f"{path} is missing: evaluate the candidate on the test split first.")
    measured = _of_test(path, release)
    if not measured["figures"]:
        raise FiguresInvalid(f"{path} holds no figures.")
    scores = path.with_name(SCORES)
    if scores.exists():
        try:
            rows = read_scores(scores)
        except ValueError as error:
            raise FiguresInvalid(f"{scores} is damaged.") from error
        if count := learned.taught(run, rows):
            raise FiguresInvalid(
                f"{path} holds figures of {count} pictures that the run has learned from."
            )
    for other in (path.with_name(name) for name in COMPANIONS):
        if other.exists():
            measured["figures"] += _of_test(other, release, told=False)["figures"]
    return measured


def _of_test(path: Path, release: Release, told: bool = True) -> dict[str, Any]:
    """What a command wrote; told: it has to name its split, as what belongs to none does not."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        split = found["split"] if told else found.get("split", "test")
        whose = str(found["release_sha256"])
        found["figures"] = [*found["figures"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FiguresInvalid(f"{path} is damaged.") from error
    if split != "test" or (other := release.with_digest(whose)) is None:
        raise FiguresInvalid(f"{path} holds figures of another release or split.")
    if other.mode != release.mode:
        raise FiguresInvalid(
            f"{path} holds figures of the mode {other.mode}; a release takes those of its own: "
            f"measure again with --mode {release.mode}."
        )
    if whose != release.sha256:
        raise FiguresInvalid(f"{path} holds figures of the release without an optional part.")
    return found


def ship(run: Path, folder: Path) -> None:
    """Write the rows behind the figures of ``run/test`` to the folder of its release.

    Curves and thresholds are drawn from them wherever the release is used. They hold no picture
    and no name (``coded``).
    """
    path = run / "test" / SCORES
    if not path.exists():
        return
    rows = coded(read_scores(path))
    kept = rows[[c for c in SHIPPED if c in rows]]
    files.write_atomically(folder / SCORES, lambda p: kept.to_csv(p, index=False))


def coded(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows with pictures named by ``code``, patients and studies by numbers within these rows.

    The numbers say which rows belong together, and nothing else: whoever tries all numbers that a
    patient may have finds none of them again.
    """
    ids = [n if pd.isna(n) else code(str(s), str(n)) for s, n in zip(scores.source, scores.id)]
    found = {c: numbered(scores[c]) for c in ("study", "patient") if c in scores}
    return scores.assign(id=ids, **found)


def numbered(names: pd.Series) -> pd.Series:
    """1 to N in the place of N names, as text, in an order that only all of them together tell; a
    name that is missing stays missing."""
    known = sorted(set(names.dropna().astype(str)))
    seed = int(hashlib.sha256("\n".join(known).encode()).hexdigest()[:16], 16)
    order = np.random.default_rng(seed).permutation(len(known)) + 1
    return names.map(dict(zip(known, map(str, order))), na_action="ignore")


def code(source: str, name: str) -> str:
    """A picture's name for those who have the data set; one that is coded stays as it is.

    It is no secret: who guesses a name can see whether it is that one.
    """
    if name.startswith(CODED):
        return name
    return CODED + hashlib.sha256(f"{source}\n{name}".encode()).hexdigest()[:16]


def evaluations(registry: Registry | None, runs: Path) -> list[Measured]:
    """Of the releases (by their manifest) and of the runs that were evaluated, the newest first.

    The rows of a release are found where its candidate was scored on the same pictures (the
    checksums of release and split tell), else where they came with it.
    """
    of_runs = [e for e in map(_read, _folders(runs)) if e is not None]
    rows = {_whose(e.metrics): e.folder for e in of_runs}
    found = []
    if registry is not None:
        for release in registry.releases.values():
            if release.metrics.get("figures"):
                measured = {**release.metrics, "release_sha256": release.sha256}
                folder = rows.get(_whose(measured)) or registry.folder / release.id
                found.append(Measured(f"Release {release.id}", release.metrics, folder, release))
    return [*reversed(found), *of_runs]


def _whose(metrics: dict[str, Any]) -> tuple[object, ...]:
    """What figures and rows must share to belong together: release, split, and its pictures."""
    return tuple(metrics.get(k) for k in ("release_sha256", "split", "split_sha256"))


def _folders(runs: Path) -> list[Path]:
    if not runs.is_dir():
        return []
    return [p.parent for p in sorted(runs.glob("*/*/metrics.json"), reverse=True)]


def _read(folder: Path) -> Measured | None:
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        figures = metrics["figures"]
        heat = folder / "heatmaps.json"
        beside = json.loads(heat.read_text(encoding="utf-8")) if heat.exists() else {}
        same = beside.get("split", metrics.get("split")) == metrics.get("split")
        if same and beside.get("release_sha256") == metrics.get("release_sha256"):
            figures += beside.get("figures", [])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    split = metrics.get("split", folder.name)
    where = f" ({folder.name})" if folder.name != split else ""  # two of one split are two
    name = f"Run {folder.parent.name}, {split}{where}"
    return Measured(name, metrics, folder, _candidate(folder.parent, metrics))


def _candidate(run: Path, metrics: dict[str, Any]) -> Release | None:
    """The run's candidate, if it is the one that was measured."""
    try:
        releases = Registry.open(candidate_folder.of(run)).releases.values()
    except WeightsInvalid:
        return None
    return next((r for r in releases if r.sha256 == metrics.get("release_sha256")), None)
