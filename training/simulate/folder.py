"""Folders of simulated cases: all that ``python -m training simulate`` writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from core.display import reduced
from training.simulate.anatomy import Skeleton
from training.simulate.export import (
    SOURCE,
    eight_bit,
    encode_png,
    row_of,
    save_dicom,
    write_manifest,
)
from training.simulate.render import Case, Order, simulate
from training.simulate.samples import SAMPLES
from training.simulate.views import ALL_BONES, all_views

Row = dict[str, str | int | float]
# Below this many pictures a second process costs more than it saves: each refines its own bones.
WORTH_A_SECOND_PROCESS = 48
THUMBNAIL = 320  # pixels: longer side of the small copy of a DICOM sample, for the gallery
# Of each ten cases, one is for validation and one for the test.
SPLITS = ("train",) * 8 + ("val", "test")


@dataclass(frozen=True)
class Job:
    """A share of the cases, for one process. dicom: also write a DICOM file of each."""

    out: Path
    orders: tuple[Order, ...]
    dicom: bool


def write_folder(
    out: Path, orders: list[Order], dicom: bool = False, workers: int | None = None
) -> int:
    """Fill ``out`` with pictures, masks and a manifest; returns how many pictures.

    workers: processes; None for one on each core where the number of pictures is worth it.
    """
    for folder in (f"images/{SOURCE}", "masks", *(["dicom"] if dicom else [])):
        (out / folder).mkdir(parents=True, exist_ok=True)
    if workers is None:
        workers = (os.cpu_count() or 1) if len(orders) >= WORTH_A_SECOND_PROCESS else 1
    jobs = [Job(out, tuple(orders[k::workers]), dicom) for k in range(workers)]
    if workers == 1:
        rows = work_all(jobs[0])
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            rows = [row for part in pool.map(work_all, jobs) for row in part]
    rows.sort(key=lambda row: str(row["id"]))
    write_manifest(out / "manifest.csv", rows)
    return len(rows)


def work_all(job: Job) -> list[Row]:
    """All rows of one job; runs in its own process."""
    return list(work(job))


def work(job: Job) -> Iterator[Row]:
    """Simulate and write the cases of one job, a row of the manifest for each."""
    parts = {order.part for order in job.orders}
    wanted = {bone for view in all_views() if view.part in parts for bone in view.bones}
    skeleton = Skeleton(ALL_BONES if None in parts else wanted)
    for order in job.orders:
        case = simulate(skeleton, order)
        name = f"sim_s{order.seed}_{order.index:06d}"
        yield write_case(job.out, case, name, order.index, job.dicom)


def write_case(out: Path, case: Case, name: str, index: int, dicom: bool) -> Row:
    """Write one case as PNG, its mask if it has one, and a DICOM file if asked for."""
    file = f"images/{SOURCE}/{name}.png"
    (out / file).write_bytes(encode_png(eight_bit(case)))
    mask = ""
    if case.positive:
        mask = f"masks/{name}.png"
        (out / mask).write_bytes(encode_png(case.mask))
    if dicom:
        save_dicom(out / "dicom" / f"{name}.dcm", case, name, inverted=index % 2 == 1)
    return row_of(case, name, file, mask, SPLITS[index % len(SPLITS)])


def write_samples(out: Path) -> int:
    """Write the project's samples, each stamped SIMULATED, and their manifest."""
    out.mkdir(parents=True, exist_ok=True)
    skeleton = Skeleton(ALL_BONES)
    rows = []
    for sample in SAMPLES:
        case = simulate(skeleton, sample.order)
        file = f"{sample.name}.{'dcm' if sample.dicom else 'png'}"
        if sample.dicom:
            save_dicom(out / file, case, sample.name, inverted=sample.dicom == "MONOCHROME1")
            (out / "thumbs").mkdir(exist_ok=True)
            (out / "thumbs" / f"{sample.name}.png").write_bytes(
                encode_png(reduced(eight_bit(case), THUMBNAIL))
            )
        else:
            (out / file).write_bytes(encode_png(eight_bit(case)))
        mask = ""
        if case.positive:
            (out / "masks").mkdir(exist_ok=True)
            mask = f"masks/{sample.name}.png"
            (out / mask).write_bytes(encode_png(case.mask))
        rows.append(row_of(case, sample.name, file, mask, "test"))
    write_manifest(out / "manifest.csv", rows)
    return len(rows)
