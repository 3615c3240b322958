"""Where the evidence lies, as one closed outline in the coordinates of the picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from core.explain import on_picture
from core.types import Finding, ImageResult, Radiograph

LEVEL = 0.5
"""Share of the heatmap's maximum from which on a place belongs to the region."""
_SIDE = 512  # the map has some 7 x 7 cells, so a finer grid would draw interpolation


def outline(radiograph: Radiograph, result: ImageResult) -> NDArray[np.float64] | None:
    """Nx2 (column, row), first point = last point; None where nothing is suspected or no evidence.

    The largest area whose heat is at least LEVEL of the maximum. Coordinates as in DICOM (PS3.3
    C.10.5.1.2): the top left corner of the picture is (0, 0), the centre of its first pixel
    (0.5, 0.5).
    """
    found, heatmap = result.fracture, result.heatmap
    if found is None or heatmap is None or found.finding is Finding.NOT_SUSPECTED:
        return None
    height, width = radiograph.pixels.shape
    scale = min(1.0, _SIDE / max(height, width))
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    heat = on_picture(heatmap, rows, columns)
    if heat.max() <= 0:
        return None
    mask = (heat >= LEVEL * heat.max()).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea)
    points = cv2.approxPolyDP(largest, 1.0, True)[:, 0].astype(np.float64)
    if len(points) < 3:
        return None
    points = (points + 0.5) * (width / columns, height / rows)
    return np.vstack([points, points[:1]])
