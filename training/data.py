"""Data sets as rows of one form, and their pictures as canvases in memory.

A row is one picture:

==================  ===============================================================================
``id``              its name, unique within its source
``path``, ``source``  where it lies; which data set
``part``            ``BodyPart`` or another such word, which stage 1 calls other; several by ``+``
``region``          the data set's own word for the part
``positive``        1, 0 or NaN (no label)
``positive_means``  "fracture" or "abnormality": not the same, so report by source
``patient``         ``<source>/<patient>``, so that two data sets cannot mean the same by chance;
                    one whom DICOM headers name is ``dicom/<digest>`` in every folder
``study``           of that patient, missing where the data set has none
``view``, ``boxes`` where known; boxes as ``x0 y0 x1 y1;…`` in fractions of width and height
``hardware``        1 where metal is in the picture (plates, screws), 0 where not, NaN: not known
``split``           train, val or test
==================  ===============================================================================
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from core import film, imaging, roots
from core.errors import ImageRejected, PathRefused
from core.settings import ImageLimits, Settings
from core.transforms import Preprocessing, framed
from core.types import BodyPart, Crop, Radiograph
from training.phases import OTHER, PARTS
from training.sources import READERS, SPLITS, DataInvalid, read_manifest, split_of

__all__ = [
    "AMBIGUOUS", "COLUMNS", "PARTS", "SIMULATED", "DataInvalid", "boxes_of", "confined", "gather",
    "kinds_of", "load_canvases", "radiographs", "read", "read_all", "read_manifest",
    "read_picture", "refuse_leaks", "refuse_outside", "split_hash", "stage1_class",
]  # fmt: skip

log = logging.getLogger(__name__)

COLUMNS = (
    "id", "path", "source", "part", "region", "positive", "positive_means", "patient", "study",
    "view", "boxes", "hardware", "split",
)  # fmt: skip
# Pictures whose label does not say what is the main part of the picture teach stage 1 nothing.
AMBIGUOUS = ("mixed", "arm_with_shoulder")
FEWEST_OF_A_KIND = 10
BEYOND = 0.01  # of width or height: so far a box may reach beyond its picture
# Simulated radiographs may be trained on; every figure on real ones leaves them out.
SIMULATED = "simulated"
# What figures call all sources together, and those without pictures that have a copy in training.
RESERVED = ("all", "no copies")
OUTSIDE = "not in a folder that may be read here"
_allowed: ContextVar[tuple[Path, ...] | None] = ContextVar("allowed", default=None)


def read(specification: str) -> pd.DataFrame:
    """Rows of one data set; see ``read_all``."""
    return read_all([specification])


def read_all(specifications: Sequence[str]) -> pd.DataFrame:
    """Rows of several data sets, none of whose patients is in two splits.

    A specification is ``mura:DIR``, ``fracatlas:DIR``, ``manifest:FILE.csv`` or ``folder:DIR``
    (see ``training.sources``). Raises DataInvalid, which says what is wrong.
    """
    rows = gather(specifications)
    refuse_leaks(rows)
    return rows


def gather(specifications: Sequence[str]) -> pd.DataFrame:
    """The rows as they are, leaks and all: for looking at data. Training takes ``read_all``."""
    _refuse_one_name(specifications)
    rows = pd.concat([_complete(_rows_of(s), s) for s in specifications], ignore_index=True)
    if (allowed := _allowed.get()) is not None:
        rows["path"] = [p if _lies_in(p, allowed) else OUTSIDE for p in rows.path]
        if count := int((rows.path == OUTSIDE).sum()):
            log.warning("%d pictures are away, or %s: they cannot be read", count, OUTSIDE)
    _refuse_reserved(rows, specifications)
    twice = int(rows.duplicated(["source", "id"]).sum())
    if twice:
        raise DataInvalid(f"{twice} pictures are listed twice, under the same source and id.")
    return rows


def _refuse_reserved(rows: pd.DataFrame, specifications: Sequence[str]) -> None:
    """Raise DataInvalid for a source that is called what figures call something else."""
    kinds = [s.partition(":") for s in specifications]
    folders = {Path(where).resolve().name for kind, _, where in kinds if kind == "folder"}
    taken = {*RESERVED, *(folders & {SIMULATED})} & {*rows.source.astype(str)}
    if taken:
        raise DataInvalid(
            f"A source is called {sorted(taken)[0]!r}, which in figures means something else. Give "
            "it, or the folder that it is named by, another name."
        )


def _refuse_one_name(specifications: Sequence[str]) -> None:
    """Raise DataInvalid for two folders of one name: it tells the patients of both apart."""
    folders = {
        Path(where).resolve()
        for kind, _, where in (s.partition(":") for s in specifications)
        if kind == "folder"
    }
    names = Counter(folder.name for folder in folders)
    for name, count in names.items():
        if count > 1:
            raise DataInvalid(
                f"{count} folders are called {name}: the name stands for the source, and patient 1 "
                "of one would be patient 1 of the other. Give them different names."
            )


@contextmanager
def confined(allowed: Sequence[Path]) -> Iterator[None]:
    """While it lasts nothing but what lies in these folders is read, whatever a list names.

    A data set elsewhere is refused (DataInvalid), and so are weights to start from; a picture
    elsewhere, which a link or the column ``file`` of a manifest may point to, is one that cannot be
    read.
    """
    token = _allowed.set(tuple(allowed))
    try:
        yield
    finally:
        _allowed.reset(token)


def refuse_outside(path: str, named: str, *also: Path) -> None:
    """Raise DataInvalid for a path that may not be read while ``confined`` lasts; named: by whoever
    gave it. also: folders beside those that it may be read from."""
    if (allowed := _allowed.get()) is not None:
        try:
            roots.resolve(path, (*allowed, *also))
        except PathRefused as error:
            raise DataInvalid(f"{named}: {error}") from error


def _lies_in(path: str, allowed: Sequence[Path]) -> bool:
    try:
        roots.resolve(Path(path).absolute(), allowed)
    except PathRefused:
        return False
    return True


def _rows_of(specification: str) -> pd.DataFrame:
    kind, _, where = specification.partition(":")
    if kind not in READERS or not where:
        raise DataInvalid(f"{specification!r}: expected one of {', '.join(READERS)}, and a path.")
    refuse_outside(where, specification)
    return READERS[kind](Path(where))


def _complete(rows: pd.DataFrame, specification: str) -> pd.DataFrame:
    """An adapter's rows in the common form, with a patient and a split for each."""
    by = rows.get("numbered_by", rows.source)
    rows = rows.reindex(columns=list(COLUMNS))
    positive = pd.to_numeric(rows.positive, errors="coerce").astype(float)
    if not (positive.isin((0.0, 1.0)) | rows.positive.isna()).all():
        raise DataInvalid(f"{specification}: a label is neither 1, 0 nor empty.")
    rows["positive"] = positive
    rows["part"] = rows.part.str.replace(r"\s*\+\s*", "+", regex=True)
    rows["part"] = rows.part.str.replace(r"[\s-]+", "_", regex=True)
    _refuse_strange_boxes(rows, specification)
    rows["hardware"] = pd.to_numeric(rows.hardware, errors="coerce").astype(float)
    rows["patient"] = by + "/" + rows.patient.astype(object).fillna(rows.id).astype(str)
    missing = rows.split.isna()
    rows["split"] = rows.split.astype(object)
    rows.loc[missing, "split"] = [split_of(p) for p in rows.patient[missing]]
    strange = sorted(set(rows.split) - set(SPLITS))
    if strange:
        raise DataInvalid(f"{specification}: {strange} are not among the splits {SPLITS}.")
    return rows


def _refuse_strange_boxes(rows: pd.DataFrame, specification: str) -> None:
    """Raise DataInvalid for boxes that are none."""
    marked = rows[rows.boxes.notna()]
    for name, boxes in zip(marked.id, marked.boxes.astype(str)):
        try:
            boxes_of(boxes)
        except ValueError as error:
            raise DataInvalid(
                f"{specification}: the boxes of {name} are not 'x0 y0 x1 y1;…' in fractions of "
                "its width and height."
            ) from error


def boxes_of(boxes: str) -> list[tuple[float, float, float, float]]:
    """``x0 y0 x1 y1;…`` as numbers: left, top, right, bottom, in fractions of width and height.

    Raises ValueError for anything else. A point is a box without extent.
    """
    found = []
    for box in boxes.split(";"):
        x0, y0, x1, y1 = (float(v) for v in box.split())
        if not (-BEYOND <= x0 <= x1 <= 1 + BEYOND and -BEYOND <= y0 <= y1 <= 1 + BEYOND):
            raise ValueError(f"{box!r} lies outside of the picture, or its ends are swapped.")
        found.append((x0, y0, x1, y1))
    return found


def studies(rows: pd.DataFrame) -> pd.Series[int]:
    """How many studies each source has; of a data set that numbers those of each patient from 1,
    each of them."""
    named = rows[rows.study.notna()].drop_duplicates(["source", "patient", "study"])
    every = rows.groupby("source").size()
    return named.groupby("source").size().reindex(every.index, fill_value=0)


def refuse_leaks(rows: pd.DataFrame) -> None:
    """Raise DataInvalid if a patient has pictures in more than one split.

    Copies of one picture under two names are the business of ``training.duplicates``.
    """
    crossing = int((rows.groupby("patient").split.nunique() > 1).sum())
    if crossing:
        raise DataInvalid(f"{crossing} patients have pictures in more than one split.")


def split_hash(rows: pd.DataFrame) -> str:
    """SHA-256 over which picture is in which split, whatever the order of the rows."""
    lines = sorted(f"{s}/{i}\t{k}" for s, i, k in zip(rows.source, rows.id, rows.split))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def stage1_class(part: str, parts: Sequence[str] = PARTS) -> str:
    """The class of the cascade for a data set's word for the body part; parts: it has models of."""
    return part if part in parts else OTHER


def kinds_of(parts: Iterable[str]) -> tuple[str, ...]:
    """The classes that stage 1 learns, of the parts of the training pictures.

    The parts of the cascade, then by name every other part that has FEWEST_OF_A_KIND pictures,
    then "other" for the rest. Told apart by name, others are learned better than as one heap of
    everything from a forearm to a skull. Raises DataInvalid where no release could name one.
    """
    counts = Counter(p for p in parts if p not in (*PARTS, *AMBIGUOUS, OTHER))
    named = sorted(p for p, n in counts.items() if n >= FEWEST_OF_A_KIND and "+" not in p)
    for name in named:
        try:
            BodyPart(name)
        except ValueError as error:
            raise DataInvalid(
                f"{error}. It takes up to 40 small letters from a to z, digits and underscores, a "
                "letter first."
            ) from error
    return (*PARTS, *named, OTHER)


def read_picture(
    path: str | Path, limits: ImageLimits, way: film.Way = film.Wish.AUTOMATIC
) -> Radiograph:
    """A picture as it is assessed (``core.pipeline``): of a photograph the film in it.

    Raises ImageRejected.
    """
    return film.as_seen(imaging.read(Path(path), limits), way)


def radiographs(
    rows: pd.DataFrame, way: film.Way = film.Wish.AUTOMATIC, silent: bool = False
) -> Iterator[tuple[Any, Radiograph]]:
    """Each row that can be read, as a named tuple, and its radiograph; with a bar of progress.

    Where the film was cut out of a photograph, the boxes of the row are those on the film, and
    missing where all lie beside it. The limits are the program's (``Settings.limits``): a picture
    that cannot be read is logged and left out. way: see ``core.film``. silent: without the bar.
    """
    limits = Settings.from_environment().limits
    for row in tqdm(list(rows.itertuples()), unit="img", mininterval=5, disable=silent):
        try:
            radiograph = read_picture(row.path, limits, way)
        except ImageRejected as error:
            log.warning("left out %s: %s", row.path, error.reason)
            continue
        yield _on_film(row, radiograph), radiograph


def _on_film(row: Any, radiograph: Radiograph) -> Any:
    """The row with its boxes where they lie in what is seen of the picture."""
    given = radiograph.photograph.corners if radiograph.photograph else None
    if given is None or pd.isna(getattr(row, "boxes", None)):
        return row
    found = [film.on_film(box, given) for box in boxes_of(row.boxes)]
    there = [" ".join(f"{v:.4f}" for v in box) for box in found if box]
    return row._replace(boxes=";".join(there) or None)


def load_canvases(rows: pd.DataFrame, spec: Preprocessing) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows that can be read, and their pictures as NxSxS uint8.

    The rows get ``height`` and ``width``, the size in pixels of the picture as it is seen (of a
    photograph, of the film in it), and ``crop``, the part of that on the canvas
    (``core.types.Crop``); their boxes are those of ``radiographs``. A picture that cannot be read
    is logged, counted and left out. The way is the one of inference: ``read_picture``, then
    ``framed``.
    """
    numbered = rows.reset_index(drop=True)
    kept: list[int] = []
    boxes: list[str | None] = []
    sizes: list[tuple[int, ...]] = []
    crops: list[Crop] = []
    canvases = np.zeros((len(rows), spec.size, spec.size), np.uint8)
    for row, radiograph in radiographs(numbered, silent=True):
        canvases[len(kept)], crop = framed(radiograph.pixels, spec)
        kept.append(row.Index)
        boxes.append(getattr(row, "boxes", None))
        crops.append(crop)
        sizes.append(radiograph.pixels.shape)
    if len(kept) < len(rows):
        log.warning("%d of %d pictures could not be read", len(rows) - len(kept), len(rows))
    read = numbered.iloc[kept].reset_index(drop=True)
    if "boxes" in read:
        read["boxes"] = boxes
    read[["height", "width"]] = np.array(sizes, dtype=np.int64).reshape(-1, 2)
    read["crop"] = crops
    return read, canvases[: len(kept)]
