"""Add a member to a release: a network's features, a linear head for each part, weights.

Either a run of ``fit --arch`` has trained both on radiographs, or the feature extractor stays as
ImageNet left it; then what is fitted is a logistic regression on the pooled features of several
views of each training radiograph, its strength chosen by cross-validation over patients. Features
are those of the release's own engine on the release's own canvases, so the head belongs to the
numbers that it will be given. Calibration, the weights of the members and the operating points of
their average come from the validation split.
"""

from __future__ import annotations

import logging
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor

import core.settings
from core import architectures, files, members, quality
from core.cascade import Cascade
from core.engines import choice
from core.errors import SettingsInvalid
from core.manifest import RESNET50, Ensemble, Member, Release
from core.registry import Registry
from core.transforms import Preprocessing
from core.types import Mode
from training import (
    calibrate,
    candidate,
    initial,
    metrics,
    networks,
    provenance,
    regression,
    release,
    taken,
    terms,
)
from training.augment import vary
from training.config import DATA, HELP, option
from training.data import (
    AMBIGUOUS,
    SIMULATED,
    DataInvalid,
    load_canvases,
    read_all,
    split_hash,
)
from training.duplicates import ROWS, settle_as, write_list
from training.phases import BODY_PART, OTHER

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
BATCH = 64


@dataclass(frozen=True)
class Settings:
    """What a member is made from.

    A safetensors file as ``init`` has the state dict of the feature extractor by the names of
    ``core.architectures`` (timm's for a transformer), for inputs as the release normalises them.
    Raises SettingsInvalid for what no member can be made from.
    """

    base: str = field(metadata={HELP: "a run with a candidate, or a folder with a manifest.json"})
    data: tuple[str, ...] = field(metadata=DATA)
    out: str = field(metadata={HELP: "folder of the run whose candidate is written"})
    arch: str = option(
        architectures.LITE2, f"the new network: {', '.join(architectures.NAMES[1:])}"
    )
    init: str = option(
        "",
        "a run of fit --arch that has trained it, or a safetensors file with its features; without "
        "one ImageNet's EfficientNet-Lite2",
    )
    release: str = option("champion", "which release of --base")
    id: str = option("", "of the new release; without one that of the base")
    name: str = option("", "of the member; without one that of the architecture")
    duplicates: str = option("drop", "what becomes of pictures with a copy in another split")
    views: int = option(4, "of each training picture: as it is, mirrored, then varied")
    default: str = option(
        Mode.FAST, f"the mode of the release where nobody says which: {' or '.join(Mode)}"
    )
    seed: int = option(0, "of the varied views")

    def __post_init__(self) -> None:
        if self.arch not in architectures.NAMES or self.arch == architectures.RESNET50:
            raise SettingsInvalid(f"There is no architecture {self.arch!r} for a member.")
        if self.default not in [*Mode]:
            raise SettingsInvalid(f"The default must be {' or '.join(Mode)}, not {self.default!r}.")
        if self.views < 1:
            raise SettingsInvalid("Each picture needs at least one view.")


TITLES = {
    architectures.LITE2: "EfficientNet-Lite2",
    architectures.VIT_TINY: "Vision Transformer",
    architectures.VIT_SMALL: "Vision Transformer",
}


def build(settings: Settings, program: core.settings.Settings) -> Path:
    """Write ``out/candidate``: the release with one more member, and return that folder.

    A member of the same name takes the place of the one before. program: whose engine runs the
    networks. Raises DataInvalid where a part has too few pictures of either label, and where
    ``out`` is the folder of a run.
    """
    provenance.refuse_run(Path(settings.out), provenance.MEMBER, (settings.base, settings.init))
    registry, base = _base(settings)
    run = Path(settings.init) if settings.init and Path(settings.init).is_dir() else None
    trained = networks.trained(run, settings.arch, base.preprocessing) if run else None
    entry, tensors = _begun(settings, registry, base, trained)
    name = settings.name or TITLES[settings.arch]
    data, settled = _settled(settings)
    rows = _labelled(settled, entry)
    behind = provenance.sources(run) if run else set()
    entry["training_data"] = base.training_data | {
        "sources": sorted({*base.training_data.get("sources", ()), *settled.source, *behind}),
        "commands": [
            *base.training_data.get("commands", ()),
            *(provenance.commands(run) if run else ()),
            provenance.command("member", asdict(settings), Settings),
        ],
    }
    entry["licence"] = terms.licence(entry["training_data"])
    with candidate.building(Path(settings.out)) as folder:
        release.write(folder, entry, tensors)
        loaded = Cascade.load(folder, device=program.device)
        cascade, why = choice.choose(loaded, program.engine, program.home, convert=True, many=True)
        log.info("%s: %s", cascade.engine.description, why)
        heads = {}
        for part in _parts(entry):
            if trained:
                heads[part] = _trained_head(trained["heads"], part, settings.init)
            else:
                train, canvases = _of(rows, "train", part, base.preprocessing)
                heads[part] = _head(cascade, part, name, train, canvases, settings)
            tensors[_member(entry, part, name)["branch"]] = heads[part]
        _join(entry, cascade, name, heads, rows)
        if trained and f"{BODY_PART}.weight" in trained["heads"]:
            path, head = _stage1(entry, base, cascade, name, trained, settled)
            tensors[path] = head
        release.write(folder, entry, tensors)
        # Last, as the list and the record of a candidate that stays belong to that.
        write_list(data, settled, Path(settings.out) / ROWS)  # for ``release``, see ``learned``
        _record(settings, base, entry["training_data"])
    return Path(settings.out) / "candidate"


def _record(settings: Settings, base: Release, made: dict[str, Any]) -> None:
    """What the new release began with, for whoever asks what it has learned from."""
    of_run = (Path(settings.base) / "candidate").is_dir()
    record = {"base": settings.base} if of_run else {"began": [*terms.sources(base.training_data)]}
    record |= {"init": settings.init} | {k: made[k] for k in ("sources", "commands")}
    files.write_json(Path(settings.out) / provenance.MEMBER, record)


def _base(settings: Settings) -> tuple[Registry, Release]:
    folder = Path(settings.base)
    registry = Registry.open(folder / "candidate" if (folder / "candidate").is_dir() else folder)
    return registry, registry.find(settings.release)


def _begun(
    settings: Settings, registry: Registry, base: Release, trained: dict[str, Any] | None
) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """The base's entry and tensors with the new member in them, its heads still empty."""
    release_id = settings.id or base.id
    paths = taken.paths(base, release_id)
    entry = taken.entry(base, release_id, paths)
    tensors = {paths[p]: load(registry.read(f)) for p, f in base.files.items()}
    name = settings.name or TITLES[settings.arch]
    file = _file_of(name)
    trunk = f"{release_id}/{file}.safetensors"
    state = (
        trained["features"]
        if trained
        else initial.features(settings.arch, base.preprocessing, settings.init)
    )
    width = _width(settings.arch, state, base.preprocessing)
    tensors[trunk] = release.half(state)
    entry["architectures"] = entry.get("architectures", {}) | {trunk: settings.arch}
    entry["default"] = settings.default
    for part in _parts(entry):
        stage, branch = entry["stages"][part], f"{release_id}/{part}-{file}.safetensors"
        others = [m for m in stage.get("members", ()) if m["name"] != name]
        stage["members"] = [*others, {"name": name, "trunk": trunk, "branch": branch}]
        stage["ensemble"] = {"operating_points": stage["operating_points"]}
        for member in stage["members"]:
            member["weight"] = 1 / (1 + len(stage["members"]))
        tensors[branch] = {"fc.weight": torch.zeros(1, width), "fc.bias": torch.zeros(1)}
    first = entry["stages"][BODY_PART]
    if any(m["trunk"] == trunk for m in first.get("members", ())):
        # Its layer read another extractor; where the new one knows body parts, `_stage1` adds it.
        del first["members"], first["ensemble"]
        log.info("stage 1: %s is not asked any more", name)
    used = taken.used(entry)
    return entry, {p: t for p, t in tensors.items() if p in used}


def _file_of(name: str) -> str:
    """Of "EfficientNet-Lite2" the part "efficientnet-lite2" of its files' names: two members of
    one architecture have files of their own."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _width(arch: str, state: dict[str, Tensor], spec: Preprocessing) -> int:
    """How many maps the extractor gives; raises DataInvalid where the state does not fit."""
    network = architectures.make(arch, spec).eval()
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise DataInvalid(f"These weights are not those of {arch}.") from error
    with torch.inference_mode():
        return int(network(torch.zeros(1, 3, spec.size, spec.size)).shape[1])


def _labelled(rows: pd.DataFrame, entry: dict[str, Any]) -> pd.DataFrame:
    """Labelled real pictures of the release's parts, without those of the test split; raises
    DataInvalid where there are too few."""
    known = rows[rows.part.isin(_parts(entry)) & rows.positive.notna() & rows.split.ne("test")]
    known = known[known.source != SIMULATED]
    for split in ("train", "val"):
        counts = known[known.split == split].groupby("part").positive.nunique()
        missing = [p for p in _parts(entry) if counts.get(p, 0) < 2]
        if missing:
            names = ", ".join(missing)
            raise DataInvalid(f"The split {split} lacks positives or negatives of: {names}.")
    log.info("%d labelled pictures; split %s", len(known), split_hash(rows)[:12])
    return known.reset_index(drop=True)


def _settled(settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All rows, and those without copies: those that the base or the new network was fitted on,
    where one is a run of all parts, as which pictures are copies is found there already."""
    data = read_all(settings.data)
    runs = map(Path, filter(None, (settings.base, settings.init)))
    return data, settle_as(data, runs, settings.duplicates)


def _parts(entry: dict[str, Any]) -> list[str]:
    return sorted(p for p in entry["stages"] if p != BODY_PART)


def _member(entry: dict[str, Any], part: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(m for m in entry["stages"][part]["members"] if m["name"] == name)
    return found


def _head(
    cascade: Cascade,
    part: str,
    name: str,
    rows: pd.DataFrame,
    canvases: NDArray[np.uint8],
    settings: Settings,
) -> dict[str, Tensor]:
    """A linear layer for one part's member, fitted on all views of its training pictures."""
    found = [_features(cascade, part, name, v) for v in views(canvases, settings)]
    count = len(found)
    truth = np.tile(rows.positive.to_numpy(), count)
    patients = np.tile(rows.patient.to_numpy(), count)
    model = regression.fitted(np.concatenate(found), truth, patients, part, _STRENGTHS)
    scaler, linear = model[0], model[-1]
    weight = linear.coef_ / scaler.scale_
    bias = linear.intercept_ - weight @ scaler.mean_
    layer = {"fc.weight": torch.tensor(weight), "fc.bias": torch.tensor(bias)}
    return release.half(layer)  # float16, and the bias float32, as in the file


def _trained_head(heads: dict[str, Tensor], part: str, run: str) -> dict[str, Tensor]:
    if f"{part}.weight" not in heads:
        raise DataInvalid(f"The run {run} had no labelled pictures of the {part} to learn from.")
    return release.half({f"fc.{k}": heads[f"{part}.{k}"] for k in ("weight", "bias")})


def views(canvases: NDArray[np.uint8], settings: Settings) -> list[NDArray[np.uint8]]:
    """NxSxS as they are, mirrored, and varied as ``fit`` varies them: ``settings.views`` in all."""
    found = [canvases, np.ascontiguousarray(canvases[:, :, ::-1])]
    grey = torch.from_numpy(canvases).float().div_(255)[:, None]
    for n in range(2, settings.views):
        seeds = np.random.default_rng((settings.seed, n)).integers(2**31, size=len(canvases))
        varied = vary(grey, seeds.tolist())[:, 0].clamp(0, 1).mul(255).round()
        found.append(varied.to(torch.uint8).numpy())
    return found[: settings.views]


def _features(
    cascade: Cascade, part: str, name: str, canvases: NDArray[np.uint8]
) -> NDArray[np.float32]:
    chunks = (canvases[i : i + BATCH] for i in range(0, len(canvases), BATCH))
    return np.concatenate([cascade.logits_and_features(part, c, name)[1] for c in chunks])


def _join(
    entry: dict[str, Any],
    cascade: Cascade,
    name: str,
    heads: dict[str, dict[str, Tensor]],
    rows: pd.DataFrame,
) -> None:
    """Fit on validation: the new member's calibration, all weights, and what joins them."""
    share = candidate.share_of_positives(rows)
    raw, truth, patients = {}, {}, {}
    joined: dict[str, Array] = {}
    for part, head in heads.items():
        val, canvases = _of(rows, "val", part, cascade.release.preprocessing)
        truth[part], patients[part] = val.positive.to_numpy(), val.patient
        joined[part] = _calibrated(entry["stages"][part], cascade, part, name, canvases)
        layer = {k: v.double().numpy() for k, v in head.items()}
        pooled = _features(cascade, part, name, canvases).astype(float)
        raw[part] = (pooled @ layer["fc.weight"].T + layer["fc.bias"])[:, 0]
    for part, (temperature, bias) in calibrate.platt(raw, truth, share).items():
        _member(entry, part, name).update({"temperature": temperature, "bias": bias})
        new = raw[part] / temperature + bias
        joined[part] = np.column_stack([joined[part], new])
    weights = calibrate.member_weights(list(joined.values()), list(truth.values()))
    average = {part: logits @ weights for part, logits in joined.items()}
    for part, (temperature, bias) in calibrate.platt(average, truth, share).items():
        stage = entry["stages"][part]
        for member, weight in zip(stage["members"], weights[1:], strict=True):
            member["weight"] = float(weight)
        probability = quality.sigmoid(average[part], temperature, bias)
        stage["ensemble"] = {
            "temperature": temperature,
            "bias": bias,
            "operating_points": calibrate.operating_points(probability, truth[part]),
        }
        for title, score in zip(
            (RESNET50, *(m["name"] for m in stage["members"]), "ensemble"),
            (*joined[part].T, average[part]),
        ):
            estimate = metrics.bootstrap(metrics.auroc, truth[part], score, patients[part])
            log.info("validation: %s %s AUROC %s", part, title, estimate)
    log.info("weights: %s", ", ".join(f"{w:.2f}" for w in weights))


def _stage1(
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
    stage, file = base.stages[BODY_PART], _file_of(name)
    trunk, branch = (f"{entry['id']}/{n}{file}.safetensors" for n in ("", f"{BODY_PART}-"))
    classes = tuple(k for k in trained["kinds"] if k in stage.classes)
    real = rows[(rows.split == "val") & (rows.source != SIMULATED) & ~rows.part.isin(AMBIGUOUS)]
    val, canvases = load_canvases(real, base.preprocessing)
    own, seen = cascade.logits_and_features(BODY_PART, canvases)
    order = [trained["kinds"].index(k) for k in classes]
    layer = {k: trained["heads"][f"{BODY_PART}.{k}"][order] for k in ("weight", "bias")}
    head = release.half({f"fc.{k}": values for k, values in layer.items()})
    pooled = _features(cascade, _parts(entry)[0], name, canvases).astype(float)
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


def _calibrated(
    stage: dict[str, Any], cascade: Cascade, part: str, name: str, canvases: NDArray[np.uint8]
) -> Array:
    """Calibrated logits of the ResNet50 and of every member but the new one, NxK."""
    others = [("", stage), *((m["name"], m) for m in stage["members"] if m["name"] != name)]
    columns = []
    for member, read in others:
        logits = cascade.logits_and_features(part, canvases, member)[0][:, 0].astype(float)
        columns.append(logits / read.get("temperature", 1.0) + read.get("bias", 0.0))
    return np.column_stack(columns)


def _of(
    rows: pd.DataFrame, split: str, part: str, spec: Preprocessing
) -> tuple[pd.DataFrame, NDArray[np.uint8]]:
    return load_canvases(rows[(rows.split == split) & (rows.part == part)], spec)
