"""What one session has read and scored: each file once, in a bounded memory.

Results are kept by what determines them (digest of the file, release, part chosen by the reader).
Nothing is shared between sessions, and nothing outlives one.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import cv2
import numpy as np
import streamlit as st
from numpy.typing import NDArray

from core import imaging
from core.cascade import Cascade
from core.pipeline import diagnose
from core.settings import ImageLimits
from core.transforms import autocontrast
from core.types import BodyPart, ImageResult, Radiograph
from pages._sources import Source

DISPLAY_SIDE = 1440
DISPLAY_PERCENTILES = (0.1, 99.9)
RESULTS_KEPT = 2000
VIEWS_KEPT = 8

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """A dictionary that forgets what was used longest ago."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of ``key``, made if it is not there."""
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)
        while len(self._values) > self._size:
            self._values.popitem(last=False)
        return self._values[key]


@dataclass(frozen=True)
class View:
    """A radiograph made ready for the screen.

    pixels: HxW uint8, at most DISPLAY_SIDE on the longer side, in its own proportions.
    facts: what the details say about it, (name, value).
    """

    pixels: NDArray[np.uint8]
    facts: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, radiograph: Radiograph) -> View:
        pixels, how = windowed(radiograph.pixels)
        height, width = radiograph.pixels.shape
        scale = min(1.0, DISPLAY_SIDE / max(height, width))
        if scale < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        facts = [("File", f"{radiograph.format}, {width} × {height} pixels"), ("Shown", how)]
        if radiograph.pixel_spacing is not None:
            facts.append(("Pixel spacing", "{:.3g} × {:.3g} mm".format(*radiograph.pixel_spacing)))
        facts += [("Note", note) for note in radiograph.notes]
        return cls(pixels, tuple(facts))


@dataclass
class Session:
    """The memory of one browser session."""

    digests: Bounded[str, str] = field(default_factory=lambda: Bounded(RESULTS_KEPT))
    results: Bounded[Hashable, ImageResult] = field(default_factory=lambda: Bounded(RESULTS_KEPT))
    views: Bounded[str, View] = field(default_factory=lambda: Bounded(VIEWS_KEPT))
    chosen: dict[str, BodyPart] = field(default_factory=dict)

    def known(self, source: Source, cascade: Cascade) -> bool:
        """Whether a result is there already."""
        return source.id in self.digests and self._key(source, cascade) in self.results

    def result(self, source: Source, cascade: Cascade, limits: ImageLimits) -> ImageResult:
        """Score a file, or remember the score; with the part that the reader chose, if any."""
        key = self._key(source, cascade)
        found = self.results.get(key, lambda: self._score(source, cascade, limits))
        return replace(found, file=source.name)

    def view(self, source: Source, limits: ImageLimits) -> View:
        """The picture for the screen, decoded again where it was forgotten."""
        return self.views.get(
            self._digest(source),
            lambda: View.of(imaging.decode(source.read(), source.name, limits)),
        )

    def _score(self, source: Source, cascade: Cascade, limits: ImageLimits) -> ImageResult:
        part = self.chosen.get(source.id)
        radiograph, result = diagnose(cascade, source.read(), source.name, limits, part)
        if radiograph is not None:
            self.views.get(self._digest(source), lambda: View.of(radiograph))
        return result

    def _key(self, source: Source, cascade: Cascade) -> Hashable:
        return self._digest(source), cascade.release.sha256, self.chosen.get(source.id)

    def _digest(self, source: Source) -> str:
        return self.digests.get(source.id, lambda: hashlib.sha256(source.read()).hexdigest())


def session() -> Session:
    """The memory of the session that calls."""
    return st.session_state.setdefault("scoring", Session())


def windowed(pixels: NDArray[np.generic]) -> tuple[NDArray[np.uint8], str]:
    """8 bit for the screen, and how that was made. Deep or very flat pictures are stretched."""
    low, high = np.percentile(pixels[::4, ::4], DISPLAY_PERCENTILES)
    if pixels.dtype == np.uint8 and high - low > 127:
        return pixels, "Grey values as they are"
    stretched = autocontrast(pixels, DISPLAY_PERCENTILES)
    return np.rint(stretched * 255).astype(np.uint8), (
        "Grey values stretched between the percentiles {:g} and {:g}".format(*DISPLAY_PERCENTILES)
    )
