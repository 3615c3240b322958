"""Which networks of ``fit --arch``, and which means of them, are worth a place beside a release.

Cheaper than a candidate of each: their own heads answer the labelled validation radiographs as they
are and disturbed (turned by 5 degrees, stored as JPEG, cut at the border, as left by a photograph),
on the canvas. Shown are the AUROC, its paired difference from the first network's, the body parts
named right, and how far a disturbance moves the answers, in their own standard deviations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from core.transforms import Preprocessing
from training import answering, average, initial, learned, metrics
from training.augment import RandomPhotograph, zoomed
from training.compare import difference
from training.data import PARTS, SIMULATED, DataInvalid, load_canvases, read_all
from training.duplicates import settle_as
from training.phases import BODY_PART
from training.records import record
from training.robustness import jpeg, rotated

STAGE = "network"
Grey = NDArray[np.uint8]
Array = NDArray[np.float64]


def _photographed(canvas: Grey) -> Grey:
    """By a seed of its own content, so that each network sees the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(canvas.astype(np.int64).sum()))
        seen = RandomPhotograph()(torch.from_numpy(canvas)[None].float().div(255))
    return np.asarray(seen[0].mul(255).round().to(torch.uint8))


def _each(disturb: Callable[[Grey], Grey]) -> Callable[[Grey], Grey]:
    return lambda canvases: np.stack([disturb(canvas) for canvas in canvases])


DISTURBANCES: dict[str, Callable[[Grey], Grey]] = {
    "rotated": _each(rotated),
    "JPEG": _each(jpeg),
    "border": zoomed,
    "photograph": _each(_photographed),
}
"""NxSxS canvases -> the same, disturbed."""


def measure(
    names: Sequence[str], data: Sequence[str], split: str = "val", draws: int = 1000
) -> list[dict[str, Any]]:
    """Records of each network: a run, a release, or several joined by "+" for their mean.

    Copies of test pictures choose nothing, see ``duplicates.settle_as``.

    Raises DataInvalid where one is missing, where they saw pictures of different kinds, where a run
    was trained on pictures of the split (as those of ``folds`` were), and where the split has no
    labelled picture of theirs.
    """
    found = {name: average.mean(name.split("+")) for name in names}
    first = next(iter(found.values()))
    for name, one in found.items():
        if (one["size"], one["focus"]) != (first["size"], first["focus"]):
            raise DataInvalid(f"{name} and {names[0]} were shown pictures of different kinds.")
    for name in (one for joined in names for one in joined.split("+")):
        begun = learned.releases_behind(Path(name)) if Path(name).is_dir() else {name}
        for release in map(initial.find, begun):
            if release.in_mode(release.largest_mode).cross_fitted:
                raise DataInvalid(
                    f"Validation taught release {release.id} (cross-fitting): it cannot rank "
                    f"{name}."
                )
    spec = Preprocessing(size=first["size"], focus=bool(first["focus"]))
    runs = [Path(run) for name in names for run in name.split("+")]
    rows = settle_as(read_all(data), runs)
    known = rows.part.isin(PARTS) & rows.positive.notna() & (rows.source != SIMULATED)
    rows = rows[known & (rows.split == split)].reset_index(drop=True)
    if rows.empty:
        raise DataInvalid(f"The split {split} has no labelled radiograph of {', '.join(PARTS)}.")
    for name in names:
        folders = [Path(run) for run in name.split("+") if Path(run).is_dir()]
        if count := max((learned.trained_on(run, rows) for run in folders), default=0):
            raise DataInvalid(f"{count} of these pictures taught {name}: they cannot rank it.")
    rows, canvases = load_canvases(rows, spec)
    views = {"": canvases} | {name: disturb(canvases) for name, disturb in DISTURBANCES.items()}
    records: list[dict[str, Any]] = []
    answers: dict[str, Array] = {}
    for name, one in found.items():
        said = {view: _answers(one, shown, rows, spec) for view, shown in views.items()}
        answers[name] = said[""][0]
        records += _figures(name, rows, said, answers[names[0]], draws)
    return records


def _answers(
    found: dict[str, Any], canvases: Grey, rows: pd.DataFrame, spec: Preprocessing
) -> tuple[Array, Array]:
    """(logit of each picture's own part; whether stage 1 names the part), NaN without a head."""
    said = answering.logits(found, canvases, spec)
    nothing = np.full((len(rows), 1), np.nan)
    logits = np.array([said.get(part, nothing)[k, 0] for k, part in enumerate(rows.part)])
    if BODY_PART not in said:
        return logits, nothing[:, 0]
    best = [found["kinds"][k] for k in said[BODY_PART].argmax(1)]
    return logits, (np.array(best) == rows.part.to_numpy()).astype(float)


def _figures(
    name: str,
    rows: pd.DataFrame,
    said: dict[str, tuple[Array, Array]],
    first: Array,
    draws: int,
) -> Iterator[dict[str, Any]]:
    patients = rows.patient
    for part in (*(p for p in PARTS if (rows.part == p).any()), "all"):
        here = ((rows.part == part) | (part == "all")).to_numpy()
        of, truth = patients[here], rows.positive[here].to_numpy(float)
        logits, right = (values[here] for values in said[""])
        if np.isnan(logits).any():
            continue
        ones = np.ones(len(right))
        if part != "all":
            estimate = metrics.bootstrap(metrics.auroc, truth, logits, of, draws)
            yield record(STAGE, part, name, "auroc", estimate)
            if first is not said[""][0] and not np.isnan(first[here]).any():
                pair = [first[here], logits]
                apart = difference(part, "auroc", metrics.auroc, truth, pair, of, draws)
                estimate = metrics.Estimate(apart.difference, apart.low, apart.high, apart.n)
                yield record(STAGE, part, name, "auroc - first", estimate)
        if not np.isnan(right).any():
            estimate = metrics.bootstrap(metrics.accuracy, ones, right, of, draws)
            yield record(STAGE, part, name, "body part right", estimate)
        for view in DISTURBANCES:
            moved = np.abs(said[view][0][here] - logits) / logits.std()
            estimate = metrics.bootstrap(metrics.mean, np.zeros(len(moved)), moved, of, draws)
            yield record(STAGE, part, name, f"moved, {view}", estimate)
