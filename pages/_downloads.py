"""What the reader takes away: CSV, lines of JSON, and the picture under its heatmap."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from core.types import BodyPart, ImageResult
from pages._theme import RESEARCH_ONLY

FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Record:
    """A result with the body part that the reader chose for it, if any."""

    result: ImageResult
    assessed_as: BodyPart | None = None


def to_csv(records: Iterable[Record]) -> str:
    """A line for each input, with the columns of ``ImageResult.to_row`` and ``assessed_as``.

    A cell that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    rows = [r.result.to_row() | {"assessed_as": r.assessed_as} for r in records]
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows({k: _harmless(v) for k, v in row.items()} for row in rows)
    return out.getvalue()


def to_json_lines(records: Iterable[Record]) -> str:
    """The public record of each input, and ``assessed_as``."""
    lines = [r.result.to_json() | {"assessed_as": r.assessed_as} for r in records]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def to_png(picture: NDArray[np.uint8], record: Record) -> bytes:
    """The picture (HxWx3 uint8) with a strip below it that says what it is and who says so."""
    image = Image.fromarray(picture)
    lines = _caption(record)
    size = max(11, image.width // 45)
    font = ImageFont.load_default(size)
    while size > 8 and max(font.getlength(line) for line in lines) > image.width - size:
        size -= 1
        font = ImageFont.load_default(size)
    step = round(1.5 * size)
    out = Image.new("RGB", (image.width, image.height + step * len(lines) + size), "black")
    out.paste(image)
    draw = ImageDraw.Draw(out)
    for n, line in enumerate(lines):
        top = image.height + size // 2 + n * step
        draw.text((size // 2, top), line, fill=(217, 222, 226), font=font)
    file = io.BytesIO()
    out.save(file, "PNG")
    return file.getvalue()


def _caption(record: Record) -> tuple[str, ...]:
    result, fracture = record.result, record.result.fracture
    if fracture is None:
        return (f"Release {result.release}", RESEARCH_ONLY)
    finding = fracture.finding.value.replace("_", " ")
    part = record.assessed_as or (result.body_part and result.body_part.label)
    by = " (part chosen by the reader)" if record.assessed_as else ""
    return (
        f"{part}{by}: {finding}, probability {100 * fracture.probability:.0f} %",
        f"Heatmap scaled by the probability. Release {result.release}",
        RESEARCH_ONLY,
    )


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
