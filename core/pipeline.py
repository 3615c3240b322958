"""From an encoded file to its result: the one way that every consumer takes."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path

from core import film, imaging
from core.cascade import Cascade
from core.errors import ImageRejected
from core.settings import ImageLimits
from core.types import BodyPart, ImageResult, Radiograph


def diagnose(
    cascade: Cascade,
    data: bytes,
    name: str,
    limits: ImageLimits,
    part: BodyPart | None = None,
    frame: int = 1,
    way: film.Way = film.Wish.AUTOMATIC,
    digest: str = "",
) -> tuple[Radiograph | None, ImageResult]:
    """Decode and score one file, or one frame of it, from 1.

    way: what is done with a photograph. digest: see ``imaging.decode``. A refused file has no
    radiograph and a result with the reason.
    """
    started = time.perf_counter()
    try:
        radiograph = film.as_seen(imaging.decode(data, name, limits, frame, digest), way)
    except ImageRejected as error:
        digest = digest or imaging.sha256(data)
        return None, rejected(cascade, name, digest, error.reason, started)
    result = cascade.predict([radiograph], part)[0]
    return radiograph, result


def read_and_diagnose(
    cascade: Cascade, path: Path, limits: ImageLimits
) -> tuple[Radiograph | None, ImageResult]:
    """Read, decode and score a file on the disk; the result has its path as it was given."""
    started = time.perf_counter()
    try:
        radiograph = film.as_seen(imaging.read(path, limits))
    except ImageRejected as error:
        digest = digest_of(path, limits)
        return None, rejected(cascade, str(path), digest, error.reason, started)
    result = cascade.predict([radiograph])[0]
    return radiograph, replace(result, file=str(path))


def rejected(
    cascade: Cascade, name: str, sha256: str | None, reason: str, started: float
) -> ImageResult:
    """The result of an input that could not be read; ``started`` is a time.perf_counter()."""
    milliseconds = 1000 * (time.perf_counter() - started)
    release = cascade.release
    return ImageResult(name, sha256, reason, release.id, release.sha256, milliseconds)


def digest_of(path: Path, limits: ImageLimits) -> str | None:
    """SHA-256 of a file that was refused, None if it cannot be read or is larger than the limit."""
    try:
        if not path.is_file() or path.stat().st_size > limits.max_bytes:
            return None
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
