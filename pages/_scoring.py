"""What one session has read and scored: each file once, in a bounded memory.

Results are kept by what determines them (digest of the file, release, part chosen by the reader).
Nothing is shared between sessions, and nothing outlives one.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import streamlit as st

from core import film, imaging
from core.cascade import Cascade
from core.display import encoded, to_8_bit
from core.manifest import Release
from core.pipeline import diagnose
from core.settings import ImageLimits
from core.study import key_of, without_patient
from core.types import BodyPart, DicomHeader, Heatmap, ImageResult
from pages import _access, _audit
from pages._sources import Source
from pages._viewer import Prepared

RESULTS_KEPT = 2000
PICTURES_KEPT = 8
HEATMAPS_KEPT = 100
ONE_DROP = 2.0  # seconds within which files come that were dropped together
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
    page, by source. moved: the study that the reader put a view into, by source. loose: of a name
    that says little, the files or drops that have it. drops: the drop that a source belongs to;
    brought: the one that brought it last; drop, latest: number and time of the last. twofold: pairs
    of drops that came as one, as far as they could be told apart. headers: what DICOM says of each
    source that was decoded, None without it.
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
    loose: dict[str, list[Hashable]] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)
    brought: dict[str, int] = field(default_factory=dict)
    drop: int = 0
    latest: float = -math.inf
    twofold: set[tuple[int, int]] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)
    headers: dict[str, DicomHeader | None] = field(default_factory=dict)

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

    def came(self, sources: Sequence[Source]) -> None:
        """Note which of them are new: those of one drop are new together, or nearly so.

        No folder has a path twice, so where one comes again the next drop begins.
        """
        new = [s for s in sources if s.id not in self.drops]
        if not new:
            return
        now = time.monotonic()
        if now - self.latest > ONE_DROP:
            self.drop += 1
        self.latest = now
        paths = {s.name for s in sources if self.drops.get(s.id) == self.drop}
        for source in new:
            if source.name in paths and _folder(source):
                self.twofold.add((self.drop, self.drop + 1))
                self.drop += 1
                paths.clear()
            paths.add(source.name)
            self.drops[source.id] = self.brought[source.id] = self.drop

    def age(self, source: Source) -> int:
        """In drops since the one that brought it last, or brought it again."""
        return self.drop - self.brought.get(source.id, 0)

    def once(self, sources: Sequence[Source]) -> list[Source]:
        """Without the files that were dropped again under the same name: a view counts once.

        But two folders of one name that are not one keep each its own, also what both of them have.
        """
        self._tell_twofold(sources)
        self._join_again(sources)
        found: dict[tuple[str, int, int | None], list[Source]] = {}
        for source in sources:
            owner = self.drops.get(source.id) if self._is_told_by_folder(source) else None
            same = found.setdefault((source.name, source.size, owner), [])
            first = self._twin(source, same)
            if first is None:
                same.append(source)
            elif source.id in self.brought and first.id in self.brought:
                self.brought[first.id] = max(self.brought[first.id], self.brought[source.id])
        kept = {source.id for same in found.values() for source in same}
        return [source for source in sources if source.id in kept]

    def _tell_twofold(self, sources: Sequence[Source]) -> None:
        """Two drops that came as one and are the same to the last file are a folder dropped twice.

        One that has less than the other is none: what is missing may be mixed up with the other.
        """
        by_drop: dict[int, list[Source]] = {}
        for source in sources if self.twofold else ():
            if self._is_told_by_folder(source):
                by_drop.setdefault(self.drops.get(source.id, 0), []).append(source)
        again: dict[int, int] = {}
        twofold = set()
        for first, later in sorted(self.twofold):
            before = again.get(first, first)
            both = by_drop.get(before, []), by_drop.get(later, [])
            if all(both) and self._has_all(*both) and self._has_all(*reversed(both)):
                again[later] = before
            else:
                twofold.add((before, later))
        self.twofold = twofold

    def _join_again(self, sources: Sequence[Source]) -> None:
        """A folder that came again, with one view more or less, belongs to the drop of the first.

        One that has some of the first one's files, such as a logo or a README, and others may be
        that of another patient. What a header tells the study of is not asked: it needs no folder.
        """
        folders: dict[str, dict[int, list[Source]]] = {}
        for source in sources:
            if source.size and source.id in self.drops and self._is_told_by_folder(source):
                drops = folders.setdefault(_folder(source), {})
                drops.setdefault(self.drops[source.id], []).append(source)
        for drops in folders.values():
            for later in sorted(drops)[1:]:
                earlier = (drop for drop in sorted(drops) if drop < later)
                first = next((d for d in earlier if self._is_again(drops[later], drops[d])), None)
                if first is not None:
                    self.drops |= dict.fromkeys((s.id for s in drops[later]), first)
                    drops[first] += drops.pop(later)

    def _is_again(self, later: Sequence[Source], first: Sequence[Source]) -> bool:
        return self._has_all(later, first) or self._has_all(first, later)

    def _has_all(self, some: Sequence[Source], others: Sequence[Source]) -> bool:
        """Whether each of the others is among them, under its name and with its content."""
        if not {(s.name, s.size) for s in others} <= {(s.name, s.size) for s in some}:
            return False
        there = {(s.name, self._digest(s)) for s in some}
        return all((s.name, self._digest(s)) in there for s in others)

    def _twin(self, source: Source, others: Sequence[Source]) -> Source | None:
        """The one of these with the same content; only a dropped file's is looked at."""
        if not others or not source.size:
            return None
        return next((o for o in others if self._digest(o) == self._digest(source)), None)

    def study_of(self, source: Source) -> str:
        """The study that a view belongs to: as the reader put it, else by ``core.study.key_of``.

        Neither two loose files of one name nor two folders of one name that were dropped one after
        the other need be of one patient.
        """
        if source.id in self.moved:
            return self.moved[source.id]
        key = self._key_of(source)
        if without_patient(key) == source.name:
            return self._numbered(key, source.id)
        if self._is_told_by_folder(source):
            return self._numbered(key, self.drops.get(source.id, 0))
        return key

    def _key_of(self, source: Source) -> str:
        header = self.headers.get(source.id) or DicomHeader()
        return key_of(source.name, header.study_uid, header.patient)

    def _is_told_by_folder(self, source: Source) -> bool:
        """Whether nothing but its folder tells which study it is of, before a reader does."""
        folder = _folder(source)
        return bool(folder) and without_patient(self._key_of(source)) == folder

    def is_twofold(self, sources: Iterable[Source]) -> bool:
        """Whether they are one study by a folder of which two came as one drop: what only one of
        the two has may be among the views of the other."""
        given = [s for s in sources if s.id not in self.moved and self._is_told_by_folder(s)]
        return any(self.drops.get(s.id) in pair for s in given for pair in self.twofold)

    def _numbered(self, key: str, owner: Hashable) -> str:
        """The key for the first that has it, and with a number for the others."""
        same = self.loose.setdefault(key, [])
        if owner not in same:
            same.append(owner)
        number = same.index(owner) + 1
        return key if number == 1 else f"{key} ({number})"

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
            self.chosen, self.ways, self.drops, self.brought, self.moved, self.headers, self.filmed
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
        return self.digests.get(source.id, lambda: hashlib.sha256(source.read()).hexdigest())


def _folder(source: Source) -> str:
    """The folder that a file was dropped in; "" for a loose one."""
    return source.name.replace("\\", "/").rpartition("/")[0]


@st.cache_resource(show_spinner=False)
def _worker() -> ThreadPoolExecutor:
    """One for all sessions: the methods of the library take one caller at a time anyhow."""
    return ThreadPoolExecutor(1, thread_name_prefix="heatmap")


def session() -> Session:
    """The memory of the session that calls."""
    return st.session_state.setdefault("scoring", Session())
