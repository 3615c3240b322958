"""From a finished run to a calibrated candidate release in the run's folder.

Everything here is fitted on the validation split, through the loaded cascade itself, so that the
thresholds belong to the numbers that users will see.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from core import quality
from core.cascade import Cascade
from core.errors import WeightsInvalid
from core.manifest import Stage
from core.registry import Registry
from core.settings import CHAMPION
from core.transforms import Preprocessing
from core.types import BodyPart
from training import (
    calibrate,
    candidate_folder,
    catalogue,
    initial,
    learned,
    metrics,
    networks,
    provenance,
    release,
    taken,
    terms,
)
from training.config import read_record
from training.data import (
    AMBIGUOUS,
    PARTS,
    SIMULATED,
    DataInvalid,
    load_canvases,
    read_all,
    split_hash,
    stage1_class,
)
from training.duplicates import ROWS, settle_once
from training.phases import BODY_PART

log = logging.getLogger(__name__)

MARGIN = 1.1  # of the distance of the farthest supported radiograph of validation
FEATURE_ROWS = 2000


def is_whole(run: Path) -> bool:
    """Whether the run has a candidate that may become a release."""
    try:
        catalogue.refuse_unfit(Registry.open(candidate_folder.of(run)).find(CHAMPION))
    except WeightsInvalid:
        return False
    return True


def build(run: Path, release_id: str, flip_average: bool = False, size: int = 0) -> Path:
    """Write ``run/candidate`` (manifest and weights) and return that folder.

    flip_average: score the picture and its mirror image, at twice the price. size: side of the
    network's input in pixels, 0 for the one it was trained with (Touvron et al. 2019: a larger one
    may do better). Raises ReleaseRefused where no branch is better than chance, and DataInvalid for
    what cannot be calibrated so.
    """
    config = read_record(run / "config.toml")
    networks.refuse_member(config)
    if config.get("only"):
        from training import finetuned

        if flip_average or size:
            raise DataInvalid(
                "--flip-average and --size are for a whole cascade: beside a branch that was "
                "trained alone everything stays as the release has it."
            )
        return finetuned.build(run, release_id, config)
    rows = read_all(config["data"])
    # Copies of pictures of the test split choose nothing, as they taught nothing.
    kept = settle_once(rows, run / ROWS)
    real = kept[(kept.split == "val") & (kept.source != SIMULATED)]
    learned.refuse_taught(run, real)
    trained = torch.load(run / "networks.pt", weights_only=True)
    spec = Preprocessing(size=size or trained["size"], focus=trained.get("focus", False))
    tensors = {
        f"{release_id}/{name}.safetensors": release.half(state)
        for name, state in trained["networks"].items()
    }
    entry = _entry(release_id, rows, spec, flip_average, trained["kinds"])
    entry["training_data"] |= {
        "sources": sorted(provenance.sources(run)),
        "commands": provenance.commands(run),
        **based_on(run),
    }
    told = provenance.notes(run), learned.thresholds_note(run, real, entry["training_data"])
    entry["training_data"]["notes"] = "\n\n".join(filter(None, told))
    entry["licence"] = terms.licence(entry["training_data"])
    with candidate_folder.building(run) as folder:
        release.write(folder, entry, tensors)
        cascade = Cascade.load(folder)
        val, canvases = load_canvases(real, spec)
        entry["stages"] = dict(entry["stages"])
        calibrate_parts(entry, cascade, val, canvases, share_of_positives(kept))
        catalogue.refuse_empty(release_id, parts_of(entry))
        calibrate_body_part(entry, cascade, val, canvases)
        entry["intended_use"] = terms.intended_use(entry["stages"])
        used = taken.used(entry)
        tensors = {p: t for p, t in tensors.items() if p in used}
        space = features(entry, cascade, kept, val, canvases)
        release.write(folder, entry, tensors | {entry["rejection"]["file"]: space})
    return run / "candidate"


def _entry(
    release_id: str,
    rows: pd.DataFrame,
    spec: Preprocessing,
    flip: bool,
    kinds: list[str],
) -> dict[str, Any]:
    trunk = f"{release_id}/trunk.safetensors"
    stages: dict[str, Any] = {
        name: {
            "trunk": trunk,
            "branch": f"{release_id}/{name}.safetensors",
            "classes": ["positive"],
        }
        for name in PARTS
    }
    stages[BODY_PART] = {
        "trunk": trunk,
        "branch": f"{release_id}/{BODY_PART}.safetensors",
        "classes": kinds,
    }
    return {
        "id": release_id,
        "created": datetime.now(UTC).date().isoformat(),
        "stages": stages,
        "preprocessing": {
            "size": spec.size,
            "mean": spec.mean,
            "std": spec.std,
            "percentiles": list(spec.percentiles),
            "focus": spec.focus,
        },
        "flip_average": flip,
        "training_data": training_data(rows),
        "licence": "",
        "intended_use": "",
    }


def based_on(run: Path) -> dict[str, Any]:
    """``base`` of a run that began with a release: which, and what that was trained on."""
    known = initial.base(run)
    if known is None:
        return {}
    try:
        found = initial.installed().find(known["id"])
    except WeightsInvalid:
        return {"base": known}
    return {"base": known | {"training_data": found.training_data}}


def training_data(rows: pd.DataFrame) -> dict[str, Any]:
    """What of a data set the manifest names: the hash of its split, pictures, sources."""
    return {
        "split_sha256": split_hash(rows),
        "pictures": {k: int(v) for k, v in rows.split.value_counts().items()},
        "sources": sorted(rows.source.unique()),
    }


def parts_of(entry: dict[str, Any]) -> tuple[BodyPart, ...]:
    """The parts that an entry has a fracture model of, as ``Release.parts``."""
    return tuple(BodyPart(name) for name in sorted(entry["stages"]) if name != BODY_PART)


def calibrate_body_part(
    entry: dict[str, Any], cascade: Cascade, val: pd.DataFrame, canvases: np.ndarray
) -> None:
    """Of the parts that are left in the entry: the others are among what is to be refused."""
    certain = (~val.part.isin(AMBIGUOUS)).to_numpy()
    fine, _ = cascade.logits_and_features(BODY_PART, canvases[certain])
    stage = cascade.release.stages[BODY_PART]
    entry["stages"][BODY_PART] |= read_body_part(stage, parts_of(entry), fine, val.part[certain])


def read_body_part(
    stage: Stage, parts: Sequence[BodyPart], fine: np.ndarray, truth: pd.Series[str]
) -> dict[str, float]:
    """How the logits of stage 1's classes (NxK) are read: ``temperature`` and shifts.

    truth: the part of each of the N radiographs.
    """
    classes: list[str] = [*parts, BodyPart.OTHER]
    right = np.array([classes.index(stage1_class(p, parts)) for p in truth])
    other = classes.index(BodyPart.OTHER)
    found = calibrate.shifts(fine.astype(float), right != other, stage.classes, parts)
    stage = replace(
        stage, other_shift=found["other_shift"], stranger_shift=found.get("stranger_shift")
    )
    logits = quality.collapse(fine + stage.shifts(parts), stage.classes, parts)
    hit, focus = logits.argmax(1) == right, right != other
    counts = 100 * hit[focus].mean(), focus.sum(), 100 * hit[~focus].mean(), (~focus).sum()
    log.info("validation: body part right on %.2f %% of %d, other on %.2f %% of %d", *counts)
    return found | {"temperature": calibrate.temperature(logits, right)}


def share_of_positives(rows: pd.DataFrame) -> dict[str, float]:
    """By part, of the real radiographs of train and validation together: validation alone has too
    few to tell it."""
    known = rows[rows.split.isin(("train", "val")) & (rows.source != SIMULATED)]
    return {str(p): float(v) for p, v in known.groupby("part").positive.mean().items()}


def calibrate_parts(
    entry: dict[str, Any],
    cascade: Cascade,
    val: pd.DataFrame,
    canvases: np.ndarray,
    share: dict[str, float],
    parts: Sequence[str] = PARTS,
) -> None:
    """Calibrate the fracture branches of the parts; drop one where it is no better than chance.

    Other parts of the entry stay as they are. What there is of them in ``val`` (rows, and their
    canvases NxSxS) lends to the thresholds (``calibrate.operating_points``), to nothing else.
    """
    logits: dict[str, Any] = {}
    rows: dict[str, pd.DataFrame] = {}
    for part in (*parts, *(p for p in parts_of(entry) if p not in parts)):
        here = ((val.part == part) & val.positive.notna()).to_numpy()
        if part not in parts and val[here].positive.nunique() < 2:
            continue  # it has nothing to lend
        rows[part] = val[here]
        truth = rows[part].positive.to_numpy()
        logits[part] = cascade.logits_and_features(part, canvases[here])[0][:, 0].astype(float)
        who = rows[part].patient
        # Whether it is left out is asked of few patients, too: the interval is no figure here.
        estimate = metrics.bootstrap(metrics.auroc, truth, logits[part], who, fewest=2)
        log.info("validation: %s AUROC %s", part, estimate)
        if estimate.low > 0.5:
            continue
        del logits[part], rows[part]
        if part in parts:
            log.warning("%s is no better than chance on validation and is left out", part)
            del entry["stages"][part]
    truths = {p: r.positive.to_numpy() for p, r in rows.items()}
    own = {p: logits[p] for p in parts if p in logits}
    for part, found in calibrate.read(own, truths, share).items():
        means = " or ".join(sorted(rows[part].positive_means.dropna().unique()))
        entry["stages"][part] |= found | {"label_means": means}
    if 0 < len(own) < len(logits):
        _lean(entry, logits, truths, list(own))


def _lean(
    entry: dict[str, Any],
    logits: dict[str, Any],
    truths: dict[str, Any],
    parts: Sequence[str],
) -> None:
    """Choose the operating points of the parts anew beside the other ones, each read as it is in
    the entry."""
    probability = {}
    for part, values in logits.items():
        stage = entry["stages"][part]
        how = stage.get("temperature", 1.0), stage.get("bias", 0.0)
        probability[part] = quality.sigmoid(values, *how)
    points = calibrate.operating_points(probability, truths)
    for part in parts:
        entry["stages"][part]["operating_points"] = points[part]


def limit(space: quality.FeatureSpace, known: np.ndarray) -> float:
    """The distance from which a picture is refused; known: features NxC of supported radiographs.

    It lies MARGIN beyond all of them: what is no radiograph is a class of stage 1, and this is a
    second net, for what neither network has seen.
    """
    return MARGIN * max(space.distance(f) for f in known)


def features(
    entry: dict[str, Any],
    cascade: Cascade,
    rows: pd.DataFrame,
    val: pd.DataFrame,
    canvases: np.ndarray,
) -> dict[str, torch.Tensor]:
    """The feature space of the training radiographs, and its limit."""
    train = rows[(rows.split == "train")]
    sample = train.sample(min(FEATURE_ROWS, len(train)), random_state=0)
    _, drawn = load_canvases(sample, cascade.release.preprocessing)
    space = quality.FeatureSpace.fit(cascade.logits_and_features(BODY_PART, drawn)[1])
    focus = val.part.isin(parts_of(entry)).to_numpy()
    known = cascade.logits_and_features(BODY_PART, canvases[focus])[1]
    path = f"{entry['id']}/features.safetensors"
    entry["rejection"] = {"file": path, "residual": space.residual, "limit": limit(space, known)}
    arrays = {"mean": space.mean, "components": space.components, "scale": space.scale}
    return {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()}
