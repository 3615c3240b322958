"""Make a release's networks in int8 for this computer, and see whether that loses anything.

Ranges are measured on pictures of the training split, losses on those of validation: AUROC of every
part, body part and finding of every picture, and the rank correlation of the heatmaps, against the
networks that int8 was made from, in each mode of the release. The outcome is written beside the
networks, see ``core.engines.int8``; where it loses something in one mode, the engine stays what it
was in all of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from core.cascade import Cascade
from core.engines import choice, int8, vino
from core.types import Assessment, BodyPart
from training import metrics
from training.data import SIMULATED, DataInvalid, load_canvases, split_hash
from training.duplicates import settle

log = logging.getLogger(__name__)

BATCH = 64


def run(cascade: Cascade, rows: pd.DataFrame, home: Path, calibration: int, seed: int) -> str:
    """Quantise, check and record; one sentence that says what came of it.

    rows: of all splits. calibration: pictures of the training split that ranges are measured on.
    Raises EngineUnavailable without OpenVINO or NNCF, and DataInvalid without such pictures.
    """
    spec = cascade.release.preprocessing
    kept = settle(rows)  # copies of test pictures decide nothing, nor do simulated ones
    training = kept[kept.split == "train"]
    held = kept[(kept.split == "val") & (kept.source != SIMULATED)]
    if training.empty or held.empty:
        raise DataInvalid("There are no pictures of both training and validation in this data.")
    drawn = training.sample(min(calibration, len(training)), random_state=seed)
    source = choice.converted(cascade, home, convert=True)
    folder = vino.folder_of(home, cascade.release.sha256, "int8")
    with vino.alone(folder):  # an outcome is of the networks beside it, not of another run's
        log.info("measuring ranges on %d pictures", len(drawn))
        int8.quantise(source, folder, load_canvases(drawn, spec)[1], cascade.release)
        held, canvases = load_canvases(held, spec)
        before, after = (
            cascade.with_engine(vino.OpenVinoEngine(f, spec, many=True)) for f in (source, folder)
        )
        data = f"validation, split {split_hash(rows)[:12]}"
        checks = [
            measure(before.in_mode(mode), after.in_mode(mode), held, canvases, data)
            for mode in cascade.release.modes
        ]
        int8.record(folder, checks)
    said, objections = " ".join(map(str, checks)), [o for c in checks for o in c.objections]
    if objections:
        return f"refused, because {' and '.join(objections)}. {said}"
    return f"accepted. {said}"


def measure(
    before: Cascade, after: Cascade, rows: pd.DataFrame, canvases: NDArray[np.uint8], data: str
) -> int8.Check:
    """Two cascades of one release, in one mode, on the same pictures.

    canvases: one a row, NxSxS uint8.
    """
    one, other, faster = _side_by_side(before, after, canvases)
    pairs = [p for p in zip(one, other, strict=True) if p[0].fracture or p[1].fracture]
    equal = [_said(a) == _said(b) for a, b in pairs]
    maps = [
        float(spearmanr(a.heatmap.values.ravel(), b.heatmap.values.ravel()).statistic)
        for a, b in pairs
        if a.heatmap is not None
        and b.heatmap is not None
        and _said(a)[0] == _said(b)[0]
        and np.ptp(a.heatmap.values) > 0
        and np.ptp(b.heatmap.values) > 0
    ]
    return int8.Check(
        mode=before.release.mode,
        processor=int8.processor(),
        data=data,
        pictures=len(canvases),
        assessed=len(pairs),
        findings=float(np.mean(equal)) if equal else 0.0,
        auroc=_auroc(before, after, rows, canvases),
        heatmaps=float(np.median(maps)) if maps else 0.0,
        faster=faster,
    )


def _said(found: Assessment) -> tuple[str, str | None, str | None]:
    finding = found.fracture.finding if found.fracture else None
    label = found.body_part.label if found.body_part else ""
    return label, found.reason, finding


def _side_by_side(
    before: Cascade, after: Cascade, canvases: NDArray[np.uint8]
) -> tuple[list[Assessment], list[Assessment], float]:
    """Both on all pictures in turns, and how many times as fast the other one is.

    The median over the batches: on a computer that does other things, the sum would tell of those.
    """
    found: tuple[list[Assessment], list[Assessment]] = ([], [])
    ratios = []
    for i in range(0, len(canvases), BATCH):
        chunk, seconds = list(canvases[i : i + BATCH]), []
        for cascade, kept in zip((before, after), found, strict=True):
            started = time.process_time()
            kept.extend(cascade.assess(chunk))
            seconds.append(time.process_time() - started)
        ratios.append(seconds[0] / seconds[1])
    return *found, float(np.median(ratios))


def _auroc(
    before: Cascade, after: Cascade, rows: pd.DataFrame, canvases: NDArray[np.uint8]
) -> dict[str, tuple[float, float]]:
    """Of each part's labelled pictures, by its own model, whatever stage 1 takes them for."""
    found = {}
    for part in before.release.parts:
        here = ((rows.part == part) & rows.positive.notna()).to_numpy()
        truth = rows.positive.to_numpy()[here].astype(float)
        if len(set(truth)) < 2:
            log.warning("%s: no figure, its labels are all the same", part)
            continue
        scores = [_probabilities(c, canvases[here], part) for c in (before, after)]
        found[str(part)] = (metrics.auroc(truth, scores[0]), metrics.auroc(truth, scores[1]))
    return found


def _probabilities(
    cascade: Cascade, canvases: NDArray[np.uint8], part: BodyPart
) -> NDArray[np.float64]:
    found: Sequence[Assessment] = [
        a
        for i in range(0, len(canvases), BATCH)
        for a in cascade.assess(list(canvases[i : i + BATCH]), part)
    ]
    return np.array([a.fracture.probability for a in found if a.fracture is not None])
