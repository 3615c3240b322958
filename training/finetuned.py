"""From a run that trained one branch of a release to a candidate: that release with this branch.

The branch may be of a part that the release has none for: then it has one more. Everything else
comes from the release as it is, byte for byte: trunk, other branches, their temperatures and
operating points, and what stage 1 takes for a radiograph. Only the networks that stood beside the
branch in an ensemble are left out: their weights were fitted to the one before. The thresholds of
the trained branch lean on the other parts as far as the data has validation pictures of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load
from torch import Tensor

from core.cascade import Cascade
from core.errors import WeightsInvalid
from core.manifest import Release
from core.registry import Registry
from training import (
    candidate,
    candidate_folder,
    initial,
    learned,
    provenance,
    release,
    taken,
    terms,
)
from training.data import SIMULATED, DataInvalid, load_canvases, read_all
from training.duplicates import ROWS, settle_once
from training.phases import BODY_PART


def build(run: Path, release_id: str, config: dict[str, Any]) -> Path:
    """Write ``run/candidate``; the trained branch is calibrated on the validation split.

    Raises DataInvalid where the release that the run began with is gone or has changed, and where
    the trained branch is no better than chance.
    """
    registry, base = _base(run)
    only, rows = str(config["only"]), read_all(config["data"])
    trained = rows if only == BODY_PART else rows[(rows.part == only) & rows.positive.notna()]
    kept = settle_once(trained, run / ROWS)
    real = kept[(kept.split == "val") & (kept.source != SIMULATED)]
    if only != BODY_PART:
        real = pd.concat([real, _lenders(rows, base, only)])
    learned.refuse_taught(run, real)
    paths = taken.paths(base, release_id)
    tensors = {paths[p]: load(registry.read(f)) for p, f in base.files.items()}
    entry = _entry(base, release_id, paths, only)
    tensors[entry["stages"][only]["branch"]] = _trained(run, only)
    entry["training_data"] = candidate.training_data(rows) | {
        "commands": [
            *base.training_data.get("commands", []),
            *provenance.commands(run),
        ],
        "base": {"id": base.id, "sha256": base.sha256, "training_data": base.training_data},
    }
    told = _notes(base, only, run), learned.thresholds_note(run, real, entry["training_data"])
    entry["training_data"]["notes"] = "\n\n".join(filter(None, told))
    entry["licence"] = terms.licence(entry["training_data"])
    entry["intended_use"] = terms.intended_use(entry["stages"])
    used = taken.used(entry)
    tensors = {p: t for p, t in tensors.items() if p in used}
    with candidate_folder.building(run) as folder:
        release.write(folder, entry, tensors)
        cascade = Cascade.load(folder)
        val, canvases = load_canvases(real, cascade.release.preprocessing)
        if only == BODY_PART:
            candidate.calibrate_body_part(entry, cascade, val, canvases)
            space = candidate.features(entry, cascade, kept, val, canvases)
            tensors[entry["rejection"]["file"]] = space
        else:
            share = candidate.share_of_positives(kept)
            candidate.calibrate_parts(entry, cascade, val, canvases, share, (only,))
            if only not in entry["stages"]:
                raise DataInvalid(
                    f"The branch {only} is no better than chance on validation, so no candidate "
                    f"is made of it; release {base.id} stays as it is."
                )
        release.write(folder, entry, tensors)
    return run / "candidate"


def _base(run: Path) -> tuple[Registry, Release]:
    """The release that the run began with."""
    known = initial.base(run)
    try:
        registry = initial.installed()
        found = registry.find(known["id"] if known else "")
    except WeightsInvalid as error:
        raise DataInvalid(f"The release that this run began with is gone. {error}") from error
    if known and found.sha256 != known["sha256"]:
        raise DataInvalid(f"Release {found.id} is not the one that this run began with.")
    return registry, found


def _trained(run: Path, only: str) -> dict[str, Tensor]:
    trained = torch.load(run / "networks.pt", weights_only=True)
    return release.half(trained["networks"][only])


def _entry(base: Release, release_id: str, paths: dict[str, str], only: str) -> dict[str, Any]:
    """The release's entry under another id; of the trained stage what calibration will give.

    Members beside the branch that was trained are left out (``python -m training member`` fits
    them again).
    """
    entry = taken.entry(base, release_id, paths)
    known = entry["stages"].get(only) or entry["stages"][BODY_PART] | {"classes": ["positive"]}
    kept = {k: known[k] for k in ("trunk", "classes")}
    trained = f"{release_id}/{only}.safetensors"
    others = {s["branch"] for name, s in entry["stages"].items() if name != only}
    while trained in others:  # where branches share a file
        trained = trained.replace(".safetensors", "-trained.safetensors")
    entry["stages"][only] = kept | {"branch": trained}
    if only not in (*base.stages, BODY_PART):
        entry["stages"][only]["optional"] = True  # else the whole is too large
    return entry


def _lenders(rows: pd.DataFrame, base: Release, only: str) -> pd.DataFrame:
    """Labelled radiographs of validation of the release's other parts, on which the thresholds of
    the trained one lean: whether they are copies of its own matters to no figure of that part."""
    others = rows.part.isin(base.parts) & rows.part.ne(only) & rows.positive.notna()
    return rows[others & rows.split.eq("val") & rows.source.ne(SIMULATED)]


def _notes(base: Release, only: str, run: Path) -> str:
    what = "stage 1" if only == BODY_PART else f"the branch {only}"
    how = f"{what} trained further" if only in base.stages else f"a fracture model of the {only}"
    said = f"Release {base.id} with {how}; everything else is that release's."
    beside = base.in_mode(base.largest_mode).stages.get(only)
    if beside is not None and beside.ensemble is not None:
        names = " and ".join(m.name for m in beside.ensemble.members)
        said += f" {names}, which stood beside it there, is left out."
    return "\n\n".join(t for t in (said, provenance.notes(run)) if t)
