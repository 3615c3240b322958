"""Runs of ``fit --arch`` from one start -> one network with the mean of their weights.

Networks that were fine-tuned from the same weights stay near enough to each other for that, and
their mean is often better and steadier than each of them (Wortsman et al. 2022, arXiv:2203.05482),
at the price of one. The release that they began with may be one of them. Which go in is chosen on
the validation split, like everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core import files
from core.architectures import RESNET50
from training import initial, networks, provenance, terms
from training.config import read_record
from training.data import PARTS, DataInvalid
from training.duplicates import ROWS
from training.networks import NETWORKS
from training.phases import BODY_PART, OTHER


def build(runs: Sequence[str], out: Path) -> Path:
    """Write ``out/networks.pt``, for ``member --init OUT`` and ``distill --teacher OUT``.

    runs: folders of runs, and at most once the id of the release that all of them began with.
    Raises DataInvalid for fewer than two networks or no run among them, for what ``mean`` refuses,
    and where ``out`` is the folder of a run.
    """
    folders = [run for run in runs if not _names_release(run)]
    if len(set(runs)) < 2 or not folders:
        raise DataInvalid("A mean takes at least two runs, or a run and the release it began with.")
    provenance.refuse_run(out, provenance.AVERAGE, runs)
    found = mean(runs)
    out.mkdir(parents=True, exist_ok=True)
    # What several runs began with once.
    made = list(dict.fromkeys(c for run in folders for c in provenance.commands(Path(run))))
    # Its id and what it was trained on: an alias, and the release itself, may be gone later.
    released = {run: initial.find(run) for run in runs if run not in folders}
    names = " ".join(released[run].id if run in released else run for run in runs)
    made.append(f"python -m training average {names} --out {out}")
    behind = sorted(set().union(*(provenance.sources(Path(run)) for run in folders)))
    began = sorted(set().union(*(terms.sources(r.training_data) for r in released.values())))
    record = {"runs": folders, "releases": [r.id for r in released.values()], "began": began}
    record |= {"commands": made, "sources": behind}
    files.write_json(out / provenance.AVERAGE, record)
    seen = {(Path(run) / ROWS).read_bytes() for run in folders if (Path(run) / ROWS).exists()}
    if len(seen) == 1:  # of the same pictures
        (out / ROWS).write_bytes(seen.pop())
    else:
        (out / ROWS).unlink(missing_ok=True)  # that of a mean which was here before
    files.save_checkpoint(out / NETWORKS, found)
    return out / NETWORKS


def mean(runs: Sequence[str]) -> dict[str, Any]:
    """What ``networks.pt`` holds (``training.networks``), of the mean; of one, its own.

    A part that a release among them does not know is left out. Raises DataInvalid for a run that
    has not ended, and for runs that began with other weights, know other classes or parts or saw
    other pictures.
    """
    folders = [run for run in runs if not _names_release(run)]
    like = _trained(Path(folders[0])) if folders else None
    found = [_released(run, like) if _names_release(run) else _trained(Path(run)) for run in runs]
    found = _alike(found)
    first = next(one for one, run in zip(found, runs) if run in (folders or runs))
    for run, other in zip(runs, found):
        for name in ("arch", "init", "kinds", "size", "focus", "parts"):
            if other[name] != first[name]:
                raise DataInvalid(
                    f"{run} has {name} {other[name]} and {(folders or runs)[0]} {first[name]}: the "
                    "mean of their weights would be no network."
                )
    shared = set.intersection(*(set(one["heads"]) for one in found))
    for one in found:
        one["heads"] = {k: v for k, v in one["heads"].items() if k in shared}
    means = {kind: _mean([one[kind] for one in found]) for kind in ("features", "heads")}
    return {name: first[name] for name in ("arch", "size", "focus", "kinds")} | means


def _alike(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """With the classes of stage 1 that all know, in the first one's order: of a body part with some
    ten training pictures one fold has enough for a class of its own and another not."""
    shared = [k for k in found[0]["kinds"] if all(k in one["kinds"] for one in found)]
    needed = {*PARTS, OTHER}
    if any({*one["kinds"]} & needed - {*shared} for one in found):
        return list(found)  # as they are, to be refused
    return [networks.of_kinds(one, shared) for one in found]


def _names_release(run: str) -> bool:
    return not Path(run).is_dir()


def _trained(run: Path) -> dict[str, Any]:
    """``networks.pt`` of a run, and what its network began with."""
    path = run / "config.toml"
    config = read_record(path) if path.exists() else {}
    found = networks.trained(run, str(config.get("arch", "")))
    began = initial.base(run)  # an alias may name another release by now
    init = began["id"] if began else config.get("init")
    return found | {"init": init, "parts": sorted(found["heads"])}


def _released(name: str, like: dict[str, Any] | None) -> dict[str, Any]:
    """A release's network as if it were a run, with the outputs in the order of the run ``like``.

    Raises DataInvalid where there is no such release, it has no such network, or without a run to
    tell which it has none but a ResNet50.
    """
    release = initial.find(name)
    arch = like["arch"] if like else next(iter(release.architectures.values()), RESNET50)
    features, layers = initial.member(release.id, arch)
    kinds = tuple(like["kinds"]) if like else ()
    if BODY_PART in layers:
        layer, own = layers[BODY_PART]
        if set(own) == set(kinds):
            order = [own.index(kind) for kind in kinds]
            layers[BODY_PART] = {k: v[order] for k, v in layer.items()}, kinds
        kinds = layers[BODY_PART][1]
    heads = {f"{p}.{k}": v for p, (layer, _) in layers.items() for k, v in layer.items()}
    parts = sorted(heads)
    return {
        "arch": arch,
        "init": release.id,
        "kinds": list(kinds),
        "size": release.preprocessing.size,
        "focus": bool(release.preprocessing.focus),
        "features": features,
        "heads": heads,
        "parts": like["parts"] if like and set(parts) <= set(like["parts"]) else parts,
    }


def _mean(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Of state dicts with the same names; what is counted and not weighed is the first one's."""
    first = states[0]
    return {
        name: torch.stack([s[name].float() for s in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in first.items()
    }
