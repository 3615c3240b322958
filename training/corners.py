"""Which of its quadrilaterals is the film: the weights of ``core.quadrilaterals``, learned.

Radiographs of the training split are photographed in the computer, and of each photograph all
quadrilaterals that may be the film are measured. The weights are those of a conditional logistic
regression (McFadden 1974): the probability that a quadrilateral is the film is the softmax of its
weighted figures, and those count as the film that lie nearly where it is. What is chosen by them
is counted on the validation split, beside what is chosen by the weights in use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize

from core import corners, imaging, quadrilaterals
from core.quadrilaterals import WEIGHTS, Points
from core.settings import ImageLimits
from training import robustness
from training.camera import Carrier, Photograph, photograph
from training.data import PARTS, radiographs

Array = NDArray[np.float64]

NEAR, FURTHEST = 0.015, 0.06  # of the mean side: how fast a quadrilateral counts less, and to where
RIGHT = 0.05  # counted as right: the fit to the edges does the rest
RIDGE = 1e-3
VALIDATION = 150  # radiographs


@dataclass(frozen=True)
class Seen:
    """A photograph: figures of its N quadrilaterals (NxK), and how far each lies from the film, in
    mean sides of it (N)."""

    carrier: str
    figures: Array
    away: Array


def learn(rows: pd.DataFrame, count: int, seed: int) -> str:
    """The weights that ``count`` training radiographs teach, and how often they choose right."""
    weights = fitted(photographed(rows, "train", count, seed))
    held_out = photographed(rows, "val", VALIDATION, 0)
    lines = [f"{name:42s} {w:6.2f}  {WEIGHTS[name]:6.2f}" for name, w in zip(WEIGHTS, weights)]
    used = np.array(list(WEIGHTS.values()))
    for carrier in Carrier:
        here = [one for one in held_out if one.carrier == carrier]
        lines.append(
            f"validation, right on the {carrier}: {right(here, weights):.3f}, by those in use "
            f"{right(here, used):.3f} (n={len(here)})"
        )
    return "\n".join([f"{'weight of':42s}  found  in use", *lines])


def photographed(rows: pd.DataFrame, split: str, count: int, seed: int) -> list[Seen]:
    """Two photographs each of ``count`` radiographs, on either carrier, where any quadrilateral
    lies in them."""
    found = []
    chosen = robustness.chosen(rows, PARTS, split, count)
    for number, (_, read) in enumerate(radiographs(chosen)):
        for carrier in Carrier:
            grey = robustness.as_8_bit(read)
            one = _seen(photograph(grey, carrier, 2 * number + seed * 1_000_003))
            found += [one] if one else []
    return found


def _seen(taken: Photograph) -> Seen | None:
    grey = robustness.as_8_bit(imaging.decode(taken.data, "", ImageLimits()))
    across, down, smooth, scale = corners.lines(grey)
    found = quadrilaterals.figures(across, down, smooth)
    if found is None:
        return None
    quads, figures = found
    away = _away(quads / scale, taken.corners)
    return Seen(taken.carrier, np.stack([figures[name] for name in WEIGHTS], 1), away)


def _away(quads: Points, film: Points) -> Array:
    """How far the worst corner of each of Nx4x2 lies from the film's (4x2), in its mean sides."""
    side = np.linalg.norm(np.roll(film, -1, 0) - film, axis=1).mean()
    return np.asarray(np.linalg.norm(quads - film, axis=2).max(1) / side)


def fitted(photographs: list[Seen]) -> Array:
    """Weights of the figures (K), that of the first one 1."""
    known = [p for p in photographs if p.away.min() < FURTHEST]
    every = np.concatenate([p.figures for p in known])
    spread = every.std(0) + 1e-6
    scaled = [(p.figures - every.mean(0)) / spread for p in known]
    film = [np.where(p.away < FURTHEST, np.exp(-p.away / NEAR), 0.0) for p in known]
    film = [values / values.max() for values in film]

    def loss(weights: Array) -> tuple[float, Array]:
        value, slope = RIDGE * float(weights @ weights), 2 * RIDGE * weights
        for x, share in zip(scaled, film, strict=True):
            z = x @ weights
            chosen = np.exp(z - z.max())
            chosen /= chosen.sum()
            right = chosen * share
            value -= float(np.log(right.sum() + 1e-12)) / len(scaled)
            slope -= x.T @ (right / (right.sum() + 1e-12) - chosen) / len(scaled)
        return value, slope

    start = np.zeros(every.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B").x / spread
    return np.asarray(found / found[0])


def right(photographs: list[Seen], weights: Array) -> float:
    """The share of photographs of which the right quadrilateral is chosen."""
    chosen = [p.away[int((p.figures @ weights).argmax())] for p in photographs]
    return float(np.mean(np.array(chosen) <= RIGHT)) if chosen else float("nan")
