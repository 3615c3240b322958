"""How a run came to be: commands and data behind it, read from the folders of the runs."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.config import read_record
from training.data import DataInvalid, gather
from training.duplicates import ROWS, read_list

log = logging.getLogger(__name__)

FOLDS = "folds.json"
"""Beside manifests that ``folds`` wrote: the command."""
AVERAGE, MEMBER = "average.json", "member.json"
"""In a folder that ``average`` or ``member`` made: what it began with, and commands and sources
behind it, as its runs may be gone."""
_RECORDS = {AVERAGE: "average", MEMBER: "member", "config.toml": "fit", "config.json": "distill"}
_COMPLETE = ("average", "member")
_WORDS = ("", "scratch", "imagenet")


def commands(run: Path) -> list[str]:
    """The commands that give this run, the first one first; data sets without their folders."""
    from training import distill, fit

    made: list[str] = []
    for folder, kind, config in _chain(run):
        if kind in _COMPLETE:
            made[:0] = config["commands"]
            continue
        known = _base(folder)  # an alias names another release later
        given = config | ({"init": known} if known else {})
        made.insert(0, command(kind, given, fit.Settings if kind == "fit" else distill.Settings))
        made[:0] = dealt(config.get("data", ()))
    return made


def dealt(data: Iterable[str]) -> list[str]:
    """The commands that dealt data sets into folds (``training.folds``), of files as they wrote
    them."""
    made: dict[str, None] = {}
    for path in (Path(d.partition(":")[2]) for d in data):
        if (path.parent / FOLDS).exists():
            known = read_record(path.parent / FOLDS)
            if path.is_file() and known["files"].get(path.name) == digest(path):
                made[known["command"]] = None
    return list(made)


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sources(run: Path) -> set[str]:
    """Of all pictures behind a run: its own, and those of what it began with or learned from.

    They are what its folder lists (ROWS), else what is in its data; of a release what its entry
    says. What is gone is told of in the log, as a licence may follow from it.
    """
    found: set[str] = set()
    for folder, kind, config in _chain(run):
        try:
            found |= own_sources(folder, config)
            if kind in _COMPLETE:
                if "sources" not in config:
                    raise DataInvalid("it was made before they were kept in mind.")
                continue
            found |= released(folder, config)
            if (before := _before(folder, config)) is not None and not before.exists():
                raise DataInvalid(f"There is no {before}.")
        except (OSError, DataInvalid) as error:
            log.warning("What %s was trained on is not all known: %s", folder, error)
        if teacher := config.get("teacher"):
            learned = sources(Path(teacher))
            if not learned:
                log.warning("What the teacher of %s was trained on is not known.", folder)
            found |= learned
    return found


def record(folder: Path) -> tuple[str, dict[str, Any]] | None:
    """The command that made the folder of a run, and what that was given; None of another one.

    Raises DataInvalid where that is damaged.
    """
    for name, kind in _RECORDS.items():
        if (folder / name).exists():
            return kind, read_record(folder / name)
    return None


def refuse_run(out: Path, made: str, began: Sequence[str]) -> None:
    """Raise DataInvalid where the folder holds a run of another command, or one of those that are
    begun with (their folders, or what lies in them): what that was made from would be hidden.
    made: AVERAGE or MEMBER."""
    held = [name for name in _RECORDS if (out / name).exists()]
    paths = [Path(name).resolve() for name in began if name]
    inside = bool(held) and any(out.resolve() in path.parents for path in paths)
    if inside or out.resolve() in paths or any(name != made for name in held):
        raise DataInvalid(f"{out} holds a run; give another --out.")


def own_sources(folder: Path, config: Mapping[str, Any]) -> set[str]:
    """Of the pictures of the run itself; of a mean or a member of everything behind it.

    Raises DataInvalid or OSError where that is gone.
    """
    found = {*config.get("sources", ())}
    if (folder / ROWS).exists():
        found |= {*read_list(folder / ROWS).source}
    elif config.get("data"):
        found |= {*gather(config["data"]).source}
    return found


def released(folder: Path, config: Mapping[str, Any]) -> set[str]:
    """Sources of the releases that a run began with; raises DataInvalid where one is gone."""
    from training import initial, terms

    named = () if "began" in config else config.get("runs", ())  # of a mean of earlier versions
    began = [n for n in named if not Path(n).is_dir()]
    init = _base(folder) or config.get("init") or ""
    if _base(folder) or (init not in _WORDS and _folder_of(init) is None):
        began.append(init)
    found = {*config.get("began", ())}  # of a member or a mean: the release may be gone
    return found.union(*(terms.sources(initial.find(name).training_data) for name in began))


def runs_before(folder: Path, config: Mapping[str, Any]) -> tuple[list[Path], bool]:
    """The folders of the runs that a run began with or learned from, as far as they are there, and
    whether those are all: some may be gone, or were not kept in mind."""
    known = [config[k] for k in ("base", "teacher") if config.get(k)]
    of_mean = map(Path, config.get("runs", ()))
    found = [*map(Path, known), *(p for p in of_mean if "began" in config or p.is_dir())]
    before = _before(folder, config)
    found += [before] if before is not None else []
    there = [one for one in found if one.exists()]
    kept = "runs" in config or not (folder / AVERAGE).exists()
    return there, kept and len(there) == len(found)


def _chain(run: Path) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """This run's folder and those of the runs that it began with, as far as they are there: folder,
    the command that made it and what that was given. A mean or a member ends it: their runs may be
    gone, and they keep what was behind them."""
    folder: Path | None = run
    seen: set[Path] = set()  # one that goes on from its own checkpoint began with itself
    while folder is not None and folder not in seen and (found := record(folder)) is not None:
        seen.add(folder)
        kind, config = found
        yield folder, kind, config
        folder = None if kind in _COMPLETE else _before(folder, config)


def _before(folder: Path, config: Mapping[str, Any]) -> Path | None:
    """The folder of what a run began with, where that is a folder or a file."""
    return None if _base(folder) else _folder_of(config.get("init") or "")


def _folder_of(init: str) -> Path | None:
    """That of a folder or file, also one that is gone where a "/" shows that it was one; None of a
    release or a word of its own."""
    known = Path(init)
    if init in _WORDS or not (known.exists() or "/" in init):
        return None
    return known if known.is_dir() else known.parent


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
            words.append(f"{flag} {portable(one) if field.name == 'data' else one}")
    return " ".join(words)


def portable(specification: str) -> str:
    """``manifest:/any/where/manifest.csv`` -> ``manifest:manifest.csv``."""
    kind, colon, path = specification.partition(":")
    return f"{kind}:{Path(path).name}" if colon else Path(specification).name
