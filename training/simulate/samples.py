"""The pictures in the project's folder ``samples``: chosen seeds, so that they can be made anew."""

from __future__ import annotations

from dataclasses import dataclass

from .render import Order

SIZE = 640


@dataclass(frozen=True)
class Sample:
    """One sample. dicom: empty for a PNG, else the photometric interpretation."""

    name: str
    order: Order
    dicom: str = ""


def sample(
    part: str, view: str, positive: bool, index: int, dicom: str = "", severity: float = 0.6,
    metal: bool = False, cast: bool = False,
) -> Sample:  # fmt: skip
    """A sample whose name tells the part, the view and its number, but not the finding."""
    name = f"{part}_{view.lower().replace(' ', '_')}_{index:02d}"
    order = Order(
        2026, index, SIZE, part, view, positive, metal, cast, severity if positive else None, True
    )
    return Sample(name, order, dicom)


SAMPLES = (
    sample("elbow", "AP", False, 1),
    sample("elbow", "AP", True, 2),
    sample("elbow", "lateral", False, 3),
    sample("elbow", "lateral", True, 4, dicom="MONOCHROME2"),
    sample("elbow", "oblique", True, 5, severity=0.3),
    sample("elbow", "oblique", False, 6, metal=True),
    sample("elbow", "lateral", True, 7, severity=0.9),
    sample("hand", "PA", False, 8),
    sample("hand", "PA", True, 9),
    sample("hand", "oblique", True, 10),
    sample("hand", "lateral", False, 11),
    sample("hand", "wrist PA", True, 12, severity=0.7),
    sample("hand", "wrist PA", False, 13, dicom="MONOCHROME1"),
    sample("hand", "wrist lateral", True, 14, severity=0.8),
    sample("hand", "wrist PA", False, 15, cast=True),
    sample("shoulder", "AP", False, 16),
    sample("shoulder", "AP", True, 17),
    sample("shoulder", "external rotation", True, 18, severity=0.8),
    sample("shoulder", "internal rotation", False, 19),
    sample("shoulder", "Y", True, 20, severity=0.8),
    sample("shoulder", "external rotation", False, 21, dicom="MONOCHROME2"),
    sample("knee", "AP", False, 22),
    sample("foot", "lateral", False, 23),
    sample("skull", "lateral", False, 24),
)
