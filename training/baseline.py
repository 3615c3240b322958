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
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from core.transforms import Preprocessing
from training import metrics
from training.data import AMBIGUOUS, FOCUS, SIMULATED, load_canvases, stage1_class
from training.duplicates import settle
from training.precision import autocast
from training.teacher import Lite2

log = logging.getLogger(__name__)

SIZE = 260
BODY_PART_ROWS = 3000
_GRID = {"logisticregression__C": [1e-4, 1e-3, 1e-2, 1e-1]}


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
    ``fit`` would take: copies of what is held out are left out. Reads every picture for that."""
    from training.evaluate import record

    teacher = Lite2(SIZE).compile()
    certain = rows[~rows.part.isin(AMBIGUOUS) & (rows.source != SIMULATED)]
    kept = settle(certain)
    train = kept[kept.split == "train"]
    labelled = train[train.part.isin(FOCUS) & train.positive.notna()]
    others = train.drop(labelled.index)
    extra = others.sample(min(BODY_PART_ROWS, len(others)), random_state=0)
    train, x = features(pd.concat([labelled, extra]), teacher)
    held = certain[(certain.split == split) & certain.part.isin(FOCUS)]
    held, y = features(held, teacher)

    part = _fitted(x, train.part.map(stage1_class).to_numpy(), train.patient)
    right = (part.predict(y) == held.part.to_numpy()).astype(float)
    estimate = metrics.bootstrap(metrics.accuracy, np.ones(len(held)), right, held.patient, draws)
    records = [record("lite2", "all", "all", "accuracy", estimate)]
    for name in FOCUS:
        here = ((train.part == name) & train.positive.notna()).to_numpy()
        there = ((held.part == name) & held.positive.notna()).to_numpy()
        model = _fitted(x[here], train.positive[here].to_numpy(), train.patient[here])
        score, truth = model.decision_function(y[there]), held.positive[there]
        estimate = metrics.bootstrap(metrics.auroc, truth, score, held.patient[there], draws)
        records.append(record("lite2", name, "all", "auroc", estimate))
    return records


def _fitted(x: NDArray[np.float32], y: NDArray[Any], patients: pd.Series) -> Pipeline:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    search = GridSearchCV(model, _GRID, cv=GroupKFold(4), scoring="neg_log_loss")
    search.fit(x, y, groups=patients)
    log.info("baseline: C=%g", search.best_params_["logisticregression__C"])
    return search.best_estimator_
