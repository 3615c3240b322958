"""Figures of the heads that only teach the trunk: MURA's forearm and humerus, FracAtlas's leg.

A release has no branch for these parts, but the joint phase of ``fit`` has a head for each, on one
layer4 for all. Their figures on MURA's official validation set (``split=test``) can be laid beside
published ones. The threshold of kappa is the balanced one of the validation split; the probability
of a study is the mean over its views (Rajpurkar et al. 2017, arXiv:1712.06957).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from core import quality
from core.network import channels_last
from core.transforms import Preprocessing, to_tensor
from training import calibrate, metrics, networks
from training.by_study import levels
from training.config import read_record
from training.data import SIMULATED, DataInvalid, load_canvases, read_all
from training.duplicates import settle
from training.model import JointNetwork
from training.phases import BODY_PART, JOINT
from training.precision import autocast
from training.records import record

log = logging.getLogger(__name__)

BATCH = 32


def load(run: Path) -> tuple[JointNetwork, tuple[str, ...], Preprocessing]:
    """The joint network of a run's best validation, the parts of its heads, its input.

    Raises DataInvalid where the run has not finished its joint phase.
    """
    path = run / "checkpoint.pt"
    saved = torch.load(path, weights_only=True) if path.exists() else {"done": {}}
    if JOINT not in saved["done"]:
        raise DataInvalid(f"{run} has not finished its joint phase.")
    config = read_record(run / "config.toml")
    networks.refuse_member(config)
    state = saved["done"][JOINT]
    names = sorted({k.split(".")[1] for k in state if k.startswith("heads.")} - {BODY_PART})
    network = JointNetwork(names, kinds=saved["kinds"])
    network.load_state_dict(state)
    spec = Preprocessing(size=config["size"], focus=bool(config.get("focus")))
    return channels_last(network.eval()), tuple(names), spec


@torch.inference_mode()
def probabilities(
    network: JointNetwork, rows: pd.DataFrame, spec: Preprocessing
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """The rows that can be read, and of each the probability by its own part's head."""
    rows, canvases = load_canvases(rows, spec)
    logits = []
    for i in range(0, len(rows), BATCH):
        with autocast():
            answer = network(to_tensor(canvases[i : i + BATCH], spec))
        own = rows.part[i : i + BATCH]
        logits += [float(answer[part][k, 0]) for k, part in enumerate(own)]
    return rows, quality.sigmoid(np.array(logits))


def measure(run: Path, data: list[str], split: str, draws: int = 1000) -> list[dict[str, Any]]:
    """AUROC and Cohen's kappa of every head, by source, by image and by study."""
    network, names, spec = load(run)
    rows = read_all(data)
    rows = rows[rows.part.isin(names) & rows.positive.notna() & rows.split.isin(("val", split))]
    rows = settle(rows)  # copies of what is scored choose no threshold, and simulated ones none
    real = rows.source != SIMULATED
    val, chosen = probabilities(network, rows[(rows.split == "val") & real], spec)
    held, found = probabilities(network, rows[rows.split == split], spec)
    held = held.assign(probability=found, said=held.part)
    records = []
    for part in names:
        here = (val.part == part).to_numpy()
        if val.positive[here].nunique() < 2:
            log.warning("%s: validation has no threshold for it, so it is left out", part)
            continue
        threshold = calibrate.balanced(chosen[here], val.positive[here].to_numpy())
        for source, group in held[held.part == part].groupby("source"):
            for level, table in levels(group).items():
                records += _figures(table, (part, str(source), level), threshold, draws)
    return records


def _figures(
    rows: pd.DataFrame, where: tuple[str, str, str], threshold: float, draws: int
) -> list[dict[str, Any]]:
    part, source, level = where
    decision = (rows.probability >= threshold).astype(float)
    found = []
    for name, score in (("auroc", rows.probability), ("kappa", decision), ("accuracy", decision)):
        metric = getattr(metrics, name)
        estimate = metrics.bootstrap(metric, rows.positive, score, rows.patient, draws)
        found.append(record("joint", part, source, name, estimate, level))
    return found
