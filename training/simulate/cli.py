"""``python -m training simulate``: a folder of simulated radiographs, or the project's samples."""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from .anatomy import Skeleton
from .export import (
    SOURCE,
    eight_bit,
    encode_png,
    row_of,
    save_dicom,
    write_manifest,
)
from .render import OTHERS, SUPPORTED, Case, Order, simulate
from .samples import SAMPLES
from .views import ALL_BONES

log = logging.getLogger(__name__)

Row = dict[str, str | int | float]
# Below this many pictures a second process costs more than it saves: each refines its own bones.
WORTH_A_SECOND_PROCESS = 48
# Of each ten cases, one is for validation and one for the test.
SPLITS = ("train",) * 8 + ("val", "test")


@dataclass(frozen=True)
class Job:
    """A share of the cases, for one process. dicom: also write a DICOM file of each."""

    out: Path
    orders: tuple[Order, ...]
    dicom: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``simulate``."""
    parser.add_argument("--out", type=Path, help="folder to fill")
    parser.add_argument("--count", type=int, default=100, help="number of pictures (100)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same files")
    parser.add_argument("--size", type=int, default=512, help="longest side in pixels (512)")
    parser.add_argument("--part", choices=(*SUPPORTED, *OTHERS), help="only this part")
    parser.add_argument("--dicom", action="store_true", help="also write 12-bit DICOM files")
    parser.add_argument("--stamp", action="store_true", help="write SIMULATED into each picture")
    parser.add_argument("--workers", type=int, help="processes (one for each core)")
    parser.add_argument("--samples", type=Path, help="write the project's samples to this folder")


def run(args: argparse.Namespace) -> int:
    """Do what the options say; 0 if it was done, 2 if they make no sense."""
    if (args.out is None) == (args.samples is None):
        log.error("give either --out or --samples")
        return 2
    if args.count < 1 or not 64 <= args.size <= 2048:
        log.error("--count must be at least 1 and --size between 64 and 2048")
        return 2
    started = time.perf_counter()
    if args.samples is not None:
        count = write_samples(args.samples)
    else:
        count = write_folder(args)
    seconds = time.perf_counter() - started
    log.info("%d pictures in %.1f s, %.2f a second", count, seconds, count / seconds)
    return 0


def write_folder(args: argparse.Namespace) -> int:
    """Fill ``args.out`` with pictures, masks and a manifest; how many pictures."""
    orders = [
        Order(args.seed, index, args.size, part=args.part, stamp=args.stamp)
        for index in range(args.count)
    ]
    for folder in (f"images/{SOURCE}", "masks", *(["dicom"] if args.dicom else [])):
        (args.out / folder).mkdir(parents=True, exist_ok=True)
    workers = args.workers or (os.cpu_count() or 1)
    if args.count < WORTH_A_SECOND_PROCESS and not args.workers:
        workers = 1
    rows: list[Row] = []
    if workers == 1:
        for row in work(Job(args.out, tuple(orders), args.dicom)):
            rows.append(row)
    else:
        jobs = [Job(args.out, tuple(orders[k::workers]), args.dicom) for k in range(workers)]
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for part in pool.map(work_all, jobs):
                rows += part
    rows.sort(key=lambda row: str(row["id"]))
    write_manifest(args.out / "manifest.csv", rows)
    return len(rows)


def work_all(job: Job) -> list[Row]:
    """All rows of one job; runs in its own process."""
    return list(work(job))


def work(job: Job) -> Iterator[Row]:
    """Simulate and write the cases of one job, a row of the manifest for each."""
    skeleton = Skeleton(ALL_BONES)
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
