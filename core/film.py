"""From a photograph of a film or of a screen to the radiograph in it.

A clinic without a scanner sends what a telephone sees. Such a picture gives itself away by the
camera's exposure in its header, or by its colours where a film lies clearly in bright surroundings.
Then the film's corners (``core.corners``) are cut out where they are clear, the perspective undone,
and moire and reflections reduced. Where they are not, or where only colours or only the look of the
picture suggest a photograph, nothing is done and a reader is asked. What is no photograph passes as
it is.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from core import corners
from core.quadrilaterals import area, convex
from core.types import NEARLY_ALL, Corners, Photograph, Radiograph

CAST = 2.0  # grey values; exported radiographs have 0, tinted ones more
SURE = 0.6  # support of the sides from which the film is cut out without a question
ASKED = 0.85  # and from which one that no camera's header names is asked about, or cut if coloured
SURROUNDINGS = 24.0  # grey values; around a collimated field it is darker
LARGEST = 2000  # longer side of what is cut out, pixels
# Of the spectrum: natural logarithm that a peak stands out, cells that are its surroundings, how
# much nearer and further a ray is compared, and the longest wave in pixels that is taken for moire
PEAK, BROAD, RAY, LONGEST_WAVE = 1.6, 31, 1.3, 48
INSET = 0.004  # of each side, where the edge's own blur lies
OFF = 1.25  # by how much its aspect may differ from that of the mean sides
STRETCH = OFF**0.5  # and so a side of what is cut out from the mean one
SMALLEST = 0.01  # share of the photograph between corners that a reader gives
COLOURED = (
    "The picture is in colour: if it is a photograph of a film, the film has to be cut out first."
)


class Wish(StrEnum):
    """What to do with a picture.

    AUTOMATIC: of a photograph the film is cut out where it is clear. PHOTOGRAPH: a reader says that
    it is one, so something is cut out in any case. AS_TAKEN: a reader says that nothing is to be
    cut out. WHOLE: nothing is, as nothing was when it was assessed.
    """

    AUTOMATIC = "automatic"
    PHOTOGRAPH = "photograph"
    AS_TAKEN = "as taken"
    WHOLE = "whole"


Way: TypeAlias = Wish | Corners
"""A wish, or the corners that a reader gave."""
Box: TypeAlias = tuple[float, float, float, float]


def as_seen(radiograph: Radiograph, way: Way = Wish.AUTOMATIC) -> Radiograph:
    """The radiograph that is assessed: of a photograph the film in it, else the same object.

    Its ``photograph`` says so, with the corners, or without where it was left as it was taken. What
    has colours but no clear film is read as it is, with a caution.
    """
    if not isinstance(way, Wish):
        return straightened(radiograph, way)
    if way is Wish.PHOTOGRAPH:
        return straightened(radiograph, find(radiograph) or NEARLY_ALL)
    if radiograph.exposed and radiograph.format != "DICOM":
        found = find(radiograph) if way is Wish.AUTOMATIC else None
    elif not _coloured(radiograph):
        return radiograph
    elif way is Wish.WHOLE or (found := _clear(radiograph)) is None:
        warned = replace(radiograph, cautions=(*radiograph.cautions, COLOURED))
        return radiograph if way is Wish.AS_TAKEN else warned
    if found is None or way is Wish.AS_TAKEN:
        return replace(radiograph, photograph=Photograph())
    return straightened(radiograph, found)


def way_of(photograph: Photograph | None) -> Way:
    """How to make again what a result was made from."""
    if photograph is None:
        return Wish.WHOLE
    return photograph.corners or Wish.AS_TAKEN


def is_photograph(radiograph: Radiograph) -> bool:
    """Whether the file says that a camera took it, or has colours all over and a clear film.

    Colours alone do not tell: a film scanned on a blue base, or a screenshot in another colour
    space, has them too, and an edge of bone or of the collimated field is no film.
    """
    if radiograph.format == "DICOM":
        return False
    return radiograph.exposed or (_coloured(radiograph) and _clear(radiograph) is not None)


def _coloured(radiograph: Radiograph) -> bool:
    return radiograph.cast >= CAST


def find(radiograph: Radiograph) -> Corners | None:
    """Corners of the film in a photograph; None where they are not clear."""
    found = corners.find(radiograph.pixels)
    return _fractions(found, radiograph) if found and found.support >= SURE else None


def suspected(radiograph: Radiograph) -> bool:
    """Whether what was read as it is may still be a photograph of a film: it has colours all over,
    or a film lies clearly in it."""
    return _coloured(radiograph) or _clear(radiograph) is not None


def _clear(radiograph: Radiograph) -> Corners | None:
    """The film where a picture that no header tells from a radiograph is like a photograph of one.

    A quadrilateral that is not the whole picture and not its like, in surroundings that are not
    as black as those of a collimated field. Of a DICOM file only a reader says that it is one.
    """
    if radiograph.format == "DICOM":
        return None
    top = np.iinfo(radiograph.pixels.dtype).max / 255
    pixels = radiograph.pixels
    frame = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    if np.percentile(frame, 25) / top < SURROUNDINGS:
        return None
    found = corners.find(pixels)
    if found is None or found.support < ASKED:
        return None
    outside = np.ones(radiograph.pixels.shape, np.uint8)
    cv2.fillConvexPoly(outside, np.rint(found.corners).astype(np.int32), 0)
    around = pixels[outside == 1]
    if around.size == 0 or float(np.percentile(around, 25)) / top < SURROUNDINGS:
        return None
    return _fractions(found, radiograph)


def straightened(radiograph: Radiograph, given: Corners) -> Radiograph:
    """The film between four corners, or NEARLY_ALL, as a picture of its own, of the same dtype.

    Its sides are as long as in the photograph on average, its aspect that of the film.
    """
    height, width = radiograph.pixels.shape
    points = np.array(given, float) * (width, height)
    pixels = without_moire(_cut(radiograph.pixels, points))
    pixels.setflags(write=False)
    taken = Photograph(given)
    what = "the film in it was"
    if taken.guessed:
        what = "no film was clearly found in it, so its middle was"
    return replace(
        radiograph,
        pixels=pixels,
        pixel_spacing=None,
        photograph=taken,
        notes=(*radiograph.notes, f"A photograph: {what} cut out and straightened."),
    )


def in_photograph(box: Box, given: Corners) -> Box:
    """What encloses, in the photograph, a box on the film that was cut out between its corners.

    Both in fractions of width and height: left, top, right, bottom, in [0, 1].
    """
    x0, y0, x1, y1 = box
    way = cv2.getPerspectiveTransform(_target(1, 1), np.array(given, np.float32))
    edges = np.array([[[x0, y0], [x1, y0], [x1, y1], [x0, y1]]], np.float32)
    points = np.clip(cv2.perspectiveTransform(edges, way)[0], 0, 1)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return float(left), float(top), float(right), float(bottom)


def on_film(box: Box, given: Corners) -> Box | None:
    """What encloses, on the film that was cut out between its corners, a box on the photograph.

    Both as ``in_photograph`` has them. What of the box lies beside the film is left out; None where
    that is all of it.
    """
    x0, y0, x1, y1 = box
    edges = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)
    film = np.array(given, np.float32)
    # Cut first: what lies far beside the film may have no place on its plane.
    shared, points = cv2.intersectConvexConvex(edges, film)
    if shared <= 0 or points is None:
        return None
    way = cv2.getPerspectiveTransform(film, _target(1, 1))
    seen = np.clip(cv2.perspectiveTransform(points.reshape(1, -1, 2), way)[0], 0, 1)
    (left, top), (right, bottom) = seen.min(0), seen.max(0)
    return float(left), float(top), float(right), float(bottom)


def checked(values: Any, shape: tuple[int, int], least: int) -> Corners | None:
    """Corners that somebody gave, of any type; None where they are none, cross each other, or
    what is cut out would be too small.

    shape: (height, width) of the photograph. least: ``ImageLimits.min_side``.
    """
    try:
        points = np.array(values, float)
    except (TypeError, ValueError):
        return None
    if points.shape != (4, 2) or not ((points >= 0) & (points <= 1)).all():
        return None
    if not convex(points[None])[0] or area(points[None])[0] < SMALLEST:
        return None
    given = _rounded(points)
    height, width = shape
    return given if min(_size(np.array(given) * (width, height), shape)) >= least else None


def _rounded(points: NDArray[np.float64]) -> Corners:
    return tuple((round(float(x), 4), round(float(y), 4)) for x, y in points)


def _fractions(found: corners.Quadrilateral, radiograph: Radiograph) -> Corners:
    height, width = radiograph.pixels.shape
    return _rounded(np.clip(found.corners / (width, height), 0, 1))


def without_moire(pixels: NDArray[Any]) -> NDArray[Any]:
    """A picture (HxW uint8 or uint16) without the bands of a screen's pixels, of the same dtype.

    Bands are isolated peaks of the spectrum: far above what lies around them, and above what lies
    nearer to the middle and further out on the same ray, which an edge of the picture is not. They
    are brought down to their surroundings. Without any, the same object is returned.
    """
    height, width = pixels.shape
    spectrum = np.fft.fftshift(np.fft.fft2(pixels.astype(np.float32)))
    logs = np.log1p(np.abs(spectrum)).astype(np.float32)
    around = cv2.blur(logs, (BROAD, BROAD))
    middle = (width // 2, height // 2)
    level = around.copy()
    for scale in (RAY, 1 / RAY):
        turn = cv2.getRotationMatrix2D(middle, 0.0, scale)
        moved = cv2.warpAffine(cv2.blur(logs, (3, 3)), turn, (width, height))
        level = np.maximum(level, moved)
    y, x = np.ogrid[:height, :width]
    down, across = (y - middle[1]) / height, (x - middle[0]) / width
    waves = np.hypot(down, across) > 1 / LONGEST_WAVE
    axes = (np.abs(y - middle[1]) < 3) | (np.abs(x - middle[0]) < 3)
    peaks = (logs - level > PEAK) & waves & ~axes
    if not peaks.any():
        return pixels
    wide = cv2.dilate(peaks.astype(np.uint8), np.ones((5, 5), np.uint8)) == 1
    factor = np.where(wide, np.exp(np.minimum(0, around - logs)), 1)
    clean = np.fft.ifft2(np.fft.ifftshift(spectrum * factor)).real
    return np.rint(clean.clip(0, np.iinfo(pixels.dtype).max)).astype(pixels.dtype)


def _cut(pixels: NDArray[Any], points: NDArray[np.float64]) -> NDArray[Any]:
    height, width = _size(points, pixels.shape)
    way = cv2.getPerspectiveTransform(points.astype(np.float32), _target(height, width))
    return np.asarray(
        cv2.warpPerspective(
            pixels, way, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    )


def _target(height: float, width: float) -> NDArray[np.float32]:
    """Where the film's corners come to lie around what is cut out: 4x2, as x and y."""
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    edge = INSET * max(width, height)
    return target + edge * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)


def _size(points: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of the film in pixels."""
    sides = np.linalg.norm(np.roll(points, -1, 0) - points, axis=1)
    across, down = (sides[0] + sides[2]) / 2, (sides[1] + sides[3]) / 2
    aspect = _aspect(points, shape, across / down)
    area = across * down
    width, height = np.sqrt(area * aspect), np.sqrt(area / aspect)
    scale = min(1.0, LARGEST / max(width, height))
    return max(1, round(scale * height)), max(1, round(scale * width))


def _aspect(points: NDArray[np.float64], shape: tuple[int, ...], plain: float) -> float:
    """Width by height of the film, of which the photograph shows a perspective.

    As for whiteboards (Zhang and He 2007, section 3): two vanishing points give the focal length,
    which gives the aspect. Nearly parallel sides say nothing of the focal length: then, and where
    the result is far from the mean sides', these are taken.
    """
    middle = np.array([shape[1] / 2, shape[0] / 2])
    scale = max(shape)
    m = np.column_stack([(points - middle) / scale, np.ones(4)])
    m1, m2, m4, m3 = m[0], m[1], m[2], m[3]  # the paper's order: rows of two
    k2 = np.dot(np.cross(m1, m4), m3) / np.dot(np.cross(m2, m4), m3)
    k3 = np.dot(np.cross(m1, m4), m2) / np.dot(np.cross(m3, m4), m2)
    n2, n3 = k2 * m2 - m1, k3 * m3 - m1
    if min(abs(n2[2]), abs(n3[2])) < 0.01:
        focal2 = 1.2**2  # of a telephone, in widths of its picture
    else:
        focal2 = -(n2[0] * n3[0] + n2[1] * n3[1]) / (n2[2] * n3[2])
        focal2 = min(max(focal2, 0.6**2), 3.0**2)
    lengths = [np.sqrt((n[0] ** 2 + n[1] ** 2) / focal2 + n[2] ** 2) for n in (n2, n3)]
    found = float(lengths[0] / max(lengths[1], 1e-9))
    return found if 1 / OFF < found / plain < OFF else plain
