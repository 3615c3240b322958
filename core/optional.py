"""Optional parts of a manifest entry, of which files may be missing (docs/new-part.md).

Apart from ``core.manifest``, which imports OpenCV: the first page does without.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from core.types import BODY_PART


def absent_parts(
    entry: Mapping[str, Any], there: Callable[[str], bool]
) -> dict[str, tuple[str, ...]]:
    """The optional parts of a manifest entry of which a file is missing, with what is missing.

    there: whether the file of that path is."""
    found = {}
    for name, stage in entry["stages"].items():
        if stage.get("optional") and name != BODY_PART:
            missing = tuple(path for path in sorted(_files_of(stage)) if not there(path))
            if missing:
                found[name] = missing
    return found


def _files_of(stage: Mapping[str, Any]) -> set[str]:
    networks = (stage, *stage.get("members", ()))
    return {str(network[kind]) for network in networks for kind in ("trunk", "branch")}


def without_parts(entry: Mapping[str, Any], absent: Collection[str]) -> Mapping[str, Any]:
    """The entry without these parts and without the files that only they use."""
    if not absent:
        return entry
    stages = {n: s for n, s in entry["stages"].items() if n not in absent}
    used = {path for stage in stages.values() for path in _files_of(stage)}
    only = {p for n in absent for p in _files_of(entry["stages"][n])} - used
    files = [f for f in entry["files"] if f["path"] not in only]
    return {**entry, "stages": stages, "files": files}
