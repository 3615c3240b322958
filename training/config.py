"""``config.toml`` of a run: what it is made with, and what of that may change when it goes on."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, TypeVar

import torch

from core import files
from training.data import DataInvalid
from training.phases import SETTINGS, passes

T = TypeVar("T")

NAME = "config.toml"
HELP = "help"
"""Where a field of a settings class has its meaning, for the command's ``--help``."""
DATA = {
    HELP: "mura:DIR, fracatlas:DIR, manifest:FILE.csv or folder:DIR; may be given several times"
}
OUT = {HELP: "folder of the run"}
"""The meaning of fields that several settings classes have."""
KEPT = ("arch", "init", "only", "size", "focus", "split_sha256")
"""What a run that goes on has as it began, whatever it has done so far."""
FREE = ("data", "out", "device", "minutes_between_checkpoints")
"""What is no part of what comes out: where things lie (KEPT has the split) and who computes."""


def option(default: T, meaning: str) -> T:
    """A field of a settings class (a dataclass) with a default and its meaning."""
    return field(default=default, metadata={HELP: meaning})


def refuse_another(folder: Path, made: Mapping[str, Any]) -> None:
    """Raise DataInvalid where the folder holds a run that one with these settings is not.

    Until a phase is done its numbers of pictures and rates may change, and until the first is done
    all but KEPT; what a phase was trained with stays, as the record of the run says so.
    """
    path = folder / NAME
    known = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    differs = [n for n in made if n not in FREE and known.get(n, made[n]) != made[n]]
    for name in differs:
        if name in KEPT or name in used(folder, known):
            raise DataInvalid(
                f"{folder} holds a run with {name} {known[name]}, not {made[name]}; give another "
                "--out."
            )


def used(folder: Path, settings: Mapping[str, Any]) -> set[str]:
    """The names of the settings that went into the phases that a run has done."""
    phases = passes(settings)
    done = set(phases) if (folder / "networks.pt").exists() else set()
    if not done and (path := folder / "checkpoint.pt").exists():
        done = {*torch.load(path, weights_only=True, mmap=True, map_location="cpu")["done"]}
    if not done:
        return set()
    of_phases = {name: _settings_of(name) for name in (*SETTINGS, *phases)}
    open_still = set().union(*(names for p, names in of_phases.items() if p not in done))
    closed = set().union(*(of_phases[p] for p in done))
    return {*settings} - {*FREE} - (open_still - closed)


def _settings_of(phase: str) -> set[str]:
    count = SETTINGS.get(phase, "branch_passes")
    return {count, count.replace("passes", "rate")}


def write(folder: Path, settings: Mapping[str, Any], split_sha256: str) -> None:
    """Raises DataInvalid where the folder holds a run on another split."""
    refuse_another(folder, {"split_sha256": split_sha256})
    lines = [f"{k} = {json.dumps(v)}" for k, v in settings.items()]
    text = "\n".join([*lines, f'split_sha256 = "{split_sha256}"']) + "\n"
    files.write_atomically(folder / NAME, lambda p: p.write_text(text))
