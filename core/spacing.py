"""How large the pixels of a DICOM file are, and the same picture in square ones.

A file may say that its pixels are higher than wide, or wider than high (PS3.3 C.7.6.3.1.7). Shown
and assessed as they are stored, the limb would be squashed, and a finding can change with it.
"""

from __future__ import annotations

import math

import cv2
from pydicom.dataset import Dataset

from core.grey import Grey, check_size
from core.lut import numbers
from core.settings import ImageLimits

Pair = tuple[float, float]

TOLERANCE = 0.01  # of the aspect: less than a picture is moved by its own rounding
MOST = 10.0  # beyond it, either way, a header is taken for damaged


def squared(
    pixels: Grey, dataset: Dataset, limits: ImageLimits
) -> tuple[Grey, Pair | None, list[str]]:
    """The picture (HxW) of a file in square pixels, of the same dtype: (picture, spacing, remarks).

    spacing: (row, column) in mm of the picture that is returned, None if not known. The direction
    that is coarser is enlarged, so that no detail is lost; where that is more than the limits
    allow, both are made as small as it takes. Raises ImageRejected where too little is left then.
    """
    spacing, remarks = _spacing(dataset)
    sides = spacing or _pair(dataset, "PixelAspectRatio") or (1.0, 1.0)
    aspect = sides[0] / sides[1]
    if 1 / (1 + TOLERANCE) <= aspect <= 1 + TOLERANCE:
        return pixels, spacing, remarks
    wide = f"{1 / aspect:.3g} times as wide as high"
    said = f"The file's pixels are {f'{aspect:.3g} times as high as wide' if aspect > 1 else wide}"
    if not 1 / MOST <= aspect <= MOST:
        return pixels, None, [f"{said}, which is not believed: they are taken for square."]
    square = _stretched(pixels, aspect, limits)
    if spacing:
        spacing = (
            spacing[0] * pixels.shape[0] / square.shape[0],
            spacing[1] * pixels.shape[1] / square.shape[1],
        )
    return square, spacing, [f"{said}: the picture was stretched to square ones.", *remarks]


def _stretched(pixels: Grey, aspect: float, limits: ImageLimits) -> Grey:
    """aspect: the height of a pixel by its width."""
    height, width = pixels.shape[0] * max(aspect, 1.0), pixels.shape[1] * max(1 / aspect, 1.0)
    most = math.sqrt(limits.max_pixels / (height * width))
    scale = min(limits.max_side / max(height, width), most)
    if scale < 1:  # rounded down, so as to be within them
        size, how = (int(scale * width), int(scale * height)), cv2.INTER_AREA
    else:
        size, how = (round(width), round(height)), cv2.INTER_LINEAR
    check_size(*size, limits)
    square: Grey = cv2.resize(pixels, size, interpolation=how)
    return square


def _spacing(dataset: Dataset) -> tuple[Pair | None, list[str]]:
    """(row, column) spacing in mm and a sentence on where it is measured (PS3.3 10.7.1)."""
    for keyword, remark in (
        ("PixelSpacing", "Distances follow the file's Pixel Spacing."),
        ("ImagerPixelSpacing", "Distances are those at the detector, not in the patient."),
    ):
        spacing = _pair(dataset, keyword)
        if spacing:
            return spacing, [remark]
    return None, []


def _pair(dataset: Dataset, keyword: str) -> Pair | None:
    """Two positive values, of the vertical and of the horizontal side; else None."""
    values = numbers(dataset, keyword)
    if len(values) == 2 and all(0 < v < math.inf for v in values):
        return values[0], values[1]
    return None
