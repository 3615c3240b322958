"""Where the evidence lies, as one closed outline in the coordinates of the picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from core.explain import around_peak, on_picture
from core.types import Finding, ImageResult, Radiograph

_SIDE = 512  # the map has some 7 x 7 cells, so a finer grid would draw interpolation


def outline(radiograph: Radiograph, result: ImageResult) -> NDArray[np.float64] | None:
    """Nx2 (column, row), first point = last point; None where nothing is suspected or no evidence.

    The region that the pages draw: connected with the heatmap's peak, at least half as high.
    Coordinates as in DICOM (PS3.3 C.10.5.1.2), of the pixels that the file has: the top left corner
    of the picture is (0, 0), the centre of its first pixel (0.5, 0.5).
    """
    found, heatmap = result.fracture, result.heatmap
    if found is None or heatmap is None or found.finding is Finding.NOT_SUSPECTED:
        return None
    height, width = radiograph.pixels.shape
    scale = min(1.0, _SIDE / max(height, width))
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    edge = around_peak(on_picture(heatmap, rows, columns))
    if edge is None:
        return None
    points = cv2.approxPolyDP(edge, 1.0, True)[:, 0].astype(np.float64)
    if len(points) < 3:
        return None
    points = (points + 0.5) / (columns, rows) * stored_size(radiograph)[::-1]
    return np.vstack([points, points[:1]])


def stored_size(radiograph: Radiograph) -> tuple[int, ...]:
    """(rows, columns) of the source object, whose own pixels every coordinate refers to."""
    return radiograph.stored or radiograph.pixels.shape
