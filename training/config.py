"""``config.toml`` of a run: what it is made with, and what of that may change when it goes on."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, field, fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from core import files
from training.data import DataInvalid
from training.phases import SETTINGS, passes
from training.sources import SPECIFICATIONS

T = TypeVar("T")

NAME = "config.toml"
HELP = "help"
"""Where a field of a settings class has its meaning, for the command's ``--help``."""
DATA = {HELP: SPECIFICATIONS}
OUT = {HELP: "folder of the run"}
"""The meaning of fields that several settings classes have."""
KEPT = ("arch", "init", "only", "size", "focus", "freeze", "strangers")
"""What a run that goes on has as it began, whatever it has done so far, beside its split."""
FREE = ("data", "out", "device", "minutes_between_checkpoints")
"""What is no part of what comes out: where things lie (the split stays, see ``write``) and who
computes."""


def option(default: T, meaning: str) -> T:
    """A field of a settings class (a dataclass) with a default and its meaning."""
    return field(default=default, metadata={HELP: meaning})


def read_record(path: Path) -> dict[str, Any]:
    """What a command noted in the folder of a run, TOML or JSON by the file's name.

    Raises DataInvalid for a file that is no record, and OSError where there is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("It is no table of names and values.")
    except ValueError as error:
        raise DataInvalid(f"{path} is damaged.") from error
    return found


def settings_of(path: Path, settings: type[Any]) -> dict[str, Any]:
    """The settings of a run by its record. One without a line there is newer than the run, which
    went as its default says."""
    defaults = {f.name: f.default for f in fields(settings) if f.default is not MISSING}
    return defaults | read_record(path)


def refuse_changed(
    folder: Path, known: Mapping[str, Any], made: Mapping[str, Any], stays: Callable[[str], bool]
) -> None:
    """Raise DataInvalid where the run in the folder, which is known by these settings, has another
    value of one that ``stays``."""
    for name, value in made.items():
        if known.get(name, value) != value and stays(name):
            raise DataInvalid(
                f"{folder} holds a run with {name} {known[name]}, not {value}; give another --out."
            )


def refuse_another(folder: Path, settings: Any) -> None:
    """Raise DataInvalid where the folder holds a run that one with these settings is not.

    Until a phase is done its numbers of pictures and rates may change, and until the first is done
    all but KEPT; what a phase was trained with stays, as the record of the run says so.
    """
    if not (folder / NAME).exists():
        return
    known = settings_of(folder / NAME, type(settings))
    refuse_changed(
        folder,
        known,
        asdict(settings),
        lambda name: name not in FREE and (name in KEPT or name in used(folder, known)),
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
    known = read_record(folder / NAME) if (folder / NAME).exists() else {}
    refuse_changed(folder, known, {"split_sha256": split_sha256}, lambda _: True)
    lines = [f"{k} = {json.dumps(v)}" for k, v in settings.items()]
    text = "\n".join([*lines, f'split_sha256 = "{split_sha256}"']) + "\n"
    files.write_atomically(folder / NAME, lambda p: p.write_text(text))
