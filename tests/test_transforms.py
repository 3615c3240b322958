"""Preprocessing: contrast, letterbox, tensor."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from core.transforms import (
    Preprocessing,
    _ends,
    _shrunk,
    autocontrast,
    placement,
    to_canvas,
    to_tensor,
)

SPEC = Preprocessing(size=64)


@pytest.mark.parametrize(
    ("height", "width"), [(64, 64), (300, 200), (200, 300), (1000, 1), (1, 999), (3, 5)]
)
def test_letterbox_keeps_the_shape(height, width):
    place = placement(height, width, 64)
    assert max(place.height, place.width) == 64
    assert (
        abs(place.height / place.width - height / width)
        <= max(height / width, 1) * 0.5 / min(place.height, place.width) + 1e-9
        or min(place.height, place.width) == 1
    )
    assert place.top >= 0 and place.top + place.height <= 64
    assert place.left >= 0 and place.left + place.width <= 64


def test_outside_of_the_picture_is_black():
    canvas = to_canvas(np.full((100, 50), 7, np.uint8) + np.eye(100, 50, dtype=np.uint8), SPEC)
    assert not canvas[:, :16].any()
    assert not canvas[:, 48:].any()


def test_exposure_and_bit_depth_do_not_matter():
    rng = np.random.default_rng(0)
    picture = rng.integers(20, 90, (80, 60)).astype(np.uint8)
    brighter = (picture.astype(np.uint16) * 400) + 1000
    np.testing.assert_array_equal(to_canvas(picture, SPEC), to_canvas(brighter, SPEC))


def test_a_marker_does_not_set_the_scale():
    rng = np.random.default_rng(0)
    picture = rng.integers(20, 90, (200, 200)).astype(np.uint8)
    marked = picture.copy()
    marked[:10, :10] = 255
    inside = np.s_[20:, 20:]
    difference = (
        autocontrast(picture, (0.5, 99.5))[inside] - autocontrast(marked, (0.5, 99.5))[inside]
    )
    assert np.abs(difference).max() < 0.02


def test_a_picture_without_contrast_is_black():
    assert not to_canvas(np.full((50, 40), 200, np.uint8), SPEC).any()


def test_few_bright_pixels_are_not_lost():
    picture = np.zeros((100, 100), np.uint8)
    picture[50, 50] = 9
    assert autocontrast(picture, (0.5, 99.5)).max() == 1.0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("height", "width"), [(1500, 1201), (1031, 1999), (4000, 300)])
def test_a_large_picture_gives_the_canvas_of_the_two_steps(dtype, height, width):
    rng = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    coarse = cv2.resize(rng.random((9, 9), np.float32), (width, height))
    pixels = ((coarse + 0.1 * rng.random((height, width))) / 1.2 * top).astype(dtype)
    place = placement(height, width, 224)
    one = cv2.resize(
        autocontrast(pixels, (0.5, 99.5)),
        (place.width, place.height),
        interpolation=cv2.INTER_AREA,
    )
    canvas = to_canvas(pixels, Preprocessing(size=224))
    inside = canvas[place.top :][: place.height, place.left :][:, : place.width]
    difference = np.abs(inside - one * 255.0)
    assert difference.max() < 0.501  # what rounding to 8 bit may do, and no more
    assert canvas.sum() == inside.sum()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_percentiles_by_counting_are_those_of_sorting(dtype):
    """Also of one pixel, of one value, and between two values, where NumPy interpolates."""
    rng = np.random.default_rng(0)
    between = 0
    for top in (1, 2, 7, 256, np.iinfo(dtype).max + 1):
        for shape in ((1, 1), (1, 2), (5, 3), (40, 60)):
            pixels = rng.integers(0, top, shape).astype(dtype)
            wanted = tuple(np.sort(rng.uniform(0, 100, 2)))
            for percentiles in (wanted, (0.0, 100.0)):
                low, high = np.percentile(pixels, percentiles)
                between += not low.is_integer()
                if high <= low:
                    low, high = pixels.min(), pixels.max()
                np.testing.assert_allclose(_ends(pixels, percentiles), (low, high), atol=1e-9)
    assert between > 5


def test_a_large_picture_whose_ends_are_no_whole_numbers():
    """What cannot be clipped as integers takes the other way to the same canvas."""
    pixels = np.random.default_rng(0).integers(0, 65536, (1201, 1003)).astype(np.uint16)
    assert not any(end.is_integer() for end in _ends(pixels, (0.5, 99.5)))
    place = placement(1201, 1003, 224)
    two = cv2.resize(
        autocontrast(pixels, (0.5, 99.5)),
        (place.width, place.height),
        interpolation=cv2.INTER_AREA,
    )
    one = _shrunk(pixels, place.height, place.width, (0.5, 99.5))
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_tensor_is_normalised_and_repeated():
    canvas = np.array([[[0, 255], [51, 0]]], np.uint8)
    x = to_tensor(canvas, Preprocessing(size=2, mean=0.5, std=0.25))
    assert x.shape == (1, 3, 2, 2)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x[0, 1], torch.tensor([[-2.0, 2.0], [-1.2, -2.0]]))


def test_the_table_for_8_bit_gives_the_numbers_of_the_arithmetic():
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70), np.uint8)
    by_table = autocontrast(pixels, (0.5, 99.5))
    assert by_table.dtype == np.float32 and by_table.shape == (90, 70)
    assert np.array_equal(by_table, autocontrast(pixels.astype(np.uint16), (0.5, 99.5)))
    turned = np.rot90(pixels)  # not contiguous
    assert np.array_equal(autocontrast(turned, (0.5, 99.5)), np.rot90(by_table))
