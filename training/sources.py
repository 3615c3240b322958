"""Adapters: one function a data set, each from where it lies to rows, one row a picture.

An adapter reads lists and names, never a pixel. It leaves a value missing where the data set does
not say: ``training.data`` gives such a picture a patient of its own and a split.

What each makes of a body part: ``elbow``, ``hand`` (hand, wrist and fingers) and ``shoulder`` have
a fracture model; any other word is kept, and stage 1 calls it other. ``region`` keeps the data
set's own word.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.errors import CascadeError, where
from core.system_files import of_the_system

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
SPECIFICATIONS = (
    "mura:DIR, fracatlas:DIR, manifest:FILE.csv or folder:DIR; may be given several times"
)
"""What ``--data`` takes, in words for ``--help``."""
# Finger, hand and wrist share one fracture model.
PART_OF = {"finger": "hand", "fingers": "hand", "wrist": "hand"}


class DataInvalid(CascadeError):
    """A data set that cannot be trained on; the message says why."""


def split_of(patient: str) -> str:
    """The split of a patient whose data set has none: about 80 % train, 10 % val, 10 % test.

    It depends on the name alone (the first 32 bits of its SHA-256), so that neither more patients
    nor another order moves anybody.
    """
    share = int(hashlib.sha256(patient.encode()).hexdigest()[:8], 16) / 2**32
    return "train" if share < 0.8 else "val" if share < 0.9 else "test"


def _columns(table: pd.DataFrame, needed: tuple[str, ...], path: Path) -> None:
    missing = [c for c in needed if c not in table.columns]
    if missing:
        raise DataInvalid(f"{path}: the columns {missing} are missing.")


def _table(path: Path, **how: Any) -> pd.DataFrame:
    """A CSV file; raises DataInvalid for one that is no table (empty, ragged, not UTF-8)."""
    try:
        return pd.read_csv(path, **how)
    except ValueError as error:  # that of pandas, and UnicodeDecodeError
        raise DataInvalid(f"{path} cannot be read as a table ({str(error).strip()}).") from error


_TEXT = ("id", "source", "part", "file", "group", "study", "view", "split")
# By column what says that a value is missing. A patient may be called NA or null.
_NOTHING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "<NA>")
_MISSING = {name: [""] for name in _TEXT} | {
    name: [*_NOTHING] for name in ("positive", "positive_means", "boxes", "hardware")
}

# --- manifest:FILE.csv -------------------------------------------------------------------------


def read_manifest(path: Path) -> pd.DataFrame:
    """Rows of a manifest.csv whose pictures lie in ``images/<source>/<id>.webp`` beside it.

    Columns: id, source, part, and where known file (relative to the manifest, instead of that
    place), positive, positive_means, group (the patient), study, view, boxes, hardware (1 or 0),
    split. Case and blanks around a part do not matter. Rows with several parts ("hand+wrist") are
    left out. Raises DataInvalid where a row has no id, source, part or file.
    """
    text = dict.fromkeys(_TEXT, str)
    rows = _table(path, dtype=text, keep_default_na=False, na_values=_MISSING)
    _columns(rows, ("id", "source", "part"), path)
    if rows.empty:
        raise DataInvalid(f"{path} has no rows.")
    for name in (c for c in _TEXT if c in rows):
        rows[name] = rows[name].str.strip().replace("", np.nan)
    for name in (c for c in ("id", "source", "part", "file") if c in rows):
        empty = rows[name].isna()
        if empty.any():
            first = int(np.flatnonzero(empty)[0]) + 2  # as a spreadsheet counts, below the header
            raise DataInvalid(f"{path}, row {first}: the column {name} is empty.")
    rows["part"] = rows.part.str.lower()
    folder = path.parent / "images"
    if "file" in rows:
        rows["path"] = [str(path.parent / f) for f in rows.file]
    else:
        rows["path"] = [str(folder / s / f"{i}.webp") for s, i in zip(rows.source, rows.id)]
    several = rows.part.str.contains("+", regex=False)
    if several.any():
        log.info("%s: %d pictures of several parts are left out", path, several.sum())
    rows = rows[~several].rename(columns={"group": "patient"}).reset_index(drop=True)
    if "study" not in rows:
        rows["study"] = rows.id.str.extract(r"^(mura_\w+_p\d+_s\d+)_i\d+$")[0]
    return rows.assign(region=rows.part, part=rows.part.replace(PART_OF))


# --- mura:DIR ----------------------------------------------------------------------------------

_MURA = re.compile(
    r"(?P<id>(?P<set>train|valid)/(?P<region>XR_[A-Z]+)/(?P<patient>patient\d+)/"
    r"(?P<study>study\d+)_(?:positive|negative)/[^/]+)$"
)


def read_mura(folder: Path) -> pd.DataFrame:
    """MURA v1.1 as it is downloaded; ``folder`` is MURA-v1.1 or the folder it lies in.

    The pictures are those of the two lists of paths, the labels those of the two lists of studies,
    and they mean abnormality, not fracture. The official valid set is ``test``; ``val`` is about
    10 % of the patients of the official train set (``split_of``). A patient's number is the same
    in all seven regions. https://stanfordmlgroup.github.io/competitions/mura/
    """
    if not (folder / "train_image_paths.csv").exists() and (folder / "MURA-v1.1").is_dir():
        folder = folder / "MURA-v1.1"
    rows = pd.concat([_mura_set(folder, name) for name in ("train", "valid")], ignore_index=True)
    region = rows.region.str.removeprefix("XR_").str.lower()
    held_out = [split_of(f"mura/{p}") == "val" for p in rows.patient]
    return rows.assign(
        source="mura",
        path=[str(folder / i) for i in rows.id],
        part=region.replace(PART_OF),
        positive_means="abnormality",
        study=rows.patient + "/" + rows.region + "/" + rows.study,
        split=np.where(rows.set == "valid", "test", np.where(held_out, "val", "train")),
    )


def _mura_set(folder: Path, name: str) -> pd.DataFrame:
    """The pictures of one official set with their labels, from its two CSV files."""
    listed, labelled = folder / f"{name}_image_paths.csv", folder / f"{name}_labeled_studies.csv"
    for path in (listed, labelled):
        if not path.exists():
            raise DataInvalid(f"{path} is missing: is {folder} the folder MURA-v1.1?")
    paths = _table(listed, header=None, names=["path"], dtype=str).path
    if paths.empty:
        raise DataInvalid(f"{listed} has no rows.")
    rows = paths.str.extract(_MURA.pattern)
    if rows.id.isna().any():
        raise DataInvalid(f"{listed}: {rows.id.isna().sum()} lines are not paths of MURA.")
    studies = _table(labelled, header=None, names=["path", "label"])
    labels = dict(zip(studies.path.str.strip("/"), studies.label.astype(float)))
    rows["positive"] = paths.str.rpartition("/")[0].map(labels)
    if rows.positive.isna().any():
        raise DataInvalid(f"{labelled}: {rows.positive.isna().sum()} pictures have no label.")
    return rows


# --- fracatlas:DIR -----------------------------------------------------------------------------

_FRACATLAS_REGIONS = ("hand", "leg", "hip", "shoulder")
_FRACATLAS_VIEWS = ("frontal", "lateral", "oblique")
# What its four region columns say without a doubt. "hand" alone may be any part of the arm.
_FRACATLAS_PARTS = {
    "leg": "leg", "hip": "hip", "shoulder": "shoulder", "hand shoulder": "arm_with_shoulder",
}  # fmt: skip


def read_fracatlas(folder: Path) -> pd.DataFrame:
    """FracAtlas as it is downloaded: dataset.csv and images/{Fractured,Non_fractured}.

    It has no elbow class: its column "hand" covers the arm up to the elbow. For 961 of these
    pictures ``fracatlas_parts.csv``, beside this file, says elbow or hand; one reader told them
    apart from thumbnails, so expect a few per cent wrong. The rest, and pictures of several
    regions, are "mixed", from which stage 1 does not learn.

    It has no patient ids either. Views of one patient were filed one after the other, so a run of
    neighbouring numbers with the same regions counts as one patient: two patients in a row with
    the same region are taken for one, which costs nothing; a patient who came twice, or with two
    regions, is not found (copies of a picture are: ``training.duplicates``). Runs are told from
    dataset.csv, so that a missing file moves nobody.

    Abedeen et al., Scientific Data 10:521 (2023), CC BY 4.0.
    """
    path = folder / "dataset.csv"
    if not path.exists():
        raise DataInvalid(f"{path} is missing: is {folder} the folder FracAtlas?")
    table = _table(path, dtype={"image_id": str})
    _columns(table, ("image_id", *_FRACATLAS_REGIONS, "fractured"), path)
    table = table.sort_values("image_id", ignore_index=True)
    region = _flags(table, _FRACATLAS_REGIONS)
    first = table.image_id.where(region != region.shift()).ffill()
    return pd.DataFrame(
        {
            "id": table.image_id,
            "source": "fracatlas",
            "path": [
                _fracatlas_picture(folder, *row) for row in zip(table.image_id, table.fractured)
            ],
            "part": _fracatlas_parts(table.image_id, region),
            "region": region,
            "positive": table.fractured.astype(float),
            "positive_means": "fracture",
            "patient": "run " + first,
            "view": _flags(table, [v for v in _FRACATLAS_VIEWS if v in table]),
            "boxes": [_yolo_boxes(folder / "Annotations" / "YOLO", i) for i in table.image_id],
            "hardware": table.get("hardware"),
        }
    )


def _flags(table: pd.DataFrame, names: tuple[str, ...] | list[str]) -> pd.Series[str]:
    """The names of the columns that are 1, joined with a space."""
    words = [[n for n, v in zip(names, row) if v == 1] for row in table[list(names)].to_numpy()]
    return pd.Series([" ".join(w) for w in words], index=table.index, dtype=str)


def _fracatlas_parts(image_id: pd.Series[str], region: pd.Series[str]) -> pd.Series[str]:
    read = pd.read_csv(Path(__file__).with_name("fracatlas_parts.csv"))
    by_eye = image_id.map(dict(zip(read.image_id, read.part)))
    return region.map(_FRACATLAS_PARTS).fillna(by_eye.where(region == "hand")).fillna("mixed")


def _fracatlas_picture(folder: Path, name: str, fractured: int) -> str:
    return str(folder / "images" / ("Fractured" if fractured else "Non_fractured") / name)


def _yolo_boxes(folder: Path, name: str) -> str | None:
    """Boxes of one picture as ``x0 y0 x1 y1;…`` in fractions, from its YOLO file if it has one."""
    path = folder / f"{Path(name).stem}.txt"
    if not path.exists():
        return None
    boxes = []
    for line in path.read_text().splitlines():
        if line.strip():
            x, y, w, h = (float(v) for v in line.split()[1:5])
            corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
            boxes.append(" ".join(f"{v:.4f}" for v in corners))
    return ";".join(boxes) or None


# --- folder:DIR --------------------------------------------------------------------------------

DICOM = "dicom"  # numbers the patients whom headers name, whatever folder the files lie in
_LABELS = {"fractured": 1.0, "normal": 0.0}
# The number behind a word that says whose it is. A bare "p" may be the projection or the page as
# well: it counts in a folder's name, and at the start of the name of a file that lies in none.
_NAMED_PATIENT = re.compile(r"(?:^|[^a-z])(?:patient|pat)[ _-]?0*(\d+)", re.IGNORECASE)
_PATIENT = re.compile(r"(?:^|[^a-z])(?:patient|pat|p)[ _-]?0*(\d+)", re.IGNORECASE)
_BARE_PATIENT = re.compile(r"p[ _-]?0*(\d+)", re.IGNORECASE)
_STUDY = re.compile(r"(?:^|[^a-z])(?:study|s)[ _-]?0*(\d+)", re.IGNORECASE)


def read_folder(folder: Path) -> pd.DataFrame:
    """Pictures in ``<part>/<fractured|normal>/…``, of any supported format, DICOM too.

    The patient is, in this order: the Patient ID in the header of a DICOM file (as a digest, so
    that it stands in no file we write, and the same in every folder); the number behind "patient",
    "pat" or "p" in the name of the first folder below the label (``patient0042/a.png``), or behind
    "patient" or "pat" further below; else that folder's whole name (``0041/p1.png``); of a file in
    no folder the number behind "patient" or "pat" in its name, or behind a "p" at its start
    (``p42_2.png``). A file with none of these is a patient of its own. The study is the DICOM
    study, or the number behind "study" or "s". Files of the system's own
    (``core.system_files``) are passed over; every other file counts as a picture.
    """
    if not folder.is_dir():
        raise DataInvalid(f"{folder} is not a folder.")
    found = [_folder_row(folder, *one) for one in _labelled_files(folder)]
    if not found:
        raise DataInvalid(f"{folder} has no pictures in <part>/<fractured|normal>/.")
    rows = pd.DataFrame(found).assign(source=folder.resolve().name, positive_means="fracture")
    return rows.assign(numbered_by=rows.numbered_by.fillna(rows.source))


def _labelled_files(folder: Path) -> Iterator[tuple[str, float, Path]]:
    """Region, label and path of each picture; raises DataInvalid for another kind of folder."""
    regions = (p for p in folder.iterdir() if p.is_dir() and not of_the_system(f"{p.name}/"))
    for region in sorted(regions):
        for label in sorted(p for p in region.iterdir() if not of_the_system(p.name)):
            if label.name.lower() not in _LABELS or not label.is_dir():
                raise DataInvalid(f"{label}: expected a folder, {' or '.join(_LABELS)}.")
            for path in sorted(label.rglob("*")):
                if path.is_file() and not of_the_system(str(path.relative_to(label))):
                    yield region.name.lower(), _LABELS[label.name.lower()], path


def _folder_row(folder: Path, region: str, positive: float, path: Path) -> dict[str, Any]:
    name, header = path.relative_to(folder).as_posix(), _dicom_header(path)
    below = name.split("/", 2)[2]
    patient, study = header.get("patient") or _patient_in(below), _STUDY.search(below)
    named_study = f"{patient}/{region}/{study[1]}" if study and patient else None
    return {
        "id": name,
        "path": str(path),
        "part": PART_OF.get(region, region),
        "region": region,
        "positive": positive,
        "patient": patient,
        "numbered_by": DICOM if header.get("patient") else None,
        "study": header.get("study") or named_study,
        "view": header.get("view"),
    }


def _patient_in(below: str) -> str | None:
    """Whose picture it is by its path below the label, as ``read_folder`` says; None: unknown."""
    folder, slash, inside = below.partition("/")
    if slash:
        number = _PATIENT.search(folder) or _NAMED_PATIENT.search(inside)
        return number[1] if number else folder
    number = _NAMED_PATIENT.search(below) or _BARE_PATIENT.match(below)
    return number[1] if number else None


def _dicom_header(path: Path) -> dict[str, str]:
    """Digests of patient and study, and the view, of a DICOM file (PS3.3 C.7.1.1, C.7.2.1).

    Empty for any other file, and for a damaged one, which the decode boundary will refuse.
    """
    try:
        with path.open("rb") as file:
            if file.read(132)[128:] != b"DICM":
                return {}
        from pydicom import dcmread

        keywords = ("PatientID", "IssuerOfPatientID", "StudyInstanceUID", "ViewPosition")
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
        patient, issuer, study, view = (str(header.get(k) or "").strip() for k in keywords)
    except Exception as error:  # noqa: BLE001 - pydicom raises anything on a damaged file
        log.info("the header of a DICOM file could not be read: %s", where(error))
        return {}
    who = {"patient": _digest(issuer, patient)} if patient else {}
    return who | ({"study": _digest(study)} if study else {}) | ({"view": view} if view else {})


def _digest(*words: str) -> str:
    """16 hexadecimal digits. It keeps a name out of plain sight; it does not anonymise."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "manifest": read_manifest,
    "mura": read_mura,
    "fracatlas": read_fracatlas,
    "folder": read_folder,
}
