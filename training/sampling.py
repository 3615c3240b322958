"""Which pictures a step sees: balanced over what must not be learned as a short cut."""

from __future__ import annotations

import numpy as np
import pandas as pd

from core.types import STRANGER
from training.data import AMBIGUOUS, PARTS, SIMULATED, stage1_class
from training.phases import OTHER


class Cells:
    """Groups of rows that are drawn with a weight of n**power: 1 is as found, 0 is balanced."""

    def __init__(self, rows: pd.DataFrame, columns: list[str], power: float) -> None:
        groups = rows.groupby(columns).indices
        self.members = [rows.index.to_numpy()[i] for i in groups.values()]
        weight = np.array([len(m) for m in self.members], float) ** power
        self.weight = weight / weight.sum()

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        chosen = rng.choice(len(self.members), n, p=self.weight)
        return np.array([rng.choice(self.members[c]) for c in chosen], dtype=np.int64)


class JointSampler:
    """Half from the labelled pictures of the three parts, half from all, both balanced; where none
    of the three is labelled, the first half from those of the others.

    Balancing over source within part and label keeps "looks like MURA" from meaning "positive".
    simulated: half is simulated instead, where there is any: the only fractures whose every pixel
    is known, and a small thing to learn from many pictures.
    """

    def __init__(self, rows: pd.DataFrame, simulated: bool = False) -> None:
        labelled = rows[rows.positive.notna()]
        drawn = labelled[(labelled.source == SIMULATED) & labelled.part.isin(PARTS)]
        wanted = simulated and len(drawn) > 0
        self.simulated = Cells(drawn, ["part", "positive"], 0.5) if wanted else None
        if wanted:
            rows = rows[rows.source != SIMULATED]
            labelled = labelled[labelled.source != SIMULATED]
        focus = labelled[labelled.part.isin(PARTS)]
        self.focus = Cells(focus if len(focus) else labelled, ["part", "positive", "source"], 0.5)
        self.every = Cells(
            rows.assign(label=rows.positive.fillna(-1)), ["part", "source", "label"], 0.5
        )

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        drawn = n // 2 if self.simulated else 0
        half = (n - drawn) // 2
        draws = [self.focus.draw(half, rng), self.every.draw(n - drawn - half, rng)]
        if self.simulated:
            draws.append(self.simulated.draw(drawn, rng))
        return np.concatenate(draws)


class BodyPartSampler:
    """Half from what is no part of the cascade, as it is diverse; half from its parts alike.

    A third of the former are strangers, where there are any: one kind of fifteen by name, they are
    the most diverse of all. Within a class by part and source, the large ones damped.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        rows = rows[~rows.part.isin(AMBIGUOUS)]
        kinds = rows.part.map(stage1_class).mask(rows.part == STRANGER, STRANGER)
        found = sorted(set(kinds))
        self.classes = [Cells(rows[kinds == k], ["part", "source"], 0.5) for k in found]
        others = len(PARTS) - (STRANGER in found)
        share = {OTHER: others} | dict.fromkeys((*PARTS, STRANGER), 1)
        weight = np.array([share[k] for k in found])
        self.weight = weight / weight.sum()

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        counts = rng.multinomial(n, self.weight)
        return np.concatenate([c.draw(int(k), rng) for c, k in zip(self.classes, counts)])


class FractureSampler:
    """The labelled pictures of one part, balanced over label and source."""

    def __init__(self, rows: pd.DataFrame, part: str) -> None:
        labelled = rows[(rows.part == part) & rows.positive.notna()]
        self.cells = Cells(labelled, ["positive", "source"], 0.5)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.cells.draw(n, rng)
