"""Write a release: safetensors in half precision, the manifest entry, the model card."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from core import files
from core.manifest import architecture_of
from core.optional import without_parts
from core.registry import Registry
from core.settings import CHAMPION
from training import candidate_folder, catalogue, measured
from training.card import model_card

log = logging.getLogger(__name__)
MAX_FILE_BYTES = 40 * 2**20
MAX_RELEASE_BYTES = 150 * 2**20


def half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """float16 for what is convolved or multiplied, float32 for norms and biases.

    Variances and statistics span more orders of magnitude than float16 holds, and are small.
    """
    out = {}
    for name, t in tensors.items():
        if name.endswith("num_batches_tracked"):
            continue
        out[name] = t.detach().cpu().to(torch.float16 if t.ndim > 1 else torch.float32).contiguous()
    return out


def write(
    weights: Path,
    entry: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    alias: str | None = CHAMPION,
) -> str:
    """Write the files of one release, then the manifest that names them; returns the id.

    entry: the manifest entry without ``files`` and ``architecture``. tensors: state dicts by path
    relative to ``weights``. Raises ReleaseRefused where a file or the release, without what only
    its optional parts need, is too large.
    """
    encoded = {path: save(dict(t)) for path, t in tensors.items()}
    sizes = {path: len(data) for path, data in encoded.items()}
    if max(sizes.values()) > MAX_FILE_BYTES or needed_bytes(entry, sizes) > MAX_RELEASE_BYTES:
        raise catalogue.ReleaseRefused(f"The release is too large: {sizes}")
    for path, data in encoded.items():
        files.write_atomically(weights / path, partial(Path.write_bytes, data=data))
    complete = {**entry, "architecture": architecture_of(entry)}
    complete["files"] = [
        {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for path, data in encoded.items()
    ]
    _add_to_manifest(weights, complete, alias)
    return str(complete["id"])


def needed_bytes(entry: Mapping[str, Any], sizes: Mapping[str, int]) -> int:
    """The bytes of the files that a release cannot do without; sizes: of each by its path."""
    listed = {**entry, "files": [{"path": path} for path in sizes]}
    optional = [name for name, stage in entry["stages"].items() if stage.get("optional")]
    return sum(sizes[f["path"]] for f in without_parts(listed, optional)["files"])


def publish(run: Path, weights: Path, alias: str, optional: Sequence[str] = ()) -> str:
    """Copy ``run/candidate`` to ``weights`` with its test figures and its model card.

    The figures are those of ``run/test`` (``measured.of_candidate``), and the rows behind them go
    with them (``measured.ship``). The old champion stays as ``previous``, so that rolling back is
    one step; what ``previous`` (or another alias) named before is removed where no alias names it
    any more. optional: parts without whose files the release is used too. Returns the id; raises
    WeightsInvalid for a damaged candidate, ReleaseRefused where there is a release of its id, where
    it has no fracture model or one that is not calibrated and for a part that it does not have, and
    FiguresInvalid for figures that are missing or of another release.
    """
    source = Registry.open(candidate_folder.of(run))
    found = source.find(CHAMPION)
    catalogue.refuse_unfit(found)
    entry = {k: v for k, v in found.raw.items() if k != "files"}
    entry["metrics"] = measured.of_candidate(run, found)
    for part in optional:
        if part not in found.parts:
            raise catalogue.ReleaseRefused(f"Release {found.id} has no part {part!r}.")
        entry["stages"][part] = entry["stages"][part] | {"optional": True}
    tensors = {p: load(source.read(f)) for p, f in found.files.items()}
    with catalogue.locked(weights):
        catalogue.refuse_taken(weights, found.id)
        replaced = _replaced(weights, alias, found.id)
        for sentence in catalogue.lost(weights, found, alias):
            log.warning("%s", sentence)
        write(weights, entry, tensors, alias)
        card = model_card(Registry.open(weights).find(alias))
        files.write_atomically(weights / found.id / "MODEL_CARD.md", lambda p: p.write_text(card))
        measured.ship(run, weights / found.id)
        _remove(weights, replaced)
    return found.id


def _replaced(weights: Path, alias: str, release_id: str) -> str:
    """The release that loses its name when ``alias`` takes ``release_id``; "" where none does."""
    if not (weights / "manifest.json").exists():
        return ""
    aliases = Registry.open(weights).aliases
    before = aliases.get(alias, "")
    if alias != CHAMPION or before in ("", release_id):
        return before
    return aliases.get(catalogue.PREVIOUS, "")


def _remove(weights: Path, release_id: str) -> None:
    """Take one release out where no alias names it: its entry, and what lies in its own folder and
    no other release lists. Others without an alias stay: somebody added them to compare."""
    with catalogue.changing(weights) as manifest:
        gone = [r for r in manifest["releases"] if r["id"] == release_id]
        if not gone or release_id in manifest["aliases"].values():
            return
        manifest["releases"] = [r for r in manifest["releases"] if r["id"] != release_id]
    # first the list, then the files: never a listed file missing
    folder = (weights / release_id).resolve()
    if folder.parent != weights.resolve():
        return
    used = {f["path"] for r in manifest["releases"] for f in r.get("files", ())}
    beside = {f"{release_id}/MODEL_CARD.md", f"{release_id}/{measured.SCORES}"}
    listed = {f["path"] for f in gone[0]["files"]} | beside
    for name in listed - used:
        if (weights / name).resolve().is_relative_to(folder):
            (weights / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _add_to_manifest(weights: Path, entry: Mapping[str, Any], alias: str | None) -> None:
    with catalogue.changing(weights) as manifest:
        others = [r for r in manifest["releases"] if r["id"] != entry["id"]]
        manifest["releases"] = [*others, entry]
        if alias:
            before = manifest["aliases"].get(alias, "")
            if alias == CHAMPION and before not in ("", entry["id"]):
                manifest["aliases"][catalogue.PREVIOUS] = before
            manifest["aliases"][alias] = entry["id"]
