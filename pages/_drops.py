"""Which drop or folder a file came with, and so which study it belongs to.

A browser tells of a file its path below what was dropped, and nothing of the folder above: two
patients' folders may have one name, and one folder may be dropped twice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterable, Sequence

from core.study import key_of, without_patient
from core.types import DicomHeader
from pages._sources import Source

ONE_DROP = 2.0  # seconds within which files come that were dropped together


class Drops:
    """What was dropped in one session, drop by drop.

    headers: what DICOM says of each source, by its id. digest: of a source's bytes. of: the drop
    that a source belongs to; brought: the one that brought it last; drop, latest: number and time
    of the last; led: the last that the reader was led to. twofold: pairs of drops that came as one,
    as far as they could be told apart. loose: of a name that says little, the files or drops that
    have it. moved: the study that the reader put a view into, by source.
    """

    def __init__(
        self, headers: dict[str, DicomHeader | None], digest: Callable[[Source], str]
    ) -> None:
        self._headers = headers
        self._digest = digest
        self.of: dict[str, int] = {}
        self.brought: dict[str, int] = {}
        self.drop = self.led = 0
        self.latest = -math.inf
        self.twofold: set[tuple[int, int]] = set()
        self.loose: dict[str, list[Hashable]] = {}
        self.moved: dict[str, str] = {}

    def came(self, sources: Sequence[Source]) -> None:
        """Note which of them are new: those of one drop are new together, or nearly so.

        No folder has a path twice, so where one comes again the next drop begins.
        """
        new = [s for s in sources if s.id not in self.of]
        if not new:
            return
        now = time.monotonic()
        if now - self.latest > ONE_DROP:
            self.drop += 1
        self.latest = now
        paths = {s.name for s in sources if self.of.get(s.id) == self.drop}
        for source in new:
            if source.name in paths and _folder(source):
                self.twofold.add((self.drop, self.drop + 1))
                self.drop += 1
                paths.clear()
            paths.add(source.name)
            self.of[source.id] = self.brought[source.id] = self.drop

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
            owner = self.of.get(source.id) if self._is_told_by_folder(source) else None
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
                by_drop.setdefault(self.of.get(source.id, 0), []).append(source)
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
            if source.size and source.id in self.of and self._is_told_by_folder(source):
                drops = folders.setdefault(_folder(source), {})
                drops.setdefault(self.of[source.id], []).append(source)
        for drops in folders.values():
            for later in sorted(drops)[1:]:
                earlier = (drop for drop in sorted(drops) if drop < later)
                first = next((d for d in earlier if self._is_again(drops[later], drops[d])), None)
                if first is not None:
                    self.of |= dict.fromkeys((s.id for s in drops[later]), first)
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
            return self._numbered(key, self.of.get(source.id, 0))
        return key

    def _key_of(self, source: Source) -> str:
        header = self._headers.get(source.id) or DicomHeader()
        return key_of(source.name, header.study_uid, header.patient)

    def _is_told_by_folder(self, source: Source) -> bool:
        """Whether nothing but its folder tells which study it is of, before a reader does."""
        folder = _folder(source)
        return bool(folder) and without_patient(self._key_of(source)) == folder

    def is_twofold(self, sources: Iterable[Source]) -> bool:
        """Whether they are one study by a folder of which two came as one drop: what only one of
        the two has may be among the views of the other."""
        given = [s for s in sources if s.id not in self.moved and self._is_told_by_folder(s)]
        return any(self.of.get(s.id) in pair for s in given for pair in self.twofold)

    def _numbered(self, key: str, owner: Hashable) -> str:
        """The key for the first that has it, and with a number for the others."""
        same = self.loose.setdefault(key, [])
        if owner not in same:
            same.append(owner)
        number = same.index(owner) + 1
        return key if number == 1 else f"{key} ({number})"


def _folder(source: Source) -> str:
    """The folder that a file was dropped in; "" for a loose one."""
    return source.name.replace("\\", "/").rpartition("/")[0]
