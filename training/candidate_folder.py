"""The folder of a run's candidate, and how a new one takes the place of the one before."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

BESIDE = "beside"
"""In a candidate that is being built: what has its place in the run's folder once that is whole, as
the list of the pictures that the candidate has learned from."""


def of(run: Path) -> Path:
    """``run/candidate``, after what a process left half done that ended while one took the place of
    another: the one before has its place again, or what belongs beside the new one has its own."""
    _, folder, before = _folders(run)
    if before.exists() and not folder.exists():
        # Another process may do the same, or be at it; and of a folder that may only be read there
        # is no candidate.
        with contextlib.suppress(OSError):
            before.rename(folder)
    if (folder / BESIDE).exists():
        with contextlib.suppress(OSError):
            _settle(run)
    return folder


@contextlib.contextmanager
def building(run: Path) -> Iterator[Path]:
    """A folder to build a candidate in, which becomes ``run/candidate`` when it is whole.

    What was refused or interrupted on the way is none and leaves nothing; one that was there before
    stays then.
    """
    of(run)
    made, folder, before = _folders(run)
    shutil.rmtree(made, ignore_errors=True)
    shutil.rmtree(before, ignore_errors=True)
    try:
        yield made
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    _swap(made, folder, before)
    _settle(run)
    shutil.rmtree(before, ignore_errors=True)


def _folders(run: Path) -> tuple[Path, Path, Path]:
    """Of the one that is being built, the one that counts and the one before."""
    return run / "candidate.part", run / "candidate", run / "candidate.before"


def _swap(made: Path, folder: Path, before: Path) -> None:
    while True:
        if folder.exists():
            folder.rename(before)  # removing it takes a while, in which there would be none
        try:
            made.rename(folder)
            return
        except OSError:
            if not folder.exists():  # else a reader put the one before back meanwhile
                raise


def _settle(run: Path) -> None:
    """Put what belongs beside the candidate into the run's folder."""
    beside = run / "candidate" / BESIDE
    for path in beside.iterdir() if beside.exists() else ():
        path.replace(run / path.name)
    shutil.rmtree(beside, ignore_errors=True)
