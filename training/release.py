"""Write a release: safetensors in half precision, the manifest entry, the model card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from core.registry import ARCHITECTURE, FORMAT, Registry
from training import files

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
    alias: str | None = "champion",
) -> str:
    """Write the files of one release, then the manifest that names them; returns the id.

    entry: the manifest entry without ``files`` and ``architecture``. tensors: state dicts by path
    relative to ``weights``. Raises ValueError where a file or the release is too large.
    """
    encoded = {path: save(dict(t)) for path, t in tensors.items()}
    sizes = {path: len(data) for path, data in encoded.items()}
    if max(sizes.values()) > MAX_FILE_BYTES or sum(sizes.values()) > MAX_RELEASE_BYTES:
        raise ValueError(f"The release is too large: {sizes}")
    for path, data in encoded.items():
        files.write_atomically(weights / path, lambda p, data=data: p.write_bytes(data))
    complete = {**entry, "architecture": ARCHITECTURE}
    complete["files"] = [
        {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for path, data in encoded.items()
    ]
    _add_to_manifest(weights, complete, alias)
    return str(complete["id"])


def _add_to_manifest(weights: Path, entry: Mapping[str, Any], alias: str | None) -> None:
    path = weights / "manifest.json"
    manifest: dict[str, Any] = {"format": FORMAT, "aliases": {}, "releases": []}
    if path.exists():
        Registry.open(weights)  # refuses a damaged manifest before it is overwritten
        manifest = json.loads(path.read_text(encoding="utf-8"))
    others = [r for r in manifest["releases"] if r["id"] != entry["id"]]
    manifest["releases"] = [*others, entry]
    if alias:
        manifest["aliases"][alias] = entry["id"]
    files.write_json(path, manifest)
