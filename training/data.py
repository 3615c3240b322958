"""Data sets as rows, and their pictures as canvases in memory.

A row is one picture: ``path, source, part, positive, positive_means, patient, study, view,
split``. ``part`` is the data set's own word (``BodyPart`` or anything else, which stage 1 calls
other), ``positive`` is 1, 0 or NaN, ``split`` is train, val or test.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from core import imaging
from core.errors import ImageRejected
from core.settings import ImageLimits
from core.transforms import Preprocessing, to_canvas
from core.types import BodyPart

log = logging.getLogger(__name__)

FOCUS = (BodyPart.ELBOW.value, BodyPart.HAND.value, BodyPart.SHOULDER.value)
# Pictures whose label does not say what is the main part of the picture teach stage 1 nothing.
AMBIGUOUS = ("mixed", "arm_with_shoulder")


class DataInvalid(ValueError):
    """A data set that cannot be trained on; the message says why."""


def read(specification: str) -> pd.DataFrame:
    """Rows of ``manifest:FILE.csv``; raises DataInvalid for an unknown kind."""
    kind, _, where = specification.partition(":")
    readers = {"manifest": read_manifest}
    if kind not in readers or not where:
        raise DataInvalid(f"{specification!r}: expected one of {', '.join(readers)}, and a path.")
    rows = readers[kind](Path(where))
    refuse_leaks(rows)
    return rows


def read_manifest(path: Path) -> pd.DataFrame:
    """Rows of a manifest.csv whose pictures lie in ``images/<source>/<id>.webp`` beside it."""
    rows = pd.read_csv(path, dtype={"id": str, "group": str})
    folder = path.parent / "images"
    rows["path"] = [str(folder / s / f"{i}.webp") for s, i in zip(rows.source, rows.id)]
    # UNIFESP joins several names with "+" where several parts are in the picture.
    several = rows.part.str.contains("+", regex=False)
    rows = rows[~several].rename(columns={"group": "patient"}).reset_index(drop=True)
    return rows


def refuse_leaks(rows: pd.DataFrame) -> None:
    """Raise DataInvalid if a patient has pictures in more than one split."""
    crossing = int((rows.groupby("patient").split.nunique() > 1).sum())
    if crossing:
        raise DataInvalid(f"{crossing} patients have pictures in more than one split.")


def split_hash(rows: pd.DataFrame) -> str:
    """SHA-256 over which picture is in which split, whatever the order of the rows."""
    lines = sorted(f"{s}/{Path(p).name}\t{k}" for s, p, k in zip(rows.source, rows.path, rows.split))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def stage1_class(part: str) -> str:
    """The class of stage 1 for a data set's word for the body part."""
    return part if part in FOCUS else BodyPart.OTHER.value


def load_canvases(rows: pd.DataFrame, spec: Preprocessing) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows that can be read, and their pictures as NxSxS uint8.

    A picture that cannot be read is logged, counted and left out. The way is the one of inference:
    decode boundary, then ``to_canvas``.
    """
    limits, kept = ImageLimits(), []
    canvases = np.zeros((len(rows), spec.size, spec.size), np.uint8)
    for position, path in enumerate(rows.path):
        try:
            radiograph = imaging.read(Path(path), limits)
        except ImageRejected as error:
            log.warning("left out %s: %s", path, error.reason)
            continue
        canvases[len(kept)] = to_canvas(radiograph.pixels, spec)
        kept.append(position)
    if len(kept) < len(rows):
        log.warning("%d of %d pictures could not be read", len(rows) - len(kept), len(rows))
    return rows.iloc[kept].reset_index(drop=True), canvases[: len(kept)]
