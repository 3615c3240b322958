"""Files that a computer puts beside those of its user: they are not what was given to be read."""

from __future__ import annotations

from pathlib import PurePosixPath

NAMES = frozenset({"thumbs.db", "desktop.ini", "dicomdir"})  # in small letters, as the folders
FOLDERS = frozenset({
    "__macosx",  # what macOS adds to an archive
    "@eadir", "#recycle", "#snapshot",  # of a file server: small copies, deleted and older files
    "$recycle.bin", "system volume information", "lost+found",
})  # fmt: skip


def of_the_system(name: str) -> bool:
    """Whether a file, by its path below what was given, is hidden or one of those that a system
    keeps for itself: Finder's and Explorer's notes, what a file server keeps beside its users'
    files, and the index of a DICOM medium."""
    steps = [s for s in name.replace("\\", "/").lower().split("/") if s not in ("", ".", "..")]
    if any(step.startswith(".") or step in FOLDERS for step in steps):
        return True
    return not name.endswith("/") and PurePosixPath(*steps).name in NAMES
