"""A mean of runs that each held another fold back: what it says of pictures that it learned from.

Of each picture the run that never saw it speaks (``training.folds``): one network of several, but
one that learned from as many pictures, so what is read from its answers holds for the mean, which
is if anything a little better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.transforms import Preprocessing
from training import answering, networks, provenance
from training.data import DataInvalid
from training.duplicates import ROWS, read_list

CROSS_FITTED = "cross_fitted"
"""In a release's ``training_data``: validation taught it, too, see ``learned.tell``."""
Array = NDArray[np.float64]
Name = tuple[str, str]


@dataclass(frozen=True)
class CrossFitted:
    """Runs with the pictures, by source and id, that each held back; no two the same one."""

    runs: tuple[Path, ...]
    held: tuple[frozenset[Name], ...]

    @classmethod
    def of(cls, run: Path) -> Self | None:
        """The runs behind the folder of a mean; None where it is none, or they held back the same.

        Raises DataInvalid where they hold back partly the same, or one of them is gone.
        """
        found = provenance.record(run)
        if found is None or found[0] != "average" or len(found[1].get("runs", ())) < 2:
            return None
        runs = tuple(Path(r) for r in found[1]["runs"])
        lists = [run / ROWS for run in runs]
        if gone := [listed.parent for listed in lists if not listed.exists()]:
            if (run / ROWS).exists():  # that of all of them: they held back the same
                return None
            raise DataInvalid(f"{gone[0]}, which {run} is a mean of, is gone.")
        held = tuple(_held_back(listed) for listed in lists)
        if len(set(held)) == 1:
            return None
        if found[1].get("releases") or any(a & b for a, b in combinations(held, 2)):
            raise DataInvalid(
                f"The networks behind {run} held back neither the same pictures nor others each."
            )
        return cls(runs, held)

    def knows(self, rows: pd.DataFrame) -> NDArray[np.bool_]:
        """Which of N rows a run held back."""
        return self._fold(rows) >= 0

    def logits(
        self, arch: str, rows: pd.DataFrame, canvases: NDArray[np.uint8], spec: Preprocessing
    ) -> dict[str, Array]:
        """By head NxK, of each picture by the run that held it back; NaN where none did."""
        fold, said = self._fold(rows), {}
        for k, run in enumerate(self.runs):
            here = fold == k
            found = networks.trained(run, arch, spec)
            for head, values in answering.logits(found, canvases[here], spec).items():
                if head not in said:
                    said[head] = np.full((len(rows), values.shape[1]), np.nan)
                said[head][here] = values
        return said

    def _fold(self, rows: pd.DataFrame) -> NDArray[np.int64]:
        place = {name: k for k, names in enumerate(self.held) for name in names}
        return np.array([place.get(name, -1) for name in _names(rows)], dtype=np.int64)


def _names(rows: pd.DataFrame) -> Sequence[Name]:
    return list(zip(rows.source.astype(str), rows.id.astype(str)))


def _held_back(listed: Path) -> frozenset[Name]:
    known = read_list(listed)
    kept = known.get("kept", pd.Series("yes", known.index)).eq("yes")
    return frozenset(_names(known[known.split.eq("val") & kept]))
