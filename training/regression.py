"""Logistic regression on the features of a network, its strength by cross-validation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from training.data import DataInvalid

log = logging.getLogger(__name__)

FOLDS = 5


def fitted(
    x: NDArray[np.floating],
    truth: NDArray[Any],
    patients: NDArray[Any],
    part: str,
    strengths: Sequence[float],
    count: int = FOLDS,
) -> Pipeline:
    """Of N vectors (NxD) and their labels, with the strength (C) of the lowest log loss.

    part: for what is said. Raises DataInvalid where too few patients have one of the labels.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    parts = folds(truth, patients, part, count)
    grid = {"logisticregression__C": list(strengths)}
    # Also of a fold in which a label is missing: without the labels it would be no number.
    scoring = make_scorer(
        log_loss, greater_is_better=False, response_method="predict_proba", labels=np.unique(truth)
    )
    search = GridSearchCV(model, grid, cv=parts, scoring=scoring).fit(x, truth)
    strength, loss = search.best_params_["logisticregression__C"], -search.best_score_
    log.info("%s: C=%g, log loss %.3f over %d folds", part, strength, loss, len(parts))
    best: Pipeline = search.best_estimator_
    return best


def folds(
    truth: NDArray[Any], patients: NDArray[Any], part: str, count: int = FOLDS
) -> list[tuple[Any, Any]]:
    """Places to learn from and to measure on, patients apart; each teaches every label.

    Raises DataInvalid where that leaves none.
    """
    found, labels = [], len(set(truth))
    if len(set(patients)) >= count and labels > 1:
        split = GroupKFold(count).split(truth, groups=patients)
        found = [(learn, test) for learn, test in split if len(set(truth[learn])) == labels]
    if not found:
        raise DataInvalid(f"Too few patients of each label of the {part} to fit on.")
    if len(found) < count:
        log.warning("%s: %d of %d folds are of use: few patients.", part, len(found), count)
    return found
