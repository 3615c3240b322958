"""Data sets as rows, and their pictures as canvases in memory."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from core.transforms import Preprocessing, to_canvas


def read_manifest(path: Path) -> pd.DataFrame:
    """Rows of a manifest.csv, with the path of each picture in the column ``path``."""
    rows = pd.read_csv(path)
    folder = path.parent / "images"
    rows["path"] = [str(folder / s / f"{i}.webp") for s, i in zip(rows.source, rows.id)]
    return rows


def load_canvases(rows: pd.DataFrame, spec: Preprocessing) -> np.ndarray:
    """All pictures of ``rows`` as NxSxS uint8."""
    canvases = np.zeros((len(rows), spec.size, spec.size), np.uint8)
    for i, path in enumerate(rows.path):
        canvases[i] = to_canvas(cv2.imread(path, cv2.IMREAD_GRAYSCALE), spec)
    return canvases
