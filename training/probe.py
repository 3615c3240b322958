"""What the teacher's features say of a positive label: soft labels that no picture taught itself.

With a few hundred labels a part, logistic regression on frozen ImageNet features is a better guide
than the labels alone. Each picture's answer comes from models fitted on other patients
(cross-fitting), so it is as honest on a training picture as on a new one; a picture without a label
gets the mean of all folds.
"""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

log = logging.getLogger(__name__)

FOLDS = 5
FEWEST = 20  # of each label, below which a part has no probe
REGULARISATION = (1e-4, 1e-3, 1e-2)

Array = NDArray[np.floating]


def soft_labels(vectors: Array, rows: pd.DataFrame) -> NDArray[np.float32]:
    """Probability of the positive label of each view's own part, VxN; NaN where there is no probe.

    vectors: VxNxD features of V views, the first of which the models are fitted on. rows: N rows
    with ``part``, ``positive`` and ``patient``.
    """
    out = np.full(vectors.shape[:2], np.nan, np.float32)
    for part in sorted(rows.part.unique()):
        index = np.flatnonzero((rows.part == part).to_numpy())
        positive = rows.positive.to_numpy(float)[index]
        counts = np.bincount(positive[~np.isnan(positive)].astype(int), minlength=2)
        if counts.min() >= FEWEST:
            x = np.asarray(vectors[:, index], np.float32)
            out[:, index] = _cross_fitted(x, positive, rows.patient.to_numpy()[index], str(part))
    return out


def _cross_fitted(x: Array, positive: Array, patient: NDArray[np.object_], part: str) -> Array:
    """VxN probabilities of one part, the strength of the regularisation chosen by AUROC."""
    known = ~np.isnan(positive)
    best: tuple[float, Array] | None = None
    for c in REGULARISATION:
        answer = np.zeros(x.shape[:2], np.float32)
        folds = list(GroupKFold(FOLDS).split(x[0, known], positive[known], patient[known]))
        labelled = np.flatnonzero(known)
        for fitted, held in folds:
            model = _model(c).fit(x[0, labelled[fitted]], positive[labelled[fitted]])
            for view, vectors in enumerate(x):
                answer[view, labelled[held]] = model.predict_proba(vectors[labelled[held]])[:, 1]
                if not known.all():
                    answer[view, ~known] += model.predict_proba(vectors[~known])[:, 1] / FOLDS
        score = float(roc_auc_score(positive[known], answer[:, known].mean(0)))
        if best is None or score > best[0]:
            best = score, answer
    assert best is not None
    log.info("teacher's probe of %s: AUROC %.3f over %d folds", part, best[0], FOLDS)
    return best[1]


def _model(c: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))
