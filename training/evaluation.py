"""An evaluation of a release on one split: what ``python -m training evaluate``, a run of the page
*Training* and ``notebooks/evaluate.ipynb`` do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from core import files
from core.cascade import Cascade
from core.manifest import Release
from core.settings import CHAMPION
from core.types import Mode
from training import duplicates, ensemble, figures, learned, memoriser, records, report, scoring
from training.data import DataInvalid, read_all
from training.measured import SCORES
from training.records import Figure


@dataclass(frozen=True)
class Settings:
    """What is scored, and on what.

    data: data sets as ``training.data.read_all`` takes them. weights: folder of manifest.json.
    mode: as the release is used; None as it says. draws: of the bootstrap over patients. copies:
    also give the figures without pictures that have a copy in the training split. baseline: the
    yardstick that is measured beside it, None for none. out: folder for ``metrics.json``,
    ``scores.csv`` and ``report.html``, None for none.
    """

    data: tuple[str, ...]
    weights: Path
    release: str = CHAMPION
    split: str = "val"
    device: str = "auto"
    mode: Mode | None = None
    draws: int = 1000
    copies: bool = False
    baseline: str | None = None
    out: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """What came of it. scored: a row a picture (``scoring.predict``), with what the memoriser
    recalls. records: the figures. about: what was measured, on what, with what; of stage 1 also the
    confusion."""

    release: Release
    scored: pd.DataFrame
    records: list[Figure]
    about: dict[str, Any]

    def write(self, out: Path) -> list[str]:
        """``metrics.json``, ``scores.csv`` and ``report.html`` in the folder ``out``; returns the
        paths of the first and the last."""
        rows = self.scored.drop(columns="path")
        # Whoever finds figures takes the scores for the rows behind them: so none of an evaluation
        # before stand beside these, and the new ones come after.
        (out / "metrics.json").unlink(missing_ok=True)
        files.write_atomically(out / SCORES, lambda p: rows.to_csv(p, index=False))
        written = records.write(self.records, out, self.about)
        page = report.write(out, self.scored, self.records, self.about, self.release)
        return [str(path) for path in (written, page)]


def run(settings: Settings, tell: Callable[[str], object] = lambda _: None) -> Evaluation:
    """Score the split and write what ``out`` asks for.

    tell: is called with what there is to say (tables, paths) as soon as it is known. Raises
    DataInvalid for what is no data, and where no picture of the split can be read, and
    WeightsInvalid where the release is not there.
    """
    rows = read_all(settings.data)
    if settings.copies:
        rows["seen"] = duplicates.seen_in_training(rows)
    found = _measured(settings, rows)
    tell(records.table(found.records))
    if settings.out:
        for path in found.write(settings.out):
            tell(path)
    if settings.baseline:  # after what is there already: it may not come to its end
        from training import baseline

        beside = baseline.figures(rows, settings.split, settings.draws)
        tell(records.table(beside))
        found = replace(found, records=[*found.records, *beside])
        if settings.out:
            found.write(settings.out)
    return found


def _measured(settings: Settings, rows: pd.DataFrame) -> Evaluation:
    """The cascade's figures; rows: the whole data, all splits."""
    split, draws = settings.split, settings.draws
    cascade = Cascade.load(settings.weights, settings.release, settings.device)
    cascade = cascade.in_mode(settings.mode)
    held = rows[rows.split == split]
    release = cascade.release
    told = learned.tell(settings.weights, held, split, release.training_data, release.cross_fitted)
    scored = scoring.predict(cascade, held)
    if scored.empty:
        raise DataInvalid(f"The split {split} has no picture that can be read.")
    scored["recalled"] = memoriser.recall(scored, rows[rows.split == "train"])
    found = figures.figures(scored, cascade, draws)
    found += ensemble.figures(scored, cascade, draws)
    about = records.about(cascade, rows, split, draws) | told
    about["confusion"] = figures.confusion(scored)
    return Evaluation(cascade.release, scored, found, about)
