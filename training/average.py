"""Runs of ``fit --arch`` from one start -> one network with the mean of their weights.

Networks that were fine-tuned from the same weights stay near enough to each other for that, and
their mean is often better and steadier than each of them (Wortsman et al. 2022, arXiv:2203.05482),
at the price of one. Which runs go in is chosen on the validation split, like everything.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core import files
from training import networks, provenance
from training.data import DataInvalid
from training.networks import NETWORKS


def build(runs: Sequence[Path], out: Path) -> Path:
    """Write ``out/networks.pt``, for ``member --init OUT`` and ``distill --teacher OUT``.

    Raises DataInvalid for fewer than two runs, for one that has not ended, for runs that began
    with other weights, know other classes or parts or saw other pictures, and where ``out`` is
    the folder of a run.
    """
    if len(runs) < 2:
        raise DataInvalid("A mean takes at least two runs.")
    if (out / "config.toml").exists() or (out / "config.json").exists():
        raise DataInvalid(f"{out} holds a run; give another --out.")
    first, *others = (_trained(run) for run in runs)
    for run, other in zip(runs[1:], others):
        for name in ("arch", "init", "kinds", "size", "focus", "parts"):
            if other[name] != first[name]:
                raise DataInvalid(
                    f"{run} has {name} {other[name]} and {runs[0]} {first[name]}: the mean of "
                    "their weights would be no network."
                )
    means = {kind: _mean([one[kind] for one in (first, *others)]) for kind in ("features", "heads")}
    kept = {name: first[name] for name in ("arch", "size", "focus", "kinds")}
    out.mkdir(parents=True, exist_ok=True)
    made = [c for run in runs for c in provenance.commands(run)]
    names = " ".join(str(run) for run in runs)
    made.append(f"python -m training average {names} --out {out}")
    files.write_json(out / provenance.AVERAGE, {"commands": made})
    files.save_checkpoint(out / NETWORKS, kept | means)
    return out / NETWORKS


def _trained(run: Path) -> dict[str, Any]:
    """``networks.pt`` of a run, and what its network began with."""
    path = run / "config.toml"
    config = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found = networks.trained(run, str(config.get("arch", "")))
    return found | {"init": config.get("init"), "parts": sorted(found["heads"])}


def _mean(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Of state dicts with the same names; what is counted and not weighed is the first one's."""
    first = states[0]
    return {
        name: torch.stack([s[name].float() for s in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in first.items()
    }
