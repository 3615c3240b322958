"""A release with members of random weights beside its ResNet50."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from core import architectures, quality
from core.cascade import Cascade
from core.manifest import Release
from core.registry import Registry
from training import release

NAMES = {
    "EfficientNet-Lite2": architectures.LITE2,
    "Local network": architectures.LITE2_LOCAL,
    "Vision Transformer": architectures.VIT_TINY,
}
POINTS = [
    {"name": "sensitive", "threshold": 0.35, "sensitivity": 0.96, "specificity": 0.6, "n": 40},
    {"name": "specific", "threshold": 0.65, "sensitivity": 0.6, "specificity": 0.91, "n": 40},
]


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """With batch norms that do something, as in a network that has learned."""
    torch.manual_seed(seed)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight, 1.0, 0.1)
            nn.init.normal_(m.bias, 0.0, 0.2)
        elif isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_in")
    return module.eval()


def _begun(source: Path) -> tuple[Release, dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
    """The release of ``source``, and a manifest entry and tensors that can be added to."""
    registry = Registry.open(source)
    found = registry.find("champion")
    tensors = {path: release.half(state) for path, state in registry.load(found).items()}
    entry = {k: v for k, v in found.raw.items() if k not in ("files", "architecture")}
    entry["stages"] = json.loads(json.dumps(entry["stages"]))
    return found, entry, tensors


def with_space(source: Path, folder: Path, limit: float) -> None:
    """Write the release of ``source`` into ``folder`` with a feature space of random pictures."""
    found, entry, tensors = _begun(source)
    side = found.preprocessing.size
    drawn = np.random.default_rng(5).integers(0, 256, (12, side, side), dtype=np.uint8)
    seen = Cascade.load(source, device="cpu").logits_and_features("body_part", drawn)[1]
    space = quality.FeatureSpace.fit(seen, components=4)
    path = f"{found.id}/features.safetensors"
    arrays = {"mean": space.mean, "components": space.components, "scale": space.scale}
    tensors[path] = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()}
    entry["rejection"] = {"file": path, "residual": space.residual, "limit": limit}
    release.write(folder, entry, tensors)


def with_members(
    source: Path, folder: Path, *names: str, default: str = "fast", stage1: bool = False
) -> dict[str, Any]:
    """Write the release of ``source`` into ``folder`` with these members; its manifest entry.

    stage1: the last of them speaks of the body part too, of all kinds but the last.
    """
    found, entry, tensors = _begun(source)
    entry |= {"default": default, "architectures": {}}
    for n, name in enumerate(names):
        trunk, branch = (f"{found.id}/{NAMES[name]}{end}.safetensors" for end in ("", "-branch"))
        module = lively(architectures.make(NAMES[name], found.preprocessing), seed=n)
        size = found.preprocessing.size
        with torch.inference_mode():
            width = module(torch.zeros(1, 3, size, size)).shape[1]
        entry["architectures"][trunk] = NAMES[name]
        tensors[trunk] = release.half(module.state_dict())
        tensors[branch] = release.half(nn.Linear(width, 1).state_dict())
        tensors[branch] = {f"fc.{k}": v for k, v in tensors[branch].items()}
        for part, stage in entry["stages"].items():
            if part != "body_part":
                member = {"name": name, "trunk": trunk, "branch": branch, "temperature": 1.5}
                stage.setdefault("members", []).append(member | {"bias": 0.1, "weight": 0.25})
                stage["ensemble"] = {"operating_points": POINTS, "temperature": 0.9, "bias": 0.05}
        if stage1:
            stage = entry["stages"]["body_part"]
            classes = stage["classes"][:-1]
            path = f"{found.id}/{NAMES[name]}-kinds.safetensors"
            linear = release.half(nn.Linear(width, len(classes)).state_dict())
            tensors[path] = {f"fc.{k}": v for k, v in linear.items()}
            member = {"name": name, "trunk": trunk, "branch": path, "classes": classes}
            stage["members"] = [member | {"weight": 0.4}]
            stage["ensemble"] = {"temperature": 0.8, "other_shift": 0.1}
    release.write(folder, entry, tensors)
    return entry
