"""A mean of runs that each held another fold back: what it says of pictures that it learned from.

Of each picture the run speaks that was never told its finding (``training.folds``): one network of
several, but one that learned from as many pictures. The mean of their weights ranks at least as
well, and may answer more timidly than each of them: ``matched`` measures by how much, on
radiographs whose finding none of them was told.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.transforms import Preprocessing
from training import answering, learned, networks, provenance
from training.data import SIMULATED, DataInvalid, load_canvases
from training.duplicates import KEPT, ROWS, UNREAD, read_list

log = logging.getLogger(__name__)

FEWEST, MOST = 20, 60  # radiographs in all, and of a part and source, that scales are from
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

        Raises DataInvalid where they held back partly the same, and where one of them is gone.
        """
        found = provenance.record(run)
        if found is None or found[0] != "average" or len(found[1].get("runs", ())) < 2:
            return None
        runs = tuple(Path(r) for r in found[1]["runs"])
        lists = [run / ROWS for run in runs]
        if gone := [listed.parent for listed in lists if not listed.exists()]:
            if (run / ROWS).exists():  # that of all of them: they held back the same
                return None
            if gone[0].is_dir():
                raise DataInvalid(
                    f"{gone[0]} has no {ROWS}: average the runs of all folds at once."
                )
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

    def refuse_taught(self, rows: pd.DataFrame) -> None:
        """Raise DataInvalid where the finding of a row taught what the run that held it back began
        with. rows: labelled ones, of the parts that are to be calibrated."""
        fold = self._fold(rows)
        for k, run in enumerate(self.runs):
            _refuse_taught(run, rows[fold == k])

    def refuse_trained(self, rows: pd.DataFrame) -> None:
        """Raise DataInvalid where a row, with a label or without, taught the run that held it back.

        A start for all folds may have seen pictures whose findings it was not told; what is to
        calibrate stage 1 it may not have seen at all.
        """
        fold = self._fold(rows)
        for k, run in enumerate(self.runs):
            if count := learned.trained_on(run, rows[fold == k]):
                raise DataInvalid(f"{count} pictures of validation taught what {run} began with.")

    def logits(
        self,
        mean: dict[str, Any],
        rows: pd.DataFrame,
        canvases: NDArray[np.uint8],
        spec: Preprocessing,
        flip: bool = False,
    ) -> dict[str, Array]:
        """By head NxK, of each picture by the run that held it back; NaN where none did.

        mean: what ``networks.trained`` gives of the mean, whose classes K are. flip: as the release
        averages the picture and its mirror image.
        """
        fold, said = self._fold(rows), {}
        for k, run in enumerate(self.runs):
            here = fold == k
            found = networks.of_kinds(networks.trained(run, mean["arch"], spec), mean["kinds"])
            for head, values in answering.logits(found, canvases[here], spec, flip).items():
                if head not in said:
                    said[head] = np.full((len(rows), values.shape[1]), np.nan)
                said[head][here] = values
        return said

    def matched(
        self, mean: dict[str, Any], rows: pd.DataFrame, parts: Sequence[str], spec: Preprocessing
    ) -> dict[str, tuple[float, float]]:
        """By part (scale, shift) that bring the logits of the mean of the runs to those of one.

        Measured on radiographs without a label, so that none of the networks was told what to say
        of them; each part's own shift, and one scale for all, as ``calibrate.platt`` has one
        temperature. 1 and 0 where there are too few. They are not spread as those that will come:
        an approximation, and the figures on test are those that count. Stage 1 is not brought to
        anything.
        """
        unlabelled = rows.part.isin(parts) & rows.positive.isna() & rows.source.ne(SIMULATED)
        seen = rows[unlabelled & rows.split.ne("test")]
        seen = seen.sample(frac=1, random_state=0).groupby(["part", "source"]).head(MOST)
        seen, canvases = load_canvases(seen, spec)
        if len(seen) < FEWEST:
            log.warning(
                "%d radiographs without a label are too few to measure how timid a mean of "
                "networks is: it is read as each of them", len(seen),
            )  # fmt: skip
            return dict.fromkeys(parts, (1.0, 0.0))
        each = [networks.trained(run, mean["arch"], spec) for run in self.runs]
        said, *single = (answering.logits(one, canvases, spec) for one in (mean, *each))
        places = {part: (seen.part == part).to_numpy() for part in parts}
        places = {part: here for part, here in places.items() if here.any()}

        def spread(logits: dict[str, Array]) -> float:
            apart = [logits[p][here, 0] - logits[p][here, 0].mean() for p, here in places.items()]
            return float(np.concatenate(apart).std())

        scale = float(np.mean([spread(one) for one in single]) / spread(said))
        found = dict.fromkeys(parts, (scale, 0.0))
        for part, here in places.items():
            own = np.mean([one[part][here].mean() for one in single])
            found[part] = scale, float(own - scale * said[part][here].mean())
            counts = len(seen), scale, part, found[part][1], int(here.sum())
            log.info("of %d without a label: scale %.3f; %s: shift %.3f, by %d", *counts)
        return found

    def _fold(self, rows: pd.DataFrame) -> NDArray[np.int64]:
        place = {name: k for k, names in enumerate(self.held) for name in names}
        return np.array([place.get(name, -1) for name in _names(rows)], dtype=np.int64)


def _refuse_taught(run: Path, rows: pd.DataFrame) -> None:
    if count := learned.trained_on(run, rows, finding=True):
        raise DataInvalid(
            f"{count} of the pictures that {run} held back had taught a finding to what it began "
            "with."
        )
    _, unlisted = learned.behind(run)
    if unlisted is None:
        log.warning("What %s began with learned from is not all known.", run)
    elif shared := sorted(unlisted & set(rows.source)):
        raise DataInvalid(
            f"{run} began with what learned from pictures of {', '.join(shared)}, and nothing "
            "tells whether from those that it held back."
        )


def _names(rows: pd.DataFrame) -> Sequence[Name]:
    return list(zip(rows.source.astype(str), rows.id.astype(str)))


def _held_back(listed: Path) -> frozenset[Name]:
    """Also what could not be read: lists of earlier versions do not tell it apart."""
    known = read_list(listed)
    held = known.get("kept", pd.Series(KEPT, known.index)).isin((KEPT, UNREAD))
    return frozenset(_names(known[known.split.eq("val") & held]))
