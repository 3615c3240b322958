"""Reading alone: a radiograph of real size from its bytes to the network's canvas."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np

from bench.clock import Way
from core import film, imaging
from core.settings import ROOT, Settings
from core.transforms import Preprocessing, to_canvas
from tests.simulated import dicom

HEIGHT, WIDTH = 3000, 2500
NOISE = 0.004  # of the full range: a detector's, without which a PNG would be too easy


def ways(settings: Settings, spec: Preprocessing) -> dict[str, Way]:
    """PNG, JPEG and an uncompressed 12-bit DICOM file of 3000 x 2500 pixels."""
    source = cv2.imread(str(sorted((ROOT / "samples").glob("*.png"))[0]), cv2.IMREAD_GRAYSCALE)
    grey = cv2.resize(source, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) / 255.0
    grey = (grey + np.random.default_rng(0).normal(0, NOISE, grey.shape)).clip(0, 1)
    eight, twelve = (grey * 255).astype(np.uint8), (grey * 4095).astype(np.uint16)
    files = {
        "PNG": cv2.imencode(".png", eight)[1].tobytes(),
        "JPEG": cv2.imencode(".jpg", eight)[1].tobytes(),
        "DICOM, 12 bit": dicom(twelve, BitsStored=12),
    }

    def read(data: bytes) -> None:
        radiograph = film.as_seen(imaging.decode(data, "", settings.limits))
        to_canvas(radiograph.pixels, spec)

    return {
        f"{name} {HEIGHT} x {WIDTH}, {len(data) / 2**20:.1f} MB": partial(read, data)
        for name, data in files.items()
    }
