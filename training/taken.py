"""A release's manifest entry and files as the beginning of another release."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.manifest import Release, in_order


def paths(base: Release, release_id: str) -> dict[str, str]:
    """Where each file of the release lies in the new one: no release takes another's along."""
    found: dict[str, str] = {}
    for path in base.files:
        name = Path(path).name
        while f"{release_id}/{name}" in found.values():
            name = f"of-{name}"
        found[path] = f"{release_id}/{name}"
    return found


def entry(base: Release, release_id: str, paths: dict[str, str]) -> dict[str, Any]:
    """The release's entry under another id and with other paths, without its figures, and with the
    operating points under their true names: what is measured of the new one is named after them."""
    found: dict[str, Any] = json.loads(json.dumps(base.raw))
    for gone in ("files", "architecture", "metrics"):
        found.pop(gone, None)
    found["id"], found["created"] = release_id, datetime.now(UTC).date().isoformat()
    for part in base.absent:  # what is not installed cannot be taken along
        found["stages"].pop(part)
    for stage in found["stages"].values():
        for one in (stage, *stage.get("members", ())):
            one["trunk"], one["branch"] = paths[one["trunk"]], paths[one["branch"]]
        for one in (stage, stage.get("ensemble", {})):
            if "operating_points" in one:
                one["operating_points"] = in_order(one["operating_points"])
    if found.get("rejection"):
        found["rejection"]["file"] = paths[found["rejection"]["file"]]
    if "architectures" in found:
        found["architectures"] = {paths[k]: v for k, v in found["architectures"].items()}
    return found


def used(entry: dict[str, Any]) -> set[str]:
    """The files that an entry names."""
    named = {
        one[kind]
        for stage in entry["stages"].values()
        for one in (stage, *stage.get("members", ()))
        for kind in ("trunk", "branch")
    }
    return named | ({entry["rejection"]["file"]} if entry.get("rejection") else set())
