"""The same radiograph twice: found by file and by look, and kept from crossing the splits.

A split by patient leaks all the same where one picture is filed under two patients. Exact copies
have the same SHA-256. Near copies were encoded again, scaled, stretched in contrast, marked, or cut
off by a broken transfer. They are found in two steps:

1. A 256-bit difference hash (is a pixel brighter than its left neighbour, on 16 x 17 pixels) gives
   candidates: pairs within 50 bits. By itself no hash does for radiographs, which look alike: of
   the pairs that the usual 64 bits put within 2 of each other, 97 in 100 were different pictures.
2. The correlation of fine detail decides: 64 x 64 pixels without their low frequencies, scaled to
   the same local strength; the higher of the whole picture's and the top half's, because what a
   broken transfer loses is the bottom.

The limits come from 10,153 radiographs of five data sets, with pairs down to 0.8 seen by eye: the
117 pairs from 0.96 up were one radiograph each (and at most 35 bits apart), all from 0.92 down two:
two exposures of a patient, or two patients laid down alike. Mirrored, turned and cropped copies
are not found.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from core import files
from core.errors import ImageRejected
from core.settings import ImageLimits, Settings
from training.config import read_record
from training.data import read_picture
from training.phases import BODY_PART, DUPLICATES
from training.sources import SPLITS, DataInvalid

log = logging.getLogger(__name__)

Grey = NDArray[np.float32]
Bytes = NDArray[np.int8]
Positions = NDArray[np.intp]

HASH_DISTANCE = 50
LIKENESS = 0.94
KEPT, LEFT_OUT, UNREAD = "yes", "no", "unread"
"""What a list says of a picture, in its column ``kept``."""
_SIDE = 64
_BLOCK = 256


@dataclass(frozen=True)
class Prints:
    """What is kept of N pictures to compare them.

    sha256: N hexadecimal digests, "" where the file could not be read. reason: why, else "".
    bits: Nx256 int8, +1 or -1. detail: Nx64x64 int8.
    """

    sha256: NDArray[np.str_]
    reason: NDArray[np.str_]
    bits: Bytes
    detail: Bytes

    def __len__(self) -> int:
        return len(self.sha256)


def look(paths: Sequence[str]) -> Prints:
    """Read every picture once; about 4 ms of one core for a picture of 512 pixels."""
    limits = Settings.from_environment().limits
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(
            tqdm(
                pool.map(_look, paths, repeat(limits)),
                "comparing",
                len(paths),
                unit="img",
                delay=5,
                mininterval=5,
            )
        )
    sha256, reason, bits, detail = zip(*found)
    return Prints(np.array(sha256), np.array(reason), np.stack(bits), np.stack(detail))


def _look(path: str, limits: ImageLimits) -> tuple[str, str, Bytes, Bytes]:
    try:
        radiograph = read_picture(path, limits)
    except ImageRejected as error:
        return "", error.reason, np.ones(256, np.int8), np.zeros((_SIDE, _SIDE), np.int8)
    small = _stretched(cv2.resize(radiograph.pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA))
    return radiograph.sha256, "", difference_hash(small), fine_detail(small)


def _stretched(grey: NDArray[Any]) -> Grey:
    """Contrast stretched to [0, 255]; black where there is none."""
    low, high = np.percentile(grey, (0.5, 99.5))
    if high <= low:
        return np.zeros(grey.shape, np.float32)
    return (grey.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))


def difference_hash(grey: Grey) -> Bytes:
    """HxW grey values in [0, 255] -> 256 signs: +1 where a pixel outshines its left neighbour.

    By one grey value at least, or rounding would decide on empty film.
    """
    tiny = cv2.resize(grey, (17, 16), interpolation=cv2.INTER_AREA)
    return np.where(tiny[:, 1:] > tiny[:, :-1] + 1, 1, -1).astype(np.int8).ravel()


def fine_detail(grey: Grey) -> Bytes:
    """64x64 grey values in [0, 255] -> edges and texture, alike in strength everywhere.

    The 2 grey values added to the local deviation keep empty film from becoming texture.
    """
    fine = grey - cv2.GaussianBlur(grey, (0, 0), 2)
    strength = np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), 4))
    detail: Bytes = np.clip(np.rint(fine / (strength + 2) * 32), -127, 127).astype(np.int8)
    return detail


def near_pairs(prints: Prints) -> tuple[Positions, Positions, Grey]:
    """Positions i < j of pictures that look the same, and how alike they are."""
    signs = prints.bits.astype(np.float32)
    readable = prints.reason == ""
    least = signs.shape[1] - 2 * HASH_DISTANCE
    found = []
    for start in range(0, len(signs), _BLOCK):
        products = signs[start : start + _BLOCK] @ signs[start:].T
        i, j = np.nonzero(np.triu(products >= least, k=1))
        i, j = i + start, j + start
        here = readable[i] & readable[j]
        i, j = i[here], j[here]
        value = likeness(prints.detail, i, j)
        close = value >= LIKENESS
        found.append((i[close], j[close], value[close]))
    first, second, alike = (np.concatenate(side) for side in zip(*found))
    return first, second, alike


def likeness(detail: Bytes, i: Positions, j: Positions) -> Grey:
    """Correlation in [-1, 1] of pairs of pictures: of the whole or the top half, if higher."""
    value = np.zeros(len(i), np.float32)
    for start in range(0, len(i), 4 * _BLOCK):
        chunk = slice(start, start + 4 * _BLOCK)
        a, b = detail[i[chunk]].astype(np.float32), detail[j[chunk]].astype(np.float32)
        value[chunk] = _likeness(a, b)
    return value


def _likeness(a: Grey, b: Grey) -> Grey:
    """The same for Nx64x64 on both sides."""

    def halves(x: Grey, y: Grey) -> Grey:
        x, y = (z.reshape(-1, 2, _SIDE // 2 * _SIDE) for z in (x, y))
        product: Grey = np.einsum("nkp,nkp->nk", x, y)
        return product

    ab, aa, bb = halves(a, b), halves(a, a), halves(b, b)
    whole = ab.sum(1) / np.sqrt(aa.sum(1) * bb.sum(1) + 1)
    top = ab[:, 0] / np.sqrt(aa[:, 0] * bb[:, 0] + 1)
    # A marker on an empty top half says nothing about the picture.
    says = np.minimum(aa[:, 0] / (aa.sum(1) + 1), bb[:, 0] / (bb.sum(1) + 1)) > 0.25
    value: Grey = np.where(says, np.maximum(whole, top), whole)
    return value


@dataclass(frozen=True)
class Copies:
    """Which rows are the same radiograph, and whose patients are therefore the same person.

    exact, radiograph, person: one number a row; rows with the same number belong together.
    ``exact`` counts equal files only, ``radiograph`` near copies too.
    """

    exact: NDArray[np.int32]
    radiograph: NDArray[np.int32]
    person: NDArray[np.int32]

    @classmethod
    def find(cls, rows: pd.DataFrame, prints: Prints) -> Copies:
        own = np.arange(len(rows)).astype(str)
        file = pd.factorize(np.where(prints.sha256 == "", own, prints.sha256))[0]
        i, j, _ = near_pairs(prints)
        exact = _joined(len(rows), [_links(file)])
        radiograph = _joined(len(rows), [_links(file), (i, j)])
        patient = pd.factorize(rows.patient)[0]
        person = _joined(len(rows), [_links(radiograph), _links(patient)])
        return cls(exact, radiograph, person)

    def crossing(self, rows: pd.DataFrame, exact: bool = False) -> int:
        """How many radiographs are in more than one split."""
        groups = rows.split.groupby(self.exact if exact else self.radiograph)
        return int((groups.nunique() > 1).sum())

    def left_out(self, rows: pd.DataFrame) -> NDArray[np.bool_]:
        """The rows to leave out, so that no person is in two splits.

        Of a person who is in several splits through copies, the pictures in the split nearest to
        test stay, so nothing of ``test`` is ever left out.
        """
        rank = rows.split.map(SPLITS.index)
        nearest = rank.groupby(self.person).transform("max")
        return np.asarray(rank < nearest)


def _links(label: NDArray[np.integer]) -> tuple[Positions, Positions]:
    """Each row joined to the first with the same label."""
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    return np.arange(len(label)), first[inverse]


def _joined(n: int, links: Sequence[tuple[Positions, Positions]]) -> NDArray[np.int32]:
    """The connected component of each of n rows."""
    i, j = (np.concatenate(side) for side in zip(*links))
    graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(n, n))
    number: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return number


def settle(rows: pd.DataFrame, policy: str = "drop") -> pd.DataFrame:
    """Rows to train on: no radiograph is in two splits.

    policy: "drop" leaves out, farther from test, the pictures of a patient who is in a nearer
    split too, as copies show, and logs how many; "refuse" raises DataInvalid and says how many;
    "keep" looks at nothing. Reads every picture; one that cannot be read is left out, as nobody
    knows whether it is a copy. Of ``test`` nothing else is.
    """
    found = _found(rows, policy)
    return rows if (found == KEPT).all() else rows[found == KEPT].reset_index(drop=True)


def _found(rows: pd.DataFrame, policy: str) -> NDArray[np.object_]:
    """Of each row KEPT, LEFT_OUT or UNREAD."""
    if policy not in DUPLICATES:
        raise ValueError(f"{policy!r} is not one of {DUPLICATES}.")
    found = np.full(len(rows), KEPT, object)
    if policy == "keep" or rows.empty:
        return found
    prints = look(rows.path.tolist())
    copies = Copies.find(rows, prints)
    if crossing := copies.crossing(rows):
        exact = copies.crossing(rows, exact=True)
        said = f"{crossing} radiographs are in more than one split ({exact} as the same file)"
        if policy == "refuse":
            raise DataInvalid(f"{said}.")
        found[copies.left_out(rows)] = LEFT_OUT
        counts = rows.split[found == LEFT_OUT].value_counts().to_dict()
        log.warning("%s; pictures of their patients that are left out: %s", said, counts)
    unread = prints.reason != ""
    found[unread] = UNREAD
    for path, reason in zip(rows.path[unread], prints.reason[unread]):
        log.warning("left out %s: %s", path, reason)
    if unread.all():
        raise DataInvalid(f"None of {len(rows)} pictures can be read.")
    return found


LABELLED = "labelled"
ROWS = "rows.csv"
"""In the folder of a run: what ``settle_once`` keeps."""
_KEY = ("source", "id", "split")


def settle_once(rows: pd.DataFrame, listed: Path, policy: str = "drop") -> pd.DataFrame:
    """``settle``, which takes minutes, with what it found kept in the file ``listed``.

    Where that is there, it is what counts, also for some of its pictures: what could not be read
    then stays left out. Raises DataInvalid for pictures that it does not list, as whether they are
    copies was never looked at, and where none can be read.
    """
    key = list(_KEY)
    if not listed.exists():
        _write(rows, _found(rows, policy), listed)
    known = read_list(listed)
    whole = "kept" in known  # an earlier version listed those alone that it kept
    found = rows.merge(known if whole else known.assign(kept=KEPT), on=key, how="left")
    unknown = found.kept.isna()
    if unknown.any() and (whole or unknown.all()):
        raise DataInvalid(
            f"{listed.parent} holds a run on other pictures ({unknown.sum()} of {len(found)} are "
            "not among its own): name another folder."
        )
    if unread := int((found.kept == UNREAD).sum()):
        log.warning(
            "%d of %d pictures could not be read when they were compared, and stay left out",
            unread, len(found),
        )  # fmt: skip
    kept = found[found.kept == KEPT]
    return kept.drop(columns=["kept", LABELLED], errors="ignore").reset_index(drop=True)


def write_list(rows: pd.DataFrame, kept: pd.DataFrame, listed: Path) -> None:
    """Every row by name, whether it is among those that were kept, and whether it has a label."""
    key = list(_KEY)
    found = rows[key].merge(kept[key].assign(kept=KEPT), on=key, how="left").kept
    _write(rows, found.fillna(LEFT_OUT).to_numpy(object), listed)


def _write(rows: pd.DataFrame, found: NDArray[np.object_], listed: Path) -> None:
    every = rows[list(_KEY)].assign(kept=found)
    every[LABELLED] = np.where(rows.positive.notna(), "yes", "no")
    files.write_atomically(listed, lambda p: every.to_csv(p, index=False))


def read_list(listed: Path) -> pd.DataFrame:
    """The list of a run as text: ``source``, ``id``, ``split``, and of newer ones ``kept`` and
    LABELLED.

    Raises DataInvalid for a file that is no such table.
    """
    try:
        known = pd.read_csv(listed, dtype=str, keep_default_na=False)
        if not {*_KEY} <= {*known}:
            raise ValueError("It lacks columns.")
    except ValueError as error:
        raise DataInvalid(f"{listed} is damaged.") from error
    return known


def names_taught(listed: Path) -> set[tuple[str, str]]:
    """Source and id of the pictures that a run has learned from or chosen on, by its list."""
    known = read_list(listed)
    kept = known.get("kept", pd.Series(KEPT, known.index)).eq(KEPT)
    known = known[known.split.ne("test") & kept]
    return set(zip(known.source, known.id))


def names_trained(listed: Path) -> dict[tuple[str, str], bool]:
    """Source and id of the pictures that a run was trained on, by its list, and whether they taught
    it a finding (an older list does not tell: they did)."""
    known = read_list(listed)
    kept = known.get("kept", pd.Series(KEPT, known.index)).eq(KEPT)
    known = known[known.split.eq("train") & kept]
    labelled = known.get(LABELLED, pd.Series("yes", known.index)).eq("yes")
    return dict(zip(zip(known.source, known.id), labelled))


def settle_as(rows: pd.DataFrame, runs: Iterable[Path], policy: str = "drop") -> pd.DataFrame:
    """``settle``, by what the first of these runs has found that looked at all these pictures.

    Folders that are no run, and runs of one part (``fit --only``), are passed over.
    """
    for run in runs:
        if (run / ROWS).exists() and not _of_one_part(run):
            try:
                return settle_once(rows, run / ROWS)
            except DataInvalid:
                log.info("%s is a run on other pictures: they are compared anew", run)
    return settle(rows, policy)


def _of_one_part(run: Path) -> bool:
    path = run / "config.toml"
    config = read_record(path) if path.exists() else {}
    return config.get("only", "") not in ("", BODY_PART)


def seen_in_training(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Rows outside of train whose person, as patients and copies tell, is in train too.

    For figures of a release whose training did not leave them out. Reads every picture.
    """
    person = Copies.find(rows, look(rows.path.tolist())).person
    train = (rows.split == "train").to_numpy()
    return np.isin(person, person[train]) & ~train
