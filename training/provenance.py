"""How a run came to be: the commands behind it, read from the folders of the runs themselves."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any

AVERAGE = "average.json"
"""In a folder that ``average`` made: the commands behind it, as its runs may be gone."""


def commands(run: Path) -> list[str]:
    """The commands that give this run, the first one first; data sets without their folders."""
    from training import distill, fit, initial

    chain: list[str] = []
    folder: Path | None = run
    while folder is not None:
        if (folder / AVERAGE).exists():
            chain[:0] = json.loads((folder / AVERAGE).read_text(encoding="utf-8"))["commands"]
            break
        if (folder / "config.toml").exists():
            config, kind = tomllib.loads((folder / "config.toml").read_text()), "fit"
        elif (folder / "config.json").exists():
            config, kind = json.loads((folder / "config.json").read_text()), "distill"
        else:
            break
        if (folder / initial.BASE).exists():  # an alias names another release later
            known = json.loads((folder / initial.BASE).read_text(encoding="utf-8"))
            config["init"] = known["id"]
        settings = fit.Settings if kind == "fit" else distill.Settings
        chain.insert(0, command(kind, config, settings))
        init = config.get("init") or ""
        known = Path(init)
        folder = (known if known.is_dir() else known.parent) if "/" in init else None
    return chain


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
