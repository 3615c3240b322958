"""The data sets that the page Training offers, and what is in them before a run starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from core import files, roots
from core.errors import PathRefused
from core.settings import Settings
from training import phases
from training.data import SIMULATED, DataInvalid, gather, split_hash, studies
from training.sources import READERS, SPLITS

KINDS = tuple(READERS)
OWN = "datasets"  # the folder in BONE_HOME of the lists that the program makes itself


def allowed(settings: Settings) -> tuple[Path, ...]:
    """The folders that a run of the page may read lists and pictures from."""
    return (*settings.roots, settings.home / OWN, settings.home / "images")


@dataclass(frozen=True)
class DataSet:
    """A registered data set; specification as ``training.data.read_all`` takes it."""

    name: str
    specification: str


class DataSets:
    """The registered data sets of one BONE_HOME (``datasets.json``)."""

    def __init__(self, home: Path, allowed: Sequence[Path]) -> None:
        """allowed: the folders that may be read (``Settings.roots``)."""
        self._path, self._allowed = home / "datasets.json", tuple(allowed)
        self._own = home / OWN

    def all(self) -> list[DataSet]:
        """Those that are registered and still lie in an allowed folder."""
        return [d for d in self.registered() if self._may_be_read(d)]

    def registered(self) -> list[DataSet]:
        """All of them, also those that may not be read any more, or are away."""
        try:
            found = [DataSet(**d) for d in json.loads(self._path.read_text(encoding="utf-8"))]
        except FileNotFoundError:
            return []
        return found

    def _may_be_read(self, found: DataSet) -> bool:
        where = found.specification.partition(":")[2]
        try:
            roots.resolve(where, (*self._allowed, self._own))
        except PathRefused:
            return False
        return True

    def add(self, name: str, kind: str, path: str) -> DataSet:
        """Register a folder or list; raises PathRefused or DataInvalid with one sentence."""
        name = name.strip()
        known = self.registered()
        if not name or any(d.name == name for d in known):
            raise DataInvalid("Please give the data set a name that is not in use.")
        found = DataSet(name, f"{kind}:{roots.resolve(path.strip(), self._allowed)}")
        rows = read([found])
        if rows.empty:
            raise DataInvalid(f"No picture was found in {path} for a data set of the kind {kind}.")
        self._write([*known, found])
        return found

    def keep(self, name: str, manifest: str) -> DataSet:
        """Register a list that the program made itself; the same name replaces the last one, whose
        file stays, as runs were made of it.

        manifest: the text of a manifest.csv whose column ``file`` says where the pictures lie.
        """
        digest = hashlib.sha256(manifest.encode()).hexdigest()
        path = self._own / f"{name}-{digest[:12]}.csv"
        found = DataSet(name, f"manifest:{path.absolute()}")
        files.write_atomically(path, lambda p: p.write_text(manifest, encoding="utf-8"))
        self._write([*(d for d in self.registered() if d.name != name), found])
        return found

    def remove(self, name: str) -> None:
        """Forget it; nothing of the data is touched."""
        self._write([d for d in self.registered() if d.name != name])

    def _write(self, sets: Sequence[DataSet]) -> None:
        files.write_json(self._path, [asdict(d) for d in sets])


def read(sets: Sequence[DataSet]) -> pd.DataFrame:
    """The rows of all of them, leaks and all; raises DataInvalid with one sentence."""
    try:
        return gather([d.specification for d in sets])
    except OSError as error:
        raise DataInvalid(f"The data set cannot be read: {error}.") from error


@dataclass(frozen=True)
class Overview:
    """What a run would be made of.

    sources: pictures by source and split, patients, studies. labels: pictures by part, source and
    label. crossing: patients who are in more than one split. complete: by split the parts that
    have positives and negatives. known: by split all its parts.
    """

    pictures: int
    patients: int
    split_sha256: str
    sources: pd.DataFrame
    labels: pd.DataFrame
    crossing: int
    complete: dict[str, tuple[str, ...]]
    known: dict[str, tuple[str, ...]]

    def problems(self, only: str = "") -> list[str]:
        """A sentence for each thing that a run would refuse; only: as in ``training.fit``."""
        found = []
        if self.crossing:
            found.append(f"{self.crossing} patients have pictures in more than one split.")
        for split, complete in self.complete.items():
            if missing := [p for p in phases.needed(only) if p not in complete]:
                names = ", ".join(missing)
                found.append(f"The split {split} lacks positives or negatives of: {names}.")
        for split, parts in self.known.items():
            if only == phases.BODY_PART and not {*parts} & {*phases.PARTS}:
                names = ", ".join(phases.PARTS)
                found.append(f"The split {split} has no radiograph of: {names}.")
        return found


def overview(sets: Sequence[DataSet]) -> Overview:
    """Counts, split and leaks, from lists and names alone: no picture is opened."""
    rows = read(sets)
    by_source = rows.groupby("source")
    sources = pd.crosstab(rows.source, rows.split).reindex(columns=list(SPLITS), fill_value=0)
    sources["patients"] = by_source.patient.nunique()
    sources["studies"] = studies(rows)
    words = rows.positive.map({1.0: "positive", 0.0: "negative"}).fillna("no label")
    real = rows[rows.source != SIMULATED]
    counted = {"train": rows[rows.split == "train"], "val": real[real.split == "val"]}
    keys = [rows.part, rows.source, words.rename("label")]
    labels = pd.crosstab(keys, rows.split).reindex(columns=list(SPLITS), fill_value=0)
    return Overview(
        len(rows),
        rows.patient.nunique(),
        split_hash(rows),
        sources.reset_index(),
        labels.reset_index(),
        int((rows.groupby("patient").split.nunique() > 1).sum()),
        {split: _complete(here) for split, here in counted.items()},
        {split: tuple(map(str, here.part.unique())) for split, here in counted.items()},
    )


def _complete(rows: pd.DataFrame) -> tuple[str, ...]:
    kinds = rows[rows.positive.notna()].groupby("part").positive.nunique()
    return tuple(str(p) for p in kinds.index[kinds == 2])
