"""The memoriser: recalls a patient's label from training and sees no pixels.

Where splits share patients it scores far above the majority class, and so may any network (with
MURA split by image, 94 to 98 %). Split by patient, it knows nobody and can only give the majority
label, so its figure shows at a glance whether the other figures mean anything.
"""

from __future__ import annotations

import pandas as pd

from training.data import SIMULATED


def recall(rows: pd.DataFrame, train: pd.DataFrame) -> pd.Series[float]:
    """For each row the mean of its patient's labels in ``train`` for the same part, 0 to 1.

    A patient who is not there gets the majority label (0 or 1) of the part in training, of real
    radiographs for real ones and of simulated for simulated ones. NaN where there is no label.
    """
    known = train[train.positive.notna()]
    personal = known.groupby(["part", "patient"]).positive.mean()
    usual = known.groupby(["part", known.source == SIMULATED]).positive.mean() >= 0.5
    recalled = [
        personal.get((part, patient), float(usual.get((part, source == SIMULATED), float("nan"))))
        for part, patient, source in zip(rows.part, rows.patient, rows.source)
    ]
    return pd.Series(recalled, index=rows.index, dtype=float)
