"""What a new member and the networks beside it say together, fitted on the validation split.

``member`` makes the network and its heads; here its calibration, the weights of all networks and
what their average is read with are put into the release's entry.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from core import members
from core.cascade import Cascade
from core.manifest import RESNET50, Ensemble, Member, Release
from core.transforms import Preprocessing
from training import calibrate, candidate, metrics, release
from training.data import AMBIGUOUS, SIMULATED, load_canvases
from training.phases import BODY_PART, OTHER

log = logging.getLogger(__name__)

Array = NDArray[np.float64]
BATCH = 64


def findings(
    entry: dict[str, Any],
    cascade: Cascade,
    name: str,
    heads: dict[str, dict[str, Tensor]],
    rows: pd.DataFrame,
) -> None:
    """Fit on validation: how each network is read, all weights, and what joins them.

    The networks of the base are read anew as well: it may be older than the rules of ``calibrate``.
    """
    share = candidate.share_of_positives(rows)
    raw: dict[str, dict[str, Array]] = {}  # by the member, "" the ResNet50, and by part
    truth, patients = {}, {}
    for part, head in heads.items():
        val, canvases = canvases_of(rows, "val", part, cascade.release.preprocessing)
        truth[part], patients[part] = val.positive.to_numpy(), val.patient
        for other in ("", *(m["name"] for m in entry["stages"][part]["members"])):
            if other == name:
                said = _logits(cascade, part, name, head, canvases)
            else:
                said = cascade.logits_and_features(part, canvases, other)[0][:, 0].astype(float)
            raw.setdefault(other, {})[part] = said
    joined: dict[str, list[Array]] = {part: [] for part in heads}
    alone = raw.pop("")
    for part, found in calibrate.read(alone, truth, share).items():
        entry["stages"][part] |= found
        joined[part].append(alone[part] / found["temperature"] + found["bias"])
    for network, logits in raw.items():  # without operating points: none says anything by itself
        for part, (temperature, bias) in calibrate.platt(logits, truth, share).items():
            member_of(entry, part, network).update(temperature=temperature, bias=bias)
            joined[part].append(logits[part] / temperature + bias)
    _weighed(entry, {p: np.column_stack(k) for p, k in joined.items()}, truth, patients, share)


def _weighed(
    entry: dict[str, Any],
    joined: dict[str, Array],
    truth: dict[str, Array],
    patients: dict[str, pd.Series[str]],
    share: dict[str, float],
) -> None:
    """Put the weights of the networks into the entry, and how their average is read."""
    weights = calibrate.member_weights(list(joined.values()), list(truth.values()))
    average = {part: logits @ weights for part, logits in joined.items()}
    for part, found in calibrate.read(average, truth, share).items():
        stage = entry["stages"][part]
        for member, weight in zip(stage["members"], weights[1:], strict=True):
            member["weight"] = float(weight)
        stage["ensemble"] = found
        for title, score in zip(
            (RESNET50, *(m["name"] for m in stage["members"]), "ensemble"),
            (*joined[part].T, average[part]),
        ):
            estimate = metrics.bootstrap(metrics.auroc, truth[part], score, patients[part])
            log.info("validation: %s %s AUROC %s", part, title, estimate)
    log.info("weights: %s", ", ".join(f"{w:.2f}" for w in weights))


def body_part(
    entry: dict[str, Any],
    base: Release,
    cascade: Cascade,
    name: str,
    trained: dict[str, Any],
    rows: pd.DataFrame,
) -> tuple[str, dict[str, Tensor]]:
    """Let the member speak in stage 1 too; returns the file of its linear layer and what is in it.

    It has seen the same body parts, and its trunk runs in any case. Its weight and what their
    average is read with come from the radiographs of validation, and so does, anew, what the
    ResNet50 alone is read with and how far from them a picture may lie: a base may be older than
    the rules of ``calibrate``. Stage 1 has one member: another one that it had is not asked any
    more.
    """
    stage, file = base.stages[BODY_PART], file_of(name)
    trunk, branch = (f"{entry['id']}/{n}{file}.safetensors" for n in ("", f"{BODY_PART}-"))
    classes = tuple(k for k in trained["kinds"] if k in stage.classes)
    real = rows[(rows.split == "val") & (rows.source != SIMULATED) & ~rows.part.isin(AMBIGUOUS)]
    val, canvases = load_canvases(real, base.preprocessing)
    own, seen = cascade.logits_and_features(BODY_PART, canvases)
    order = [trained["kinds"].index(k) for k in classes]
    layer = {k: trained["heads"][f"{BODY_PART}.{k}"][order] for k in ("weight", "bias")}
    head = release.half({f"fc.{k}": values for k, values in layer.items()})
    pooled = features(cascade, candidate.parts_of(entry)[0], name, canvases).astype(float)
    said = pooled @ head["fc.weight"].double().numpy().T + head["fc.bias"].double().numpy()

    def joined(weight: float) -> Array:
        member = Member(name, trunk, branch, weight=weight, classes=classes)
        return members.first(replace(stage, ensemble=Ensemble((member,))), [own, said])

    truth = np.array([stage.classes.index(k if k in stage.classes else OTHER) for k in val.part])
    weight = calibrate.stage1_weight(joined, truth)
    log.info("stage 1: weight of %s %.2f", name, weight)
    read = candidate.read_body_part(stage, base.parts, joined(weight), val.part)
    found = {"name": name, "trunk": trunk, "branch": branch, "weight": weight}
    entry["stages"][BODY_PART] |= candidate.read_body_part(stage, base.parts, own, val.part)
    if cascade.feature_space is not None:
        supported = val.part.isin(base.parts).to_numpy()
        entry["rejection"]["limit"] = candidate.limit(cascade.feature_space, seen[supported])
    entry["stages"][BODY_PART]["members"] = [found | {"classes": list(classes)}]
    entry["stages"][BODY_PART]["ensemble"] = read
    return branch, head


def features(
    cascade: Cascade, part: str, name: str, canvases: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Pooled ones of a part's member, NxC, of NxSxS canvases."""
    chunks = (canvases[i : i + BATCH] for i in range(0, len(canvases), BATCH))
    return np.concatenate([cascade.logits_and_features(part, c, name)[1] for c in chunks])


def _logits(
    cascade: Cascade, part: str, name: str, head: dict[str, Tensor], canvases: NDArray[np.uint8]
) -> Array:
    """Of the new member, N: its head is not in the cascade yet."""
    layer = {k: v.double().numpy() for k, v in head.items()}
    pooled = features(cascade, part, name, canvases).astype(float)
    logits: Array = (pooled @ layer["fc.weight"].T + layer["fc.bias"])[:, 0]
    return logits


def canvases_of(
    rows: pd.DataFrame, split: str, part: str, spec: Preprocessing
) -> tuple[pd.DataFrame, NDArray[np.uint8]]:
    """``load_canvases`` of the rows of one part in one split."""
    return load_canvases(rows[(rows.split == split) & (rows.part == part)], spec)


def member_of(entry: dict[str, Any], part: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(m for m in entry["stages"][part]["members"] if m["name"] == name)
    return found


def file_of(name: str) -> str:
    """Of "EfficientNet-Lite2" the part "efficientnet-lite2" of its files' names: two members of
    one architecture have files of their own."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
