"""What a new member and the networks beside it say together, fitted on the validation split.

``member`` makes the network and its heads; here its calibration, the weights of all networks and
what their average is read with are put into the release's entry.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from training.crossfit import CrossFitted
from training.data import AMBIGUOUS, SIMULATED, DataInvalid, load_canvases
from training.phases import BODY_PART, OTHER

log = logging.getLogger(__name__)

Array = NDArray[np.float64]
BATCH = 64


@dataclass(frozen=True)
class NewMember:
    """The network that ``member`` adds: its name, what ``networks.trained`` gives of it where a run
    has trained it, the layer of each part and, where its runs held
    back a fold each, what they say of the pictures whose finding they were not told.

    scales: by part (scale, shift) from its logits to those of such a run. alone: whether its word
    alone counts of a finding. flip: as the release averages a picture with its mirror image."""

    name: str
    network: dict[str, Any] | None
    heads: dict[str, dict[str, Tensor]]
    folds: CrossFitted | None = None
    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    alone: bool = False
    flip: bool = False

    @property
    def flag(self) -> dict[str, bool]:
        """What its entry says where validation taught it too."""
        return {"cross_fitted": True} if self.folds else {}

    def held_back(
        self, rows: pd.DataFrame, canvases: NDArray[np.uint8], spec: Preprocessing, head: str
    ) -> Array:
        """NxK logits by the runs that held the rows back; raises DataInvalid where none did."""
        assert self.folds is not None and self.network is not None
        found = self.folds.logits(self.network, rows, canvases, spec, self.flip)[head]
        if missing := int(np.isnan(found).any(1).sum()):
            raise DataInvalid(
                f"{missing} of {len(rows)} pictures that are to calibrate {self.name} were held "
                "back by none of its runs: that of a fold is missing among them, or the folds were "
                "dealt from other data."
            )
        return found


@dataclass(frozen=True)
class _Said:
    """What networks say of one part's pictures. rows, truth: of N pictures that the new one never
    saw, and own its logits. val: which of them are of validation, which no other network saw
    either, and others their logits of these, by network, "" the ResNet50."""

    rows: pd.DataFrame
    own: Array
    val: NDArray[np.bool_]
    others: dict[str, Array]

    @property
    def truth(self) -> Array:
        found: Array = self.rows.positive.to_numpy()
        return found


def findings(entry: dict[str, Any], cascade: Cascade, new: NewMember, rows: pd.DataFrame) -> None:
    """Fit on validation: how each network is read, all weights, and what joins them.

    The networks of the base are read anew as well: it may be older than the rules of ``calibrate``.
    A new one that is a mean of folds is read by every picture that one of its runs held back. Where
    its word counts ``alone``, so is what is said together: the others have honest answers of
    validation alone.
    """
    share = candidate.share_of_positives(rows)
    said = {part: _said(entry, cascade, new, rows, part) for part in new.heads}
    truth = {part: one.truth[one.val] for part, one in said.items()}
    names = [m["name"] for m in entry["stages"][next(iter(said))]["members"]]
    columns, own = _each(entry, new, said, names, share)
    if new.alone:
        weights = np.array([0.0, *(float(name == new.name) for name in names)])
        together = calibrate.read(own, {p: one.truth for p, one in said.items()}, share)
    else:
        weights = calibrate.member_weights(list(columns.values()), list(truth.values()))
        average = {part: logits @ weights for part, logits in columns.items()}
        together = calibrate.read(average, truth, share)
    log.info("weights: %s", ", ".join(f"{w:.2f}" for w in weights))
    for part, found in together.items():
        stage = entry["stages"][part]
        for member, weight in zip(stage["members"], weights[1:], strict=True):
            member["weight"] = float(weight)
        stage["ensemble"] = found | ({"held_back": True} if new.alone and new.folds else {})
        one = said[part]
        for name, score in zip((RESNET50, *names), columns[part].T, strict=True):
            _tell(f"validation: {part} {name}", score, one.rows[one.val])
        _tell(f"validation: {part} ensemble", columns[part] @ weights, one.rows[one.val])
        if new.folds:
            _tell(f"held back: {part} {new.name}", own[part], one.rows)


def _each(
    entry: dict[str, Any],
    new: NewMember,
    said: dict[str, _Said],
    names: Sequence[str],
    share: dict[str, float],
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Put how each network is read into the entry. By part the calibrated logits of validation, a
    column a network, and those of the new one of all that it never saw."""
    truth = {part: one.truth[one.val] for part, one in said.items()}
    joined = {}
    for part, found in calibrate.read(
        {p: o.others[""] for p, o in said.items()}, truth, share
    ).items():
        entry["stages"][part] |= found
        joined[part] = [said[part].others[""] / found["temperature"] + found["bias"]]
    own = {}
    for name in names:  # without operating points: none says anything by itself
        if name != new.name:
            logits = {part: one.others[name] for part, one in said.items()}
            for part, (temperature, bias) in calibrate.platt(logits, truth, share).items():
                member_of(entry, part, name).update(temperature=temperature, bias=bias)
                joined[part].append(logits[part] / temperature + bias)
            continue
        logits = {part: one.own for part, one in said.items()}
        every = {part: one.truth for part, one in said.items()}
        for part, (temperature, bias) in calibrate.platt(logits, every, share).items():
            own[part] = logits[part] / temperature + bias
            joined[part].append(own[part][said[part].val])
            scale, shift = new.scales.get(part, (1.0, 0.0))
            read = {"temperature": temperature / scale, "bias": bias + shift / temperature}
            member_of(entry, part, name).update(read | new.flag)
    return {part: np.column_stack(each) for part, each in joined.items()}, own


def _said(
    entry: dict[str, Any], cascade: Cascade, new: NewMember, rows: pd.DataFrame, part: str
) -> _Said:
    spec = cascade.release.preprocessing
    wanted = rows.split.eq("val") | (new.folds.knows(rows) if new.folds else False)
    seen, canvases = load_canvases(rows[rows.part.eq(part) & wanted], spec)
    if new.folds:
        own = new.held_back(seen, canvases, spec, part)[:, 0]
    else:
        own = _logits(cascade, part, new.name, new.heads[part], canvases)
    val = seen.split.eq("val").to_numpy()
    others = {}
    for name in ("", *(m["name"] for m in entry["stages"][part]["members"])):
        if name != new.name:
            logits, _ = cascade.logits_and_features(part, canvases[val], name)
            others[name] = logits[:, 0].astype(float)
    return _Said(seen, own, val, others)


def _tell(what: str, score: Array, rows: pd.DataFrame) -> None:
    estimate = metrics.bootstrap(metrics.auroc, rows.positive.to_numpy(), score, rows.patient)
    log.info("%s AUROC %s", what, estimate)


def body_part(
    entry: dict[str, Any],
    base: Release,
    cascade: Cascade,
    new: NewMember,
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
    name = new.name
    stage, file = base.stages[BODY_PART], file_of(name)
    trunk, branch = (f"{entry['id']}/{n}{file}.safetensors" for n in ("", f"{BODY_PART}-"))
    classes = tuple(k for k in trained["kinds"] if k in stage.classes)
    real = rows[(rows.split == "val") & (rows.source != SIMULATED) & ~rows.part.isin(AMBIGUOUS)]
    val, canvases = load_canvases(real, base.preprocessing)
    own, seen = cascade.logits_and_features(BODY_PART, canvases)
    order = [trained["kinds"].index(k) for k in classes]
    layer = {k: trained["heads"][f"{BODY_PART}.{k}"][order] for k in ("weight", "bias")}
    head = release.half({f"fc.{k}": values for k, values in layer.items()})
    if new.folds:
        new.folds.refuse_trained(val)
        said = new.held_back(val, canvases, base.preprocessing, BODY_PART)[:, order]
    else:
        pooled = features(cascade, candidate.parts_of(entry)[0], name, canvases).astype(float)
        said = pooled @ head["fc.weight"].double().numpy().T + head["fc.bias"].double().numpy()

    def joined(weight: float) -> Array:
        member = Member(name, trunk, branch, weight=weight, classes=classes)
        return members.first(replace(stage, ensemble=Ensemble((member,))), [own, said])

    truth = np.array([stage.classes.index(k if k in stage.classes else OTHER) for k in val.part])
    weight = calibrate.stage1_weight(joined, truth)
    log.info("stage 1: weight of %s %.2f", name, weight)
    read = candidate.read_body_part(stage, base.parts, joined(weight), val.part)
    found: dict[str, Any] = {"name": name, "trunk": trunk, "branch": branch, "weight": weight}
    entry["stages"][BODY_PART] |= candidate.read_body_part(stage, base.parts, own, val.part)
    if cascade.feature_space is not None:
        supported = val.part.isin(base.parts).to_numpy()
        entry["rejection"]["limit"] = candidate.limit(cascade.feature_space, seen[supported])
    found |= {"classes": list(classes), **new.flag}
    entry["stages"][BODY_PART]["members"] = [found]
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
