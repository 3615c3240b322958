"""Cross-fitting: training and validation dealt into folds, for networks that are to be averaged.

Where a part has few labelled pictures, a validation split of its own has fewer still: thresholds
hang on a handful of them, and they teach nothing. So each of several runs of ``fit`` holds another
fold back, ``average`` makes one network of them, and ``member`` reads it by what each run says of
the pictures that it never saw (Stone 1974; Chernozhukov et al. 2018 call it cross-fitting). Every
labelled picture then teaches, and every one is there to calibrate by. ``test`` stays as it is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core import files
from training import provenance
from training.data import PARTS, SIMULATED, DataInvalid, read_all
from training.duplicates import Copies, look

STAYS = -1
COLUMNS = (
    "id", "source", "part", "file", "positive", "positive_means", "group", "study", "view",
    "boxes", "hardware", "split",
)  # fmt: skip


def write(data: Sequence[str], count: int, out: Path) -> list[Path]:
    """``out/1.csv`` to ``out/<count>.csv``, manifests (``training.sources``) of the same pictures.

    In the k-th the pictures of the fold k are ``val`` and all others outside of ``test`` are
    ``train``. Copies and pictures of one patient are in one fold. Reads every picture. Raises
    DataInvalid for fewer than two folds, and for what ``read_all`` refuses.
    """
    if count < 2:
        raise DataInvalid("Cross-fitting takes at least two folds.")
    given = " ".join(f"--data {provenance.portable(d)}" for d in data)
    command = f"python -m training folds {given} --count {count} --out {out.name}"
    if (out / provenance.FOLDS).exists():
        raise DataInvalid(f"{out} holds folds already; give another --out.")
    rows = read_all(data)
    fold = deal(rows, Copies.find(rows, look(rows.path.tolist())).person, count)
    out.mkdir(parents=True, exist_ok=True)
    dealt: dict[str, str] = {}
    for k in range(count):
        path = out / f"{k + 1}.csv"
        held = np.where(fold == k, "val", np.where(rows.split == "test", "test", "train"))
        table = _manifest(rows.assign(split=held), out)
        files.write_atomically(path, lambda p, t=table: t.to_csv(p, index=False))  # type: ignore[misc]
        dealt[path.name] = provenance.digest(path)
    files.write_json(out / provenance.FOLDS, {"command": command, "files": dealt})
    return [out / name for name in dealt]


def deal(rows: pd.DataFrame, person: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """The fold of each row, 0 to count - 1, or STAYS.

    Dealt is who has a labelled real radiograph of a part of the cascade, or is in ``val``; who is
    in ``test`` too, as copies show, is not. Each fold gets as nearly as possible the same share of
    each part, source and label. The order of the rows does not matter. person: N numbers.
    """
    found = np.full(len(rows), STAYS, dtype=np.int64)
    labelled = rows.part.isin(PARTS) & rows.positive.notna() & (rows.source != SIMULATED)
    # What sorts first says of a person where he is dealt: his positives, as they are the fewest.
    rank = pd.Series(np.where(labelled, np.where(rows.positive == 1, "0", "1"), "2"), rows.index)
    table = pd.DataFrame(
        {
            "person": person,
            "dealt": (labelled | (rows.split == "val")).to_numpy(),
            "test": (rows.split == "test").to_numpy(),
            "rank": rank,
            "stratum": rank + "/" + rows.part + "/" + rows.source,
            "name": rows.source.astype(str) + "/" + rows.id.astype(str),
        }
    )
    people = table.groupby("person").agg(
        dealt=("dealt", "any"), test=("test", "any"), stratum=("stratum", "min"),
        name=("name", "min"), rank=("rank", "min"),
    )  # fmt: skip
    alike = table["rank"] == people["rank"].loc[table.person].to_numpy()
    people["size"] = table[alike].groupby("person").size()
    people = people[people.dealt & ~people.test]
    # A draw that no other row moves.
    people["draw"] = [hashlib.sha256(name.encode()).hexdigest() for name in people.name]
    place: dict[int, int] = {}
    for _, alike in people.groupby("stratum"):
        full = np.zeros(count)
        # The largest first, each to the emptiest fold: people have one picture or thirty.
        for number, one in alike.sort_values(["size", "draw"], ascending=[False, True]).iterrows():
            start = int(one.draw[:8], 16) % count
            emptiest = min(range(count), key=lambda k: (full[k], (k - start) % count))
            full[emptiest] += one["size"]
            place[int(number)] = emptiest
    for i, number in enumerate(person):
        found[i] = place.get(int(number), STAYS)
    return found


def _manifest(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    there = folder.resolve()
    table = rows.assign(
        file=[os.path.relpath(Path(p).resolve(), there) for p in rows.path], group=rows.patient
    )
    return table[list(COLUMNS)]
