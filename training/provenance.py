"""How a run came to be: commands and data behind it, read from the folders of the runs."""

from __future__ import annotations

import dataclasses
import json
import logging
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from training.data import DataInvalid, gather
from training.duplicates import ROWS

log = logging.getLogger(__name__)

AVERAGE = "average.json"
"""In a folder that ``average`` made: commands and sources behind it, as its runs may be gone."""


def commands(run: Path) -> list[str]:
    """The commands that give this run, the first one first; data sets without their folders."""
    from training import distill, fit

    made: list[str] = []
    for folder, kind, config in _chain(run):
        if kind == "average":
            made[:0] = config["commands"]
            continue
        known = _base(folder)  # an alias names another release later
        given = config | ({"init": known} if known else {})
        made.insert(0, command(kind, given, fit.Settings if kind == "fit" else distill.Settings))
    return made


def sources(run: Path) -> set[str]:
    """Of all pictures behind a run: its own, and those of what it began with or learned from.

    They are what its folder lists (ROWS), else what is in its data; of a release what its entry
    says. What is gone is told of in the log, as a licence may follow from it.
    """
    from training import initial, terms

    found: set[str] = set()
    for folder, kind, config in _chain(run):
        found |= {*config.get("sources", ())}
        began, teacher = _base(folder) or config.get("init") or "", config.get("teacher")
        try:
            if (folder / ROWS).exists():
                found |= {*pd.read_csv(folder / ROWS, dtype=str, keep_default_na=False).source}
            elif config.get("data"):
                found |= {*gather(config["data"]).source}
            if "/" not in began and began not in ("", "scratch", "imagenet"):
                found |= terms.sources(initial.find(began).training_data)
            elif (before := _before(config)) is not None and not before.exists():
                raise DataInvalid(f"There is no {before}.")
        except (OSError, DataInvalid) as error:
            log.warning("What %s was trained on is not all known: %s", folder, error)
        if kind == "average" and "sources" not in config:
            log.warning("What %s began with is not all known: it was made before.", folder)
        if teacher:
            learned = sources(Path(teacher))
            if not learned:
                log.warning("What the teacher of %s was trained on is not known.", folder)
            found |= learned
    return found


def _chain(run: Path) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """This run's folder and those of the runs that it began with, as far as they are there: folder,
    the command that made it and what that was given. A mean ends it: its runs may be gone."""
    folder: Path | None = run
    while folder is not None:
        if (folder / AVERAGE).exists():
            yield folder, "average", json.loads((folder / AVERAGE).read_text(encoding="utf-8"))
            return
        if (folder / "config.toml").exists():
            config = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
            yield folder, "fit", config
        elif (folder / "config.json").exists():
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            yield folder, "distill", config
        else:
            return
        folder = _before(config)


def _before(config: Mapping[str, Any]) -> Path | None:
    """The folder of what a run began with, where that is a folder or a file."""
    init = config.get("init") or ""
    known = Path(init)
    return (known if known.is_dir() else known.parent) if "/" in init else None


def _base(folder: Path) -> str | None:
    """Id of the release that a run began with."""
    from training import initial

    known = initial.base(folder)
    return known["id"] if known else None


def notes(run: Path) -> str:
    """What the commands do not tell, from ``NOTES.md`` in the run's folder; empty without one."""
    path = run / "NOTES.md"
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def command(kind: str, config: dict[str, Any], settings: type[Any]) -> str:
    """The command line with the options that differ from their defaults."""
    words = [f"python -m training {kind}"]
    for field in dataclasses.fields(settings):
        value = config.get(field.name, field.default)
        if value == field.default:
            continue
        flag = "--" + field.name.replace("_", "-")
        for one in value if isinstance(value, list | tuple) else [value]:
            words.append(f"{flag} {_portable(one) if field.name == 'data' else one}")
    return " ".join(words)


def _portable(specification: str) -> str:
    """``manifest:/any/where/manifest.csv`` -> ``manifest:manifest.csv``."""
    kind, colon, path = specification.partition(":")
    return f"{kind}:{Path(path).name}" if colon else Path(specification).name
