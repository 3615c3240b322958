"""The pictures in the project's folder ``samples``: chosen seeds, so that they can be made anew."""

from __future__ import annotations

from dataclasses import dataclass

from training.simulate.render import Order

SEED = 2026
SIZE = 640


@dataclass(frozen=True)
class Sample:
    """One sample. dicom: empty for a PNG, else the photometric interpretation."""

    name: str
    order: Order
    dicom: str = ""


def sound(
    part: str, view: str, index: int, *, dicom: str = "", metal: bool = False, cast: bool = False
) -> Sample:
    """A sample without a fracture."""
    return named(Order(SEED, index, SIZE, part, view, False, metal, cast, None, True), dicom)


def broken(
    part: str, view: str, index: int, severity: float, *, dicom: str = "", metal: bool = False
) -> Sample:
    """A sample with a fracture; severity from 0 (barely visible) to 1."""
    return named(Order(SEED, index, SIZE, part, view, True, metal, False, severity, True), dicom)


def named(order: Order, dicom: str) -> Sample:
    """Names tell the part, the view and the seed's index, but not the finding."""
    view = str(order.view).lower().replace(" ", "_")
    return Sample(f"{order.part}_{view}_{order.index:03d}", order, dicom)


SAMPLES = (
    broken("elbow", "AP", 111, 0.6),
    sound("elbow", "AP", 1),
    broken("elbow", "lateral", 164, 0.9),
    sound("elbow", "lateral", 3),
    broken("elbow", "oblique", 140, 0.35),
    sound("elbow", "oblique", 6, metal=True),
    broken("elbow", "lateral", 124, 0.6, dicom="MONOCHROME2"),
    broken("hand", "PA", 208, 0.6),
    sound("hand", "PA", 8),
    broken("hand", "wrist PA", 252, 0.7),
    sound("hand", "wrist PA", 13, dicom="MONOCHROME1"),
    broken("hand", "oblique", 231, 0.6),
    sound("hand", "lateral", 11),
    broken("hand", "wrist lateral", 263, 0.6),
    sound("hand", "wrist PA", 15, cast=True),
    broken("shoulder", "AP", 305, 0.6),
    sound("shoulder", "AP", 16),
    broken("shoulder", "external rotation", 325, 0.8),
    sound("shoulder", "internal rotation", 19),
    broken("shoulder", "Y", 344, 0.8),
    sound("shoulder", "external rotation", 21, dicom="MONOCHROME2"),
    sound("knee", "AP", 22),
    sound("foot", "lateral", 23),
    sound("skull", "lateral", 24),
)
