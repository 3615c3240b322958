"""The releases of a weights folder: list, add, promote, roll back.

Promoting changes a name, not a file: the alias ``champion`` moves, and ``previous`` keeps the one
it left, so that rolling back is one step and ``python -m training release`` removes neither.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from core import files, locks
from core.errors import SettingsInvalid, WeightsInvalid
from core.manifest import Release
from core.registry import FORMAT, Registry, read_entry
from core.settings import CHAMPION
from core.types import BODY_PART, BodyPart
from training import candidate_folder, measured
from training.sources import DataInvalid

log = logging.getLogger(__name__)

PREVIOUS = "previous"
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


class ReleaseRefused(WeightsInvalid):
    """What was asked of a release cannot be done; the message says why."""


@dataclass(frozen=True)
class Listed:
    """An entry of the manifest. release: None where this version cannot read it (problem: why)."""

    id: str
    entry: dict[str, Any]
    release: Release | None
    aliases: tuple[str, ...]
    problem: str = ""


def listing(weights: Path) -> list[Listed]:
    """All entries, the newest first, readable or not; raises WeightsInvalid without a manifest."""
    manifest = _manifest(weights)
    found = []
    for entry in manifest["releases"]:
        if not isinstance(entry, dict):
            continue
        name = str(entry.get("id", "without id"))
        aliases = tuple(a for a, of in manifest["aliases"].items() if of == name)
        try:
            found.append(Listed(name, entry, read_entry(weights, entry), aliases))
        except (WeightsInvalid, AttributeError) as error:
            found.append(Listed(name, entry, None, aliases, str(error)))
    return sorted(found, key=lambda r: (str(r.entry.get("created", "")), r.id), reverse=True)


def check(weights: Path, release: str) -> list[str]:
    """A sentence for each thing that is wrong with a release; reads every byte of it."""
    found = next((r for r in listing(weights) if r.id == release), None)
    if found is None:
        return [f"There is no release {release}."]
    if found.release is None:
        return [found.problem]
    return Registry(weights, {}, {release: found.release}).verify(found.release)


def promote(weights: Path, release: str) -> str:
    """Make a release the champion; returns the id of the one it follows (empty for the first).

    Raises ReleaseRefused for one that is damaged, incompatible, not calibrated, or does not load.
    """
    if problems := check(weights, release):
        raise ReleaseRefused(problems[0])
    refuse_unfit(Registry.open(weights).find(release))
    load(weights, release)
    with locked(weights), changing(weights) as manifest:
        before = str(manifest["aliases"].get(CHAMPION, ""))
        if before == release:
            raise ReleaseRefused(f"{release} is in use already.")
        manifest["aliases"][CHAMPION] = release
        if before:
            manifest["aliases"][PREVIOUS] = before
    return before


def champion(weights: Path) -> str:
    """The release that everyone works with; empty where there is none."""
    return str(_manifest(weights)["aliases"].get(CHAMPION, ""))


def previous(weights: Path) -> str:
    """The release that a roll back would return to; empty where there is none."""
    return str(_manifest(weights)["aliases"].get(PREVIOUS, ""))


def load(weights: Path, release: str) -> None:
    """Build its networks once; raises WeightsInvalid where they do not fit."""
    from core.cascade import Cascade

    try:
        Cascade.load(weights, release, "cpu")
    except (KeyError, ValueError, RuntimeError, SettingsInvalid) as error:
        raise WeightsInvalid(f"Release {release} does not fit this version.") from error


def add_run(run: Path, weights: Path, tell: Callable[[str], object] = log.warning) -> str:
    """Copy a run's candidate into the weights folder, without an alias; returns its id.

    Its figures, and the rows behind them, are those of the test split where it was scored there,
    else there are none, and ``tell`` is called with a sentence that says why. What the champion has
    and it has not is told of in the log (``lost``).
    """
    source = Registry.open(candidate_folder.of(run))
    found = source.find(CHAMPION)
    refuse_unfit(found)
    try:
        figures = measured.of_candidate(run, found)
    except (OSError, measured.FiguresInvalid, DataInvalid) as error:
        tell(f"Release {found.id} gets no figures: {error}")
        figures = {}
    entry = {**found.raw, "metrics": figures}
    with locked(weights):
        refuse_taken(weights, found.id)
        for file in found.files.values():
            write = partial(Path.write_bytes, data=source.read(file))
            files.write_atomically(weights / file.path, write)
        if figures:
            measured.ship(run, weights / found.id)
        append(weights, entry)
    for sentence in lost(weights, found):
        log.warning("%s", sentence)
    return found.id


def lost(weights: Path, found: Release, alias: str = CHAMPION) -> list[str]:
    """A sentence for what the release of that alias has and this one has not: models of parts, and
    networks beside the ResNet50."""
    if not (weights / "manifest.json").exists():
        return []
    registry = Registry.open(weights)
    before = registry.releases.get(registry.aliases.get(alias, ""))
    if before is None:
        return []
    said = []
    if gone := sorted({*before.parts} - {*found.parts}):
        said.append(f"Release {found.id} has no model of: {', '.join(gone)}.")
    old, new = _members(before), _members(found)
    for part in (BODY_PART, *before.parts):
        if part in found.stages and (names := sorted(old[part] - new[part])):
            where = "stage 1" if part == BODY_PART else f"the {BodyPart(part).words}"
            said.append(
                f"Release {found.id} has no {' and no '.join(names)} for {where}, which "
                f"{before.id} has; python -m training member adds it."
            )
    return said


def _members(release: Release) -> dict[str, set[str]]:
    """By stage the names of the networks beside the ResNet50."""
    stages = release.in_mode(release.largest_mode).stages
    return {n: {m.name for m in s.ensemble.members} if s.ensemble else set()
            for n, s in stages.items()}  # fmt: skip


def append(weights: Path, entry: dict[str, Any]) -> None:
    """Name a release whose files are there, with its model card; the lock must be held."""
    from training.card import model_card

    card = model_card(Release.from_json(entry))
    files.write_atomically(
        weights / str(entry["id"]) / "MODEL_CARD.md", lambda p: p.write_text(card, encoding="utf-8")
    )
    with changing(weights) as manifest:
        manifest["releases"].append(entry)


def refuse_unfit(found: Release) -> None:
    """Raise ReleaseRefused for a release that finds nothing, or whose findings nobody calibrated,
    as an interrupted ``calibrate`` of an earlier version left it."""
    refuse_empty(found.id, found.parts)
    for mode in found.modes:
        stages = found.in_mode(mode).stages
        if missing := [p for p in found.parts if not stages[p].operating_points]:
            raise ReleaseRefused(
                f"{found.id} has no operating points of: {', '.join(missing)}; calibrate it again."
            )


def refuse_empty(release: str, parts: Sequence[str]) -> None:
    """A candidate none of whose branches was better than chance finds nothing."""
    if not parts:
        raise ReleaseRefused(
            f"{release} has no fracture model: none was better than chance on validation."
        )


def refuse_taken(weights: Path, release: str) -> None:
    """An id is given once: results in reports and in the database name it."""
    if not (weights / "manifest.json").exists():
        return
    if any(r.id == release for r in listing(weights)):
        raise ReleaseRefused(f"There is a release {release} already.")


def remove_files(weights: Path, release: str) -> None:
    """The folder of a release that the manifest does not name."""
    shutil.rmtree(weights / release, ignore_errors=True)


@contextmanager
def changing(weights: Path) -> Iterator[dict[str, Any]]:
    """manifest.json to change, written where nothing was raised; an empty one where there is none.

    The lock must be held. Raises WeightsInvalid where it is damaged.
    """
    path = weights / "manifest.json"
    empty: dict[str, Any] = {"format": FORMAT, "aliases": {}, "releases": []}
    manifest = _manifest(weights) if path.exists() else empty
    yield manifest
    files.write_json(path, manifest)


def _manifest(weights: Path) -> dict[str, Any]:
    """manifest.json as it is; raises WeightsInvalid where it is missing or damaged."""
    try:
        found = json.loads((weights / "manifest.json").read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise WeightsInvalid(f"manifest.json has format {found['format']}, not {FORMAT}.")
        if not isinstance(found["releases"], list) or not isinstance(found["aliases"], dict):
            raise WeightsInvalid("manifest.json in the weights folder cannot be read.")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsInvalid("manifest.json in the weights folder cannot be read.") from error
    return dict(found)


def locked(weights: Path) -> AbstractContextManager[None]:
    """One writer of the manifest at a time."""
    return locks.held(weights / ".lock")
