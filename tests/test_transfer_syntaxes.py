"""One radiograph in every encoding: the probabilities agree."""

from __future__ import annotations

import io

import cv2
import imagecodecs
import numpy as np
import pytest
from pydicom.pixels.utils import compress
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from core import imaging, pipeline
from core.cascade import Cascade
from core.settings import ImageLimits
from core.transforms import to_canvas
from tests.simulated import dataset, encoded, part10, phantom

LIMITS = ImageLimits()
SOFT = cv2.GaussianBlur(phantom(320, 256, bits=12), (0, 0), 2)
WINDOW = {"BitsStored": 12, "WindowCenter": 2048, "WindowWidth": 4096}
EIGHT = np.rint(SOFT / 4095 * 255).astype(np.uint8)


def compressed(syntax: str, **options: float) -> bytes:
    ds = dataset(SOFT, **WINDOW)
    part10(ds)
    compress(ds, syntax, generate_instance_uid=False, **options)
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def turbo(syntax: str, **options: object) -> bytes:
    frame = imagecodecs.jpeg8_encode(SOFT, bitspersample=12, **options)
    return part10(dataset(SOFT, **WINDOW), syntax, frame)


def inverted() -> bytes:
    ds = dataset(4095 - SOFT, **WINDOW, PhotometricInterpretation="MONOCHROME1")
    return part10(ds)


def big_endian() -> bytes:
    ds = dataset(SOFT, **WINDOW, PixelData=SOFT.astype(">u2").tobytes())
    return part10(ds, ExplicitVRBigEndian)


def negative_slope() -> bytes:
    ds = dataset(4095 - SOFT, **WINDOW, RescaleSlope=-1, RescaleIntercept=4095)
    return part10(ds)


def baseline() -> bytes:
    return part10(dataset(EIGHT), JPEGBaseline8Bit, encoded(EIGHT, "JPEG", quality=92))


LOSSLESS = {
    "implicit": lambda: part10(dataset(SOFT, **WINDOW), ImplicitVRLittleEndian),
    "deflated": lambda: part10(dataset(SOFT, **WINDOW), DeflatedExplicitVRLittleEndian),
    "big endian": big_endian,
    "MONOCHROME1": inverted,
    "negative slope": negative_slope,
    "RLE": lambda: compressed(RLELossless),
    "JPEG-LS": lambda: compressed(JPEGLSLossless),
    "JPEG 2000": lambda: compressed(JPEG2000Lossless),
    "JPEG lossless": lambda: turbo(JPEGLosslessSV1, lossless=True),
}
NEAR = {
    "PNG of the window": lambda: encoded(EIGHT, "PNG"),
    "JPEG": baseline,
    "JPEG extended": lambda: turbo(JPEGExtended12Bit, level=92),
    "JPEG-LS near": lambda: compressed(JPEGLSNearLossless, jls_error=4),
    "JPEG 2000": lambda: compressed(JPEG2000, j2k_cr=[8]),
}


def probabilities(cascade: Cascade, data: bytes) -> np.ndarray:
    """Of the four parts and of the elbow's finding."""
    radiograph, result = pipeline.diagnose(cascade, data, "a", LIMITS)
    assert radiograph is not None and result.body_part is not None, result.reason
    part = next(iter(cascade.release.parts))
    found = cascade.predict([radiograph], part)[0].fracture
    assert found is not None
    return np.array([*result.body_part.probabilities.values(), found.probability])


@pytest.fixture(scope="module")
def plain() -> bytes:
    return part10(dataset(SOFT, **WINDOW), ExplicitVRLittleEndian)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_agree(cascade: Cascade, plain: bytes, kind: str) -> None:
    other = probabilities(cascade, LOSSLESS[kind]())
    np.testing.assert_allclose(other, probabilities(cascade, plain), atol=1e-6)


@pytest.mark.parametrize("kind", NEAR)
def test_what_loses_a_little_is_seen_within_a_grey_level(
    cascade: Cascade, plain: bytes, kind: str
) -> None:
    """Of 256, on the canvas; what a network of random weights makes of it says nothing."""
    spec, data = cascade.release.preprocessing, NEAR[kind]()
    one, other = (
        to_canvas(imaging.decode(d, "a", LIMITS).pixels, spec).astype(int) for d in (plain, data)
    )
    assert 0 < np.abs(one - other).max() <= 1
    assert np.isfinite(probabilities(cascade, data)).all()
