"""The yardstick: a frozen ImageNet network and logistic regression, on the same rows.

A release that does not beat this has not earned its training. EfficientNet-Lite2 at 260 pixels, its
pooled 1280-vector of the picture and of its mirror image averaged, standardised; the regularisation
is chosen by cross-validation over patients within the training split.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.transforms import Preprocessing
from training import metrics, regression
from training.data import (
    AMBIGUOUS,
    PARTS,
    SIMULATED,
    DataInvalid,
    load_canvases,
    stage1_class,
)
from training.duplicates import settle
from training.precision import autocast
from training.teacher import Lite2

log = logging.getLogger(__name__)

SIZE = 260
BODY_PART_ROWS = 3000
FOLDS = 4
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)


def features(rows: pd.DataFrame, teacher: Lite2) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """The rows that can be read, and their vectors: Nx1280 float32."""
    rows, canvases = load_canvases(rows, Preprocessing(size=teacher.size))
    vectors = []
    for i in range(0, len(canvases), 32):
        chunk = canvases[i : i + 32]
        with autocast():
            both = [teacher(v).pooled.float() for v in (chunk, chunk[:, :, ::-1])]
        vectors.append(((both[0] + both[1]) / 2).numpy())
    return rows, np.concatenate(vectors)


def figures(rows: pd.DataFrame, split: str, draws: int = 1000) -> list[dict[str, Any]]:
    """Body-part accuracy and AUROC of each part of ``split``, fitted on the training rows that
    ``fit`` would take: copies of what is held out are left out. Reads every picture for that.

    What the rows have too little of to fit or to measure is left out with a warning.
    """
    from training.records import record

    teacher = Lite2(SIZE).compile()
    certain = rows[~rows.part.isin(AMBIGUOUS) & (rows.source != SIMULATED)]
    kept = settle(certain)
    train = kept[kept.split == "train"]
    labelled = train[train.part.isin(PARTS) & train.positive.notna()]
    others = train.drop(labelled.index)
    extra = others.sample(min(BODY_PART_ROWS, len(others)), random_state=0)
    held = certain[(certain.split == split) & certain.part.isin(PARTS)]
    if train.empty or held.empty:
        log.warning("baseline: there is nothing to fit it on, or nothing to measure it on.")
        return []
    train, x = features(pd.concat([labelled, extra]), teacher)
    held, y = features(held, teacher)

    records = []
    who, kinds = train.patient.to_numpy(), train.part.map(stage1_class).to_numpy(object)
    try:
        part = regression.fitted(x, kinds, who, "body part", _STRENGTHS, FOLDS)
        right = (part.predict(y) == held.part.to_numpy()).astype(float)
        ones = np.ones(len(held))
        estimate = metrics.bootstrap(metrics.accuracy, ones, right, held.patient, draws)
        records.append(record("lite2", "all", "all", "accuracy", estimate))
    except DataInvalid as error:
        log.warning("baseline: the body part is left out. %s", error)
    for name in PARTS:
        here = ((train.part == name) & train.positive.notna()).to_numpy()
        there = ((held.part == name) & held.positive.notna()).to_numpy()
        known, truth = train.positive[here].to_numpy(), held.positive[there]
        try:
            if truth.nunique() < 2:
                raise DataInvalid(f"There are no {name}s of both labels to measure on.")
            model = regression.fitted(x[here], known, who[here], name, _STRENGTHS, FOLDS)
        except DataInvalid as error:
            log.warning("baseline: the %s is left out. %s", name, error)
            continue
        score = model.decision_function(y[there])
        estimate = metrics.bootstrap(metrics.auroc, truth, score, held.patient[there], draws)
        records.append(record("lite2", name, "all", "auroc", estimate))
    return records
