"""What a run of ``fit --arch`` leaves behind for ``member`` and for ``distill``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from core.architectures import RESNET50
from core.transforms import Preprocessing
from training.data import DataInvalid
from training.phases import BODY_PART

NETWORKS = "networks.pt"
Layers: TypeAlias = dict[str, tuple[dict[str, Tensor], tuple[str, ...]]]
"""By part a linear layer (``weight``, ``bias``) and the names of its outputs."""


def refuse_member(config: Mapping[str, Any]) -> None:
    """Raise DataInvalid for a run whose ``config.toml`` says that it trained no cascade."""
    arch = config.get("arch", RESNET50)
    if arch != RESNET50:
        raise DataInvalid(
            f"This run trained a {arch}, no cascade: `python -m training member --init RUN` "
            "puts it beside one."
        )


def layers(found: Mapping[str, Any]) -> tuple[dict[str, Tensor], Layers]:
    """What ``trained`` gave, as ``initial.member`` gives a release's network."""
    heads: Layers = {}
    for part in {name.split(".")[0] for name in found["heads"]}:
        layer = {k: found["heads"][f"{part}.{k}"] for k in ("weight", "bias")}
        heads[part] = layer, tuple(found["kinds"]) if part == BODY_PART else ("positive",)
    return found["features"], heads


def of_kinds(found: dict[str, Any], kinds: Sequence[str]) -> dict[str, Any]:
    """What ``trained`` gave with these classes of stage 1, which it knows, in this order alone.

    Raises DataInvalid where it does not know one of them.
    """
    known = list(found["kinds"])
    if missing := [kind for kind in kinds if kind not in known]:
        raise DataInvalid(f"A network does not know the class {missing[0]} of stage 1.")
    if known == list(kinds) or f"{BODY_PART}.weight" not in found["heads"]:
        return found
    order = [known.index(kind) for kind in kinds]
    names = [f"{BODY_PART}.{k}" for k in ("weight", "bias")]
    heads = found["heads"] | {n: found["heads"][n][order] for n in names}
    return found | {"kinds": list(kinds), "heads": heads}


def trained(run: Path, arch: str, spec: Preprocessing | None = None) -> dict[str, Any]:
    """``networks.pt`` of a run: ``features`` and ``heads`` (state dicts), ``kinds``, ``size``.

    spec: what the network will be shown. Raises DataInvalid where the run has not ended, trained
    something else or on other pictures.
    """
    path = run / NETWORKS
    if not path.exists():
        raise DataInvalid(f"The run {run.name} has not come to its end: it has no {NETWORKS}.")
    found: dict[str, Any] = torch.load(path, weights_only=True)
    if found.get("arch") != arch:
        other = found.get("arch", "a cascade")
        raise DataInvalid(f"The run {run.name} trained {other}, not {arch}.")
    if spec is not None and (found["size"], found["focus"]) != (spec.size, spec.focus):
        raise DataInvalid(
            f"The run {run.name} saw pictures of {found['size']} pixels"
            f"{', cut to the limb' * found['focus']}, and the release shows its networks others."
        )
    return found
