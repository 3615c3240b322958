"""Records to CSV, Parquet or JSON lines, a row at a time, by image or by study."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from core.batch.journal import Record
from core.errors import BatchFailed
from core.manifest import Release
from core.origin import Origin
from core.spreadsheet import write_csv
from core.study import combine, key_of, without_patient
from core.types import (
    BodyPart,
    BodyPartPrediction,
    FracturePrediction,
    ImageResult,
    Photograph,
)

FORMATS = (".csv", ".parquet", ".jsonl")
IMAGE_COLUMNS: tuple[str, ...] = (
    "file",
    "sha256",
    "status",
    "reason",
    "body_part",
    "body_part_probability",
    "fracture_probability",
    "finding",
    "release",
    "photograph",
    "cautions",
)
STUDY_COLUMNS: tuple[str, ...] = (
    "study",
    "views",
    "views_counted",
    "status",
    "notes",
    "body_part",
    "fracture_probability",
    "finding",
    "release",
)
_NUMBERS = {"body_part_probability": "float64", "fracture_probability": "float64"}
_COUNTS = {"views": "int64", "views_counted": "int64"}
_GROUP = 10_000  # rows of a Parquet row group


def check_format(out: Path) -> None:
    """Raises BatchFailed unless the name ends in one of FORMATS."""
    if out.suffix.lower() not in FORMATS:
        raise BatchFailed(f"The output must end in {', '.join(FORMATS)}, not {out.suffix!r}.")


def write(path: Path, kind: str, rows: Iterable[Record], columns: tuple[str, ...]) -> None:
    """Rows to a file of one kind (of FORMATS); JSON lines take each row as it is."""
    if kind == ".jsonl":
        _write_lines(path, rows)
    elif kind == ".csv":
        _write_csv(path, rows, columns)
    else:
        _write_parquet(path, rows, columns)


def image_row(record: Record) -> Record:
    """A record of the journal flattened, for CSV and Parquet."""
    return result_of(record).to_row()


def public(record: Record) -> Record:
    """A record of the journal as the contract has it."""
    return {k: v for k, v in record.items() if k not in ("study_uid", "patient")}


def study_rows(records: Iterable[Record], release: Release) -> Iterator[Record]:
    """A row for each study, in the order in which each is met first; one study of all is held.

    Patients under one Study Instance UID or in one folder are studies of their own.
    """
    views: dict[str, list[Record]] = {}
    for record in records:
        key = key_of(record["file"], record["study_uid"], record.get("patient") or "")
        views.setdefault(key, []).append(record)
    patients: dict[str, list[str]] = {}
    for key in views:
        patients.setdefault(without_patient(key), []).append(key)
    for key, found in views.items():
        study = combine(key, [result_of(r) for r in found], release)
        yield {
            "study": _name(key, patients[without_patient(key)]),
            "views": len(study.views),
            "views_counted": len(study.counted),
            "status": "rejected" if study.finding is None else "ok",
            "notes": " ".join(study.notes) or None,
            "body_part": study.body_part,
            "fracture_probability": study.probability and round(study.probability, 6),
            "finding": study.finding and study.finding.value,
            "release": release.id,
        }


def _name(key: str, together: Sequence[str]) -> str:
    """What a study is called; together: the keys that differ by the patient alone."""
    name = without_patient(key)
    known = [k for k in together if k != name]
    if key == name:
        return f"{name}, no Patient ID" if known else name
    return name if len(known) == 1 else f"{name}, patient {known.index(key) + 1} of {len(known)}"


def result_of(record: Record) -> ImageResult:
    """The ImageResult that a record was made from, without its heatmap."""
    part = record["body_part"]
    fracture = record["fracture"]
    return ImageResult(
        record["file"],
        record["sha256"],
        record["reason"],
        record["release"],
        record["release_sha256"],
        record["milliseconds"],
        part
        and BodyPartPrediction(
            BodyPart(part["label"]),
            part["probability"],
            {BodyPart(k): v for k, v in part["probabilities"].items()},
        ),
        fracture and FracturePrediction.from_json(fracture),
        photograph=Photograph.from_json(record.get("photograph")),
        origin=origin_of(record),
    )


def origin_of(record: Record) -> Origin:
    """Of a record of an older version what it says: nothing."""
    return Origin.from_json(record["origin"]) if "origin" in record else Origin()


def _write_lines(path: Path, rows: Iterable[Record]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_csv(path: Path, rows: Iterable[Record], columns: tuple[str, ...]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        write_csv(file, rows, columns)


def _write_parquet(path: Path, rows: Iterable[Record], columns: tuple[str, ...]) -> None:
    import pyarrow
    from pyarrow import parquet

    from core.batch.flow import chunks

    kinds = _NUMBERS | _COUNTS
    schema = pyarrow.schema([(c, getattr(pyarrow, kinds.get(c, "string"))()) for c in columns])
    with parquet.ParquetWriter(path, schema) as writer:
        for group in chunks(rows, _GROUP):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
