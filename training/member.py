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
from collections.abc import Sequence
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
from core import architectures, files
from core.cascade import Cascade
from core.engines import choice
from core.errors import SettingsInvalid
from core.manifest import Release
from core.registry import Registry
from core.transforms import Preprocessing
from core.types import Mode
from training import (
    candidate,
    candidate_folder,
    initial,
    joining,
    learned,
    networks,
    provenance,
    regression,
    release,
    taken,
    terms,
)
from training.augment import vary
from training.config import DATA, HELP, option
from training.crossfit import CrossFitted
from training.data import (
    SIMULATED,
    DataInvalid,
    read_all,
    split_hash,
)
from training.duplicates import ROWS, settle_as, write_list
from training.phases import BODY_PART

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


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
    release: str = option(core.settings.CHAMPION, "which release of --base")
    id: str = option("", "id of the new release; without one that of the base")
    name: str = option("", "name of the member; without one that of the architecture")
    duplicates: str = option("drop", "what becomes of pictures with a copy in another split")
    views: int = option(4, "views of each training picture: as it is, mirrored, then varied")
    default: str = option(Mode.FAST, f"default mode of the release: {' or '.join(Mode)}")
    alone: int = option(
        0,
        "1: the member alone gives a finding; where another one contradicts it, it is doubtful",
    )
    seed: int = option(0, "random seed of the varied views")

    def __post_init__(self) -> None:
        if self.arch not in architectures.NAMES or self.arch == architectures.RESNET50:
            raise SettingsInvalid(f"There is no architecture {self.arch!r} for a member.")
        if self.default not in [*Mode]:
            raise SettingsInvalid(f"The default must be {' or '.join(Mode)}, not {self.default!r}.")
        if self.views < 1:
            raise SettingsInvalid("Each picture needs at least one view.")


TITLES = {
    architectures.LITE2: "EfficientNet-Lite2",
    architectures.LITE2_LOCAL: "Local network",
    architectures.VIT_TINY: "Vision Transformer",
    architectures.VIT_SMALL: "Vision Transformer",
}


def build(settings: Settings, program: core.settings.Settings) -> Path:
    """Write ``out/candidate``: the release with one more member, and return that folder.

    A member of the same name takes the place of the one before. program: whose engine runs the
    networks. Raises DataInvalid where a part has too few pictures of either label, and where
    ``out`` is the folder of a run.
    """
    settings = _with_run(settings)
    provenance.refuse_run(Path(settings.out), provenance.MEMBER, (settings.base, settings.init))
    registry, base = _base(settings)
    run = Path(settings.init) if settings.init and Path(settings.init).is_dir() else None
    trained = networks.trained(run, settings.arch, base.preprocessing) if run else None
    folds = CrossFitted.of(run) if run else None
    entry, tensors = _begun(settings, registry, base, trained)
    name = settings.name or TITLES[settings.arch]
    data, settled = _settled(settings)
    rows = _labelled(settled, entry)
    val = settled[settled.split.eq("val") & settled.source.ne(SIMULATED)]
    _refuse_taught(settings, base, None if folds else run, val)
    if folds:
        folds.refuse_taught(rows)
    behind = provenance.sources(run) if run else set()
    entry["training_data"] = base.training_data | {
        "sources": sorted({*base.training_data.get("sources", ()), *settled.source, *behind}),
        "commands": [
            *base.training_data.get("commands", ()),
            *(provenance.commands(run) if run else ()),
            provenance.command("member", asdict(settings), Settings),
        ],
    }
    notes = [base.training_data.get("notes", ""), provenance.notes(run) if run else ""]
    said = [learned.thresholds_note(Path(settings.base), val, base.training_data)]
    if run and not folds:
        said.append(learned.thresholds_note(run, val, {"sources": behind}))
    entry["training_data"]["notes"] = _told(notes, said)
    entry["licence"] = terms.licence(entry["training_data"])
    with candidate_folder.building(Path(settings.out)) as folder:
        release.write(folder, entry, tensors)
        loaded = Cascade.load(folder, device=program.device)
        cascade, why = choice.choose(loaded, program.engine, program.home, convert=True, many=True)
        log.info("%s: %s", cascade.engine.description, why)
        heads: dict[str, dict[str, Tensor]] = {}
        for part in candidate.parts_of(entry):
            if trained:
                heads[part] = _trained_head(trained["heads"], part, settings.init)
            else:
                train, canvases = joining.canvases_of(rows, "train", part, base.preprocessing)
                heads[part] = _head(cascade, part, name, train, canvases, settings)
            tensors[joining.member_of(entry, part, name)["branch"]] = heads[part]
        spec = base.preprocessing
        scales = folds.matched(trained, settled, [*heads], spec) if folds and trained else {}
        flip, alone = base.flip_average, bool(settings.alone)
        new = joining.NewMember(name, trained, heads, folds, scales, alone, flip)
        joining.findings(entry, cascade, new, rows)
        if trained and f"{BODY_PART}.weight" in trained["heads"]:
            path, head = joining.body_part(entry, base, cascade, new, trained, settled)
            tensors[path] = head
        release.write(folder, entry, tensors)
        # Not into the run yet: the list and the record there are those of the candidate before.
        beside = folder / candidate_folder.BESIDE
        write_list(data, settled, beside / ROWS)  # for ``release``, see ``learned``
        _record(settings, base, entry["training_data"], beside)
    return Path(settings.out) / "candidate"


def _refuse_taught(settings: Settings, base: Release, run: Path | None, val: pd.DataFrame) -> None:
    """Raise DataInvalid where what is to calibrate taught one of the networks.

    run: of the new one, but for a mean of folds, which has answers of its own (``crossfit``). val:
    the rows that are to calibrate.
    """
    if dealt := provenance.dealt(settings.data):
        raise DataInvalid(
            f"This is one fold of {dealt[0]!r}: its validation taught the networks beside it. Give "
            "the data that was dealt."
        )
    whole = base.in_mode(base.largest_mode)
    # The lists behind a base with such a network name validation as what taught that one.
    for folder in filter(None, (run, None if whole.cross_fitted else Path(settings.base))):
        learned.refuse_taught(folder, val)
    name = settings.name or TITLES[settings.arch]
    ensembles = [stage.ensemble for stage in whole.stages.values() if stage.ensemble]
    if any(m.cross_fitted and m.name != name for one in ensembles for m in one.members):
        raise DataInvalid(
            f"Validation taught a network of release {base.id} (cross-fitting), so it can choose "
            "no thresholds beside it. Give its name as --name, and it is replaced."
        )
    for release_id in learned.releases_behind(run) if run else ():
        begun = initial.find(release_id)
        if begun.in_mode(begun.largest_mode).cross_fitted:
            raise DataInvalid(
                f"{run} began with release {release_id}, which validation taught too "
                "(cross-fitting): it can choose no thresholds for it."
            )


def _told(notes: Sequence[str], said: Sequence[str]) -> str:
    """The notes as they are, and what is said of the new one where they do not say it already."""
    told = list(notes)
    for sentence in said:
        if not any(sentence in note for note in told):
            told.append(sentence)
    return "\n\n".join(filter(None, told))


def _with_run(settings: Settings) -> Settings:
    """A base that is the candidate's own folder as the run that it is of: what it has learned from
    lies there."""
    folder = Path(settings.base)
    if folder.name == "candidate" and provenance.record(folder.parent) is not None:
        return replace(settings, base=str(folder.parent))
    return settings


def _record(settings: Settings, base: Release, made: dict[str, Any], folder: Path) -> None:
    """Write what the new release began with, for whoever asks what it has learned from."""
    of_run = (Path(settings.base) / "candidate").is_dir()
    record = {"base": settings.base} if of_run else {"began": [*terms.sources(base.training_data)]}
    record |= {"init": settings.init} | {k: made[k] for k in ("sources", "commands")}
    files.write_json(folder / provenance.MEMBER, record)


def _base(settings: Settings) -> tuple[Registry, Release]:
    found = candidate_folder.of(Path(settings.base))
    registry = Registry.open(found if found.is_dir() else Path(settings.base))
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
    file = joining.file_of(name)
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
    for part in candidate.parts_of(entry):
        stage, branch = entry["stages"][part], f"{release_id}/{part}-{file}.safetensors"
        others = [m for m in stage.get("members", ()) if m["name"] != name]
        stage["members"] = [*others, {"name": name, "trunk": trunk, "branch": branch}]
        stage["ensemble"] = {"operating_points": stage["operating_points"]}
        for member in stage["members"]:
            member["weight"] = 1 / (1 + len(stage["members"]))
        tensors[branch] = {"fc.weight": torch.zeros(1, width), "fc.bias": torch.zeros(1)}
    first = entry["stages"][BODY_PART]
    if any(m["trunk"] == trunk for m in first.get("members", ())):
        # Its layer read another extractor; where the new one knows body parts,
        # `joining.body_part` adds it.
        del first["members"], first["ensemble"]
        log.info("stage 1: %s is not asked any more", name)
    used = taken.used(entry)
    return entry, {p: t for p, t in tensors.items() if p in used}


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
    known = rows[
        rows.part.isin(candidate.parts_of(entry)) & rows.positive.notna() & rows.split.ne("test")
    ]
    known = known[known.source != SIMULATED]
    for split in ("train", "val"):
        counts = known[known.split == split].groupby("part").positive.nunique()
        missing = [p for p in candidate.parts_of(entry) if counts.get(p, 0) < 2]
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


def _head(
    cascade: Cascade,
    part: str,
    name: str,
    rows: pd.DataFrame,
    canvases: NDArray[np.uint8],
    settings: Settings,
) -> dict[str, Tensor]:
    """A linear layer for one part's member, fitted on all views of its training pictures."""
    found = [joining.features(cascade, part, name, v) for v in views(canvases, settings)]
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
