"""What one session has read and scored: each file once, in a bounded memory.

Results are kept by what determines them (digest of the file, release, part chosen by the reader).
Nothing is shared between sessions, and nothing outlives one.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, TypeVar

import streamlit as st

from core import film, imaging
from core.cascade import Cascade
from core.display import encoded, to_8_bit
from core.manifest import Release
from core.pipeline import diagnose
from core.settings import ImageLimits
from core.types import BodyPart, DicomHeader, Heatmap, ImageResult
from pages import _access, _audit
from pages._drops import Drops
from pages._sources import Source
from pages._viewer import Prepared

RESULTS_KEPT = 2000
PICTURES_KEPT = 8
HEATMAPS_KEPT = 100
PHOTOGRAPH_SIDE = 1000  # pixels, on the screen

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """A dictionary that forgets what was used longest ago."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def drop(self, which: Callable[[K, V], bool]) -> None:
        """Forget the values of which that is true."""
        for key in [k for k, value in self._values.items() if which(k, value)]:
            del self._values[key]

    def items(self) -> list[tuple[K, V]]:
        return list(self._values.items())

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of ``key``, made if it is not there."""
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)
        while len(self._values) > self._size:
            self._values.popitem(last=False)
        return self._values[key]


@dataclass
class Session:
    """The memory of one browser session.

    chosen: the part that the reader named, by source. ways: what the reader wants done with a
    photograph, by source. filmed: (height, width) of the photographs whose corners were on the
    page, by source. headers: what DICOM says of each source that was decoded, None without it.
    drops: which drop each source came with, and which study it belongs to.
    """

    digests: Bounded[str, str] = field(default_factory=lambda: Bounded(RESULTS_KEPT))
    results: Bounded[Hashable, ImageResult] = field(default_factory=lambda: Bounded(RESULTS_KEPT))
    pictures: Bounded[Hashable, Prepared] = field(default_factory=lambda: Bounded(PICTURES_KEPT))
    photographs: Bounded[str, tuple[bytes, tuple[int, int]]] = field(
        default_factory=lambda: Bounded(PICTURES_KEPT)
    )
    suspects: Bounded[str, bool] = field(default_factory=lambda: Bounded(RESULTS_KEPT))
    heatmaps: Bounded[Hashable, Future[Heatmap]] = field(
        default_factory=lambda: Bounded(HEATMAPS_KEPT)
    )
    chosen: dict[str, BodyPart] = field(default_factory=dict)
    ways: dict[str, film.Way] = field(default_factory=dict)
    filmed: dict[str, tuple[int, int]] = field(default_factory=dict)
    headers: dict[str, DicomHeader | None] = field(default_factory=dict)
    drops: Drops = field(init=False)

    def __post_init__(self) -> None:
        self.drops = Drops(self.headers, partial(_digest, self.digests))

    def known(self, source: Source, cascade: Cascade) -> bool:
        """Whether a result is there already."""
        return source.id in self.digests and self._key(source, cascade) in self.results

    def result(self, source: Source, cascade: Cascade, limits: ImageLimits) -> ImageResult:
        """Score a file, or remember the score; with the part that the reader chose, if any."""
        key = self._key(source, cascade)
        found = self.results.get(key, lambda: self._score(source, cascade, limits))
        return replace(found, file=source.name)

    def picture(self, source: Source, limits: ImageLimits, way: film.Way | None = None) -> Prepared:
        """The picture for the screen, decoded again where it was forgotten. way: what is done with
        a photograph, where that is not what the reader wants by now."""
        seen = way or self._way(source)

        def make() -> Prepared:
            radiograph = imaging.decode(source.read(), source.name, limits)
            return Prepared.of(film.as_seen(radiograph, seen))

        return self.pictures.get((self._digest(source), seen), make)

    def taken(self, source: Source, limits: ImageLimits) -> tuple[bytes, tuple[int, int]]:
        """A photograph as it was taken, as a JPEG file of at most PHOTOGRAPH_SIDE pixels; and
        (height, width) of its own."""

        def make() -> tuple[bytes, tuple[int, int]]:
            pixels = imaging.decode(source.read(), source.name, limits).pixels
            return encoded(to_8_bit(pixels, PHOTOGRAPH_SIDE)), (pixels.shape[0], pixels.shape[1])

        return self.photographs.get(self._digest(source), make)

    def suspected(self, source: Source, prepared: Prepared) -> bool:
        """Whether a picture that was read as it is may be a photograph of a film, or no film was
        clear in one."""
        radiograph = prepared.radiograph
        if (taken := radiograph.photograph) is not None:
            return taken.corners is None or taken.guessed
        digest = self._digest(source)
        return self.suspects.get(digest, lambda: film.suspected(radiograph))

    def heatmap(
        self,
        source: Source,
        result: ImageResult,
        method: str,
        cascade: Cascade,
        limits: ImageLimits,
    ) -> Future[Heatmap] | None:
        """A heatmap by another method than the closed form, computed once, beside the page.

        None where the closed form is asked for, which is in the result. Whatever else this session
        still waits for is given up: it is of a view or method that is looked at no more.
        """
        if result.heatmap is None or result.part is None or method == result.heatmap.method:
            self.give_up()
            return None
        part, data, way = result.part, source.read(), self._way(source)

        def compute() -> Heatmap:
            radiograph = film.as_seen(imaging.decode(data, source.name, limits), way)
            return cascade.explain(radiograph, part, method)

        key = (*self._key(source, cascade), method)
        self.give_up(but=key)
        return self.heatmaps.get(key, lambda: _worker().submit(compute))

    def give_up(self, but: Hashable = None) -> None:
        """Cancel the heatmaps that wait, as one worker computes those of all sessions in turn.

        What failed is forgotten with them, so that it is tried again when it is asked for again.
        """
        self.heatmaps.drop(
            lambda key, asked: (
                key != but and (asked.cancel() or (asked.done() and asked.exception() is not None))
            )
        )

    def peek(self, source: Source, limits: ImageLimits) -> None:
        """Read what a DICOM file says of its study, so that views are grouped before any score."""
        if source.id not in self.headers:
            self.headers[source.id] = imaging.peek(source.read(), limits)

    def patients(self, sources: Iterable[Source]) -> int:
        """How many patients the files name, by their Patient ID."""
        headers = [self.headers.get(s.id) for s in sources]
        return len({h.patient for h in headers if h is not None and h.patient})

    def forget(self, ids: Collection[str]) -> None:
        """Of sources that were removed: what was read of them, and what the reader said.

        Not the numbers of their names: no other study is called otherwise because one is gone.
        """
        self.give_up()
        told: list[dict[str, Any]] = [
            self.chosen, self.ways, self.headers, self.filmed, self.drops.of, self.drops.brought,
            self.drops.moved,
        ]  # fmt: skip
        for of_each in told:
            for one in ids:
                of_each.pop(one, None)
        gone = {digest for one, digest in self.digests.items() if one in ids}
        self.digests.drop(lambda one, _: one in ids)
        gone -= {digest for _, digest in self.digests.items()}  # one file under two names
        kept: list[Bounded[Any, Any]] = [
            self.results, self.pictures, self.photographs, self.suspects, self.heatmaps
        ]  # fmt: skip
        for by_digest in kept:
            by_digest.drop(lambda key, _: (key if isinstance(key, str) else key[0]) in gone)

    def forget_parts(self, release: Release) -> None:
        """A part that the reader named and that this release has no model of is named no more."""
        known = {*release.parts, BodyPart.OTHER}
        self.chosen = {k: part for k, part in self.chosen.items() if part in known}

    def _score(self, source: Source, cascade: Cascade, limits: ImageLimits) -> ImageResult:
        part = self.chosen.get(source.id)
        actor, digest = _access.actor(), self._digest(source)
        _audit.write("image.opened", actor, sha256=digest)
        data, way = source.read(), self._way(source)
        radiograph, result = diagnose(
            cascade, data, source.name, limits, part, way=way, digest=digest
        )
        _audit.write("result.shown", actor, **_audit.facts(digest, result))
        if radiograph is not None:
            self.headers[source.id] = radiograph.header
            self.pictures.get(self._picture_key(source), lambda: Prepared.of(radiograph))
        return result

    def _key(self, source: Source, cascade: Cascade) -> tuple[Hashable, ...]:
        return *self._picture_key(source), cascade.release.sha256, self.chosen.get(source.id)

    def _picture_key(self, source: Source) -> tuple[Hashable, ...]:
        return self._digest(source), self._way(source)

    def _way(self, source: Source) -> film.Way:
        """As the reader wants it; else what the camera took is a photograph whatever it shows."""
        default = film.Wish.PHOTOGRAPH if source.camera else film.Wish.AUTOMATIC
        return self.ways.get(source.id, default)

    def _digest(self, source: Source) -> str:
        return _digest(self.digests, source)


def _digest(digests: Bounded[str, str], source: Source) -> str:
    return digests.get(source.id, lambda: hashlib.sha256(source.read()).hexdigest())


@st.cache_resource(show_spinner=False)
def _worker() -> ThreadPoolExecutor:
    """One for all sessions: the methods of the library take one caller at a time anyhow."""
    return ThreadPoolExecutor(1, thread_name_prefix="heatmap")


def session() -> Session:
    """The memory of the session that calls."""
    return st.session_state.setdefault("scoring", Session())
