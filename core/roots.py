"""The folders on this machine that a page, an upload or a job may read from.

Every path that came from outside the program goes through ``resolve`` before anything is opened.
The list of folders is ``Settings.roots`` (BONE_ROOTS); without one nothing may be read.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

from core.errors import PathRefused

OUTSIDE = "This path is not inside a folder that may be read here, or there is nothing at it."


def resolve(path: str | Path, roots: Sequence[Path]) -> Path:
    """The real path of a file or folder inside one of ``roots``, all links followed.

    path: absolute. Raises PathRefused for everything else: outside of the roots (also by ``..`` or
    a link), missing, a loop of links, a device, a pipe or a socket. A path outside and one that
    does not exist get the same sentence, so that nobody can ask what lies on the disk.

    What is below a folder that was allowed may again be a link: resolve each file that is opened.
    """
    try:
        wanted = Path(path)
        if not wanted.is_absolute():
            raise PathRefused("Please give the whole path, from the root of the disk on.")
        real = wanted.resolve(strict=True)
        mode = real.stat().st_mode
    # RuntimeError: a loop of links, before Python 3.13. ValueError: a NUL or a lone surrogate.
    except (OSError, RuntimeError, ValueError) as error:
        raise PathRefused(OUTSIDE) from error
    if not any(real.is_relative_to(root) for root in _real(roots)):
        raise PathRefused(OUTSIDE)
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise PathRefused("This is neither a file nor a folder, so it is not read.")
    return real


def _real(roots: Sequence[Path]) -> list[Path]:
    """The roots with their own links followed; one that is missing allows nothing."""
    found = []
    for root in roots:
        try:
            found.append(root.resolve(strict=True))
        except (OSError, RuntimeError):
            continue
    return found
