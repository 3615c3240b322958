"""What the tests of batches share: a folder with hostile files, and a cascade without a network.

Run as a program it scores a folder slowly, to be killed: ``python -m tests.batches FOLDER OUT``.
"""

from __future__ import annotations

import io
import math
import os
import struct
import sys
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from core.batch.run import Order, run
from core.batch.scoring import Scorer
from core.quality import finding_of
from core.settings import ImageLimits
from core.transforms import Canvas, Preprocessing
from core.types import (
    Assessment,
    BodyPart,
    BodyPartPrediction,
    FracturePrediction,
    Heatmap,
    ImageResult,
    Radiograph,
)
from tests.simulated import dicom, encoded, phantom

STAGE = SimpleNamespace(operating_points=(), label_means="fracture", classes=("positive",))
FOREVER = 600.0


@dataclass
class Stand:
    """Stands in for a cascade: the probability is twice the mean grey. Counts what it scores.

    seconds: for each picture. most: after so many it does not go on, and waits to be killed.
    """

    seconds: float = 0.0
    most: float = math.inf
    sha256: str = "0" * 64
    seen: int = 0
    engine: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(description="none", setting="torch")
    )

    @property
    def release(self) -> SimpleNamespace:
        stages = dict.fromkeys(("elbow", "hand", "shoulder"), STAGE)
        return SimpleNamespace(
            id="stand",
            sha256=self.sha256,
            preprocessing=Preprocessing(64),
            stages=stages,
            with_digest=lambda _: None,
        )

    def assess(self, canvases: Sequence[Canvas], part: BodyPart | None = None) -> list[Assessment]:
        found = []
        for canvas in canvases:
            time.sleep(self.seconds if self.seen < self.most else FOREVER)
            self.seen += 1
            value = min(1.0, float(canvas.mean() / 127))
            label = BodyPart.HAND if canvas[0].sum() % 2 else BodyPart.ELBOW
            fracture = FracturePrediction(value, finding_of(value, ()))
            heatmap = Heatmap(np.full((4, 4), value, np.float32), "Grad-CAM")
            body = BodyPartPrediction(label, 0.9, {label: 0.9, BodyPart.OTHER: 0.1})
            found.append(Assessment(body, None, fracture, heatmap))
        return found

    def result(self, radiograph: Radiograph, a: Assessment, milliseconds: float) -> ImageResult:
        return ImageResult(
            radiograph.name, radiograph.sha256, a.reason, "stand", self.sha256, milliseconds,
            a.body_part, a.fracture, a.heatmap,
        )  # fmt: skip


def scorer(cascade: object, **options: object) -> Scorer:
    return Scorer(cascade, ImageLimits(), **{"threads": 2, **options})


def bomb() -> bytes:
    """A PNG of a few KiB whose header promises 13,000 x 13,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 13_000, 13_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(13_001 * 20), 9)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def hostile() -> dict[str, bytes]:
    """Thirty files that are no radiographs, by name."""
    png, jpeg = encoded(phantom(), "PNG"), encoded(phantom(), "JPEG")
    deep = dicom(phantom(bits=12))
    files = {
        "empty.png": b"",
        "text.png": b"this is no picture",
        "=cmd|' -C calc'!A0.png": b"formula",
        "line\nbreak.jpg": b"\xff\xd8\xff",
        "quote\",'.png": b"\x89PNG\r\n\x1a\n",
        "Schädel-手.dcm": b"\0" * 128 + b"DICM",
        os.fsdecode(b"latin-\xe9.png"): b"no UTF-8 in its name",
        "bomb.png": bomb(),
        "zip.png": b"PK\x03\x04 archive",
        "report.pdf": b"%PDF-1.7",
    }
    for n in range(1, 6):
        files[f"cut-{n}.png"] = png[: len(png) * n // 6]
        files[f"cut-{n}.jpg"] = jpeg[: len(jpeg) * n // 7]
        files[f"cut-{n}.dcm"] = deep[: 140 + 20 * n]
        files[f"flipped-{n}.png"] = png[:60] + bytes([png[60] ^ (1 << n)]) + png[61:]
    return files


def fill(folder: Path, good: int, bad: int = 0) -> Path:
    """``good`` pictures, every tenth one a copy, among ``bad`` hostile files."""
    for n in range(good):
        below = folder / f"patient{n // 10:05d}" / f"study{n % 2}_positive"
        below.mkdir(parents=True, exist_ok=True)
        seed = 0 if n % 10 == 9 else n
        data = encoded(phantom(60 + seed % 7, 50, seed=seed), "PNG")
        (below / f"image{n:03d}.png").write_bytes(data)
    for name, data in list(hostile().items())[:bad]:
        (folder / name).write_bytes(data)
    return folder


def main(folder: str, out: str) -> None:
    """Score a folder slowly in small batches, going on where an earlier run was killed."""
    order = Order(Path(folder), Path(out), resume=True)
    run(order, scorer(Stand(seconds=0.01, most=40), batch=4), threading.Event(), io.StringIO())


if __name__ == "__main__":
    main(*sys.argv[1:])
