"""Files that a computer puts beside those of its user: they are not what was given to be read."""

from __future__ import annotations

from pathlib import PurePosixPath

NAMES = frozenset({"thumbs.db", "desktop.ini", "dicomdir"})  # in small letters
FOLDER = "__MACOSX"  # what macOS adds to an archive


def of_the_system(name: str) -> bool:
    """Whether a file, by its path below what was given, is hidden or one of those that a system
    keeps for itself: Finder's and Explorer's notes, and the index of a DICOM medium."""
    steps = [s for s in name.replace("\\", "/").split("/") if s not in ("", ".", "..")]
    if any(step.startswith((".", FOLDER)) for step in steps):
        return True
    return not name.endswith("/") and PurePosixPath(*steps).name.lower() in NAMES
