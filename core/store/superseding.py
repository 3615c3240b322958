"""Which studies on the worklist took the place of which."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import NamedTuple, TypeAlias

import numpy as np
from sqlalchemy import false, func, or_, select
from sqlalchemy.orm import Session

from core.quadrilaterals import overlap
from core.store import tables as t
from core.study import study_uid_of
from core.types import Corners, Photograph

LISTENER = "listener"
"""Who brings studies from a PACS: their files are called by the UIDs of their objects."""
_OBJECT = re.compile(r"[0-9]+(\.[0-9]+)+\.dcm")
SAME_FILM = 0.5  # intersection over union of corners: two films in one photograph lie apart
_AT_ONCE = 10_000  # values of one statement: SQLite takes 32,766


class _View(NamedTuple):
    """A view of a study. corners: of the film that was cut out of a photograph. stored: its picture
    was read."""

    name: str
    sha256: str | None
    corners: Corners | None
    stored: bool


_Views: TypeAlias = list[_View]


class _Came(NamedTuple):
    """A study as it came. number: in the order of all. uid: ``study_uid_of`` its key. hand: the
    reader, or the listener."""

    number: int
    id: str
    key: str
    uid: str
    hand: str


@dataclass(frozen=True)
class _Arrivals:
    """The studies that may be the same: from one hand, and of one Study Instance UID or with a
    picture in common. came: by id, in their order. pairs: (older, newer), the newest last. having:
    by digest of a picture that several have the ids of these. views: of all that are in a pair."""

    came: dict[str, _Came]
    pairs: list[tuple[str, str]]
    having: dict[str, list[str]]
    views: dict[str, _Views]

    def follows(self, new: _Came, old: _Came) -> bool:
        """Whether what came later takes the place of what was there."""
        later, before = self.views[new.id], self.views[old.id]
        if self._is_left_of(new, old):
            return True
        if not new.uid or new.uid != old.uid:
            return self._holds(later, before)
        if new.key != old.key:
            return new.hand == LISTENER and _corrects(later, before)
        return _replaces(later, before)

    def _is_left_of(self, new: _Came, old: _Came) -> bool:
        """Whether it is what a reader left in a study: all else was moved into another one since.

        One file of a study that is added alone takes nothing away from it.
        """
        if new.hand == LISTENER or new.key != old.key:
            return False
        later, before = self.views[new.id], self.views[old.id]
        return self._holds(before, later) and all(
            self._holds(later, [view]) or self._is_moved(view, old) for view in before
        )

    def _is_moved(self, view: _View, old: _Came) -> bool:
        """Whether a view stands in another study of the same hand since."""
        others = (self.came[id_] for id_ in self.having.get(view.sha256 or "", ()))
        return any(
            other.hand == old.hand
            and other.number > old.number
            and other.key != old.key
            and self._holds(self.views[other.id], [view])
            for other in others
        )

    def _holds(self, whole: _Views, part: _Views) -> bool:
        """Whether a study has all pictures of another one. Two films in one photograph are two."""
        return all(any(self._are_one(view, other) for other in whole) for view in part)

    def _are_one(self, view: _View, other: _View) -> bool:
        if not view.sha256 or view.sha256 != other.sha256:
            return False
        if view.corners and other.corners:
            return _overlap(view.corners, other.corners)
        return view.corners == other.corners or view.sha256 not in self.several_films

    @cached_property
    def several_films(self) -> set[str]:
        """Photographs out of which more than one film was cut: what was read as taken is none."""
        cuts: dict[str, set[Corners]] = defaultdict(set)
        for views in self.views.values():
            for view in views:
                if view.sha256 and view.corners:
                    cuts[view.sha256].add(view.corners)
        return {
            digest
            for digest, found in cuts.items()
            if not all(_overlap(*pair) for pair in combinations(found, 2))
        }


def superseded(session: Session, study: t.Study | None = None) -> dict[str, str]:
    """By study the newest one that the same reader or the listener brought of it since.

    Of it: with its key, which tells the patients of one Study Instance UID apart (what is no UID
    may be the name of many a file), and with all of its pictures or another one in the place of
    one. A view that comes alone later takes nothing away from those before it; but what a reader
    adds by hand with fewer views does where each of the others stands in another study of this
    reader since: it was moved out. Whatever the keys, with all of its pictures: the reader
    corrected the body part, say, of what is called by its file. Of the listener, whose files are
    called by their UIDs, also one of another patient that has one of its objects: its Patient ID
    was corrected. What was purged has no key any more: it keeps what was so then. study: this one
    alone is asked for.
    """
    known = _arrivals(session, study)
    gone = select(t.Study.id, t.Study.superseded).where(t.Study.superseded != "")
    found: dict[str, str] = {old: new for old, new in session.execute(gone)}
    for old, new in known.pairs:
        if known.follows(known.came[new], known.came[old]):
            found[old] = new
    return found


def comes_back(session: Session, study: t.Study, actor: str) -> bool:
    """Whether a known study that ``actor`` brings once more takes the place of what came since.

    A correction may be taken back. A part of a study that is sent again stays superseded by the
    whole; what a reader adds again by hand is what the reader means. What superseded it may be
    purged: then what comes again is the newest.
    """
    if actor != (LISTENER if study.received else study.added_by):
        return False
    if study.superseded:
        return True
    known = _arrivals(session, study)
    this = known.came[study.id]
    since = [known.came[new] for old, new in known.pairs if old == study.id]
    return any(
        known.follows(this, new) or (actor != LISTENER and known.follows(new, this))
        for new in since
    )


def _arrivals(session: Session, study: t.Study | None) -> _Arrivals:
    """All studies; of one alone only what may be it."""
    shared = _shared(session, study)
    columns = t.Study.id, t.Study.key, t.Study.added_by, t.Study.received
    # By the audit's numbers, which go up also where the clock was set back.
    order = t.Study.arrived, t.Study.added, t.Study.id
    kept = select(*columns).where(t.Study.purged.is_(None)).order_by(*order)
    if study is not None:
        own = study_uid_of(study.key)
        of_uid = t.Study.key.startswith(own, autoescape=True) if own else false()
        kept = kept.where(or_(t.Study.id.in_({study.id, *shared}), of_uid))
    came: dict[str, _Came] = {}
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    having: dict[str, list[str]] = defaultdict(list)
    for n, (id_, key, by, received) in enumerate(session.execute(kept)):
        one = came[id_] = _Came(n, id_, key, study_uid_of(key), LISTENER if received else by)
        if one.uid:
            # Of a reader one patient's alone: the names of such files tell nothing.
            groups["uid", one.hand, one.uid if received else key].append(id_)
        for digest in shared.get(id_, ()):
            groups["picture", one.hand, digest].append(id_)
            having[digest].append(id_)
    found = {pair for same in groups.values() for pair in combinations(same, 2)}
    pairs = sorted(found, key=lambda pair: came[pair[1]].number)
    return _Arrivals(came, pairs, having, _views_of(session, pairs))


def _shared(session: Session, study: t.Study | None) -> dict[str, set[str]]:
    """By study its pictures that others have, too. study: those of this one alone, by who has
    them."""
    several = select(t.View.sha256)
    if study is None:
        several = several.where(t.View.stored).group_by(t.View.sha256)
        several = several.having(func.count(t.View.study_id.distinct()) > 1)
    else:
        several = several.where(t.View.stored, t.View.study_id == study.id)
    found: dict[str, set[str]] = defaultdict(set)
    named = select(t.View.study_id, t.View.sha256).where(t.View.sha256.in_(several))
    for id_, digest in session.execute(named):
        found[id_].add(str(digest))
    return found


def _views_of(session: Session, pairs: Iterable[tuple[str, str]]) -> dict[str, _Views]:
    """The views of the studies of these pairs."""
    ids = list({id_ for pair in pairs for id_ in pair})
    found: dict[str, _Views] = defaultdict(list)
    photograph = t.View.result["photograph"]
    columns = t.View.study_id, t.View.name, t.View.sha256, t.View.stored, photograph
    for start in range(0, len(ids), _AT_ONCE):
        some = t.View.study_id.in_(ids[start : start + _AT_ONCE])
        for id_, name, sha256, stored, taken in session.execute(select(*columns).where(some)):
            seen = Photograph.from_json(taken)
            corners = seen.corners if seen else None
            found[id_].append(_View(name, sha256, corners, stored))
    return found


def _overlap(one: Corners, other: Corners) -> bool:
    """Whether corners are of one film, put right perhaps."""
    return one == other or overlap(np.array(one), np.array(other)) > SAME_FILM


def _replaces(new: _Views, old: _Views) -> bool:
    """Whether views hold all pictures of the older ones, or another content for one."""
    names, pictures = {v.name for v in new}, {v.sha256 for v in new}
    return {v.sha256 for v in old} <= pictures or any(
        v.name in names and v.sha256 not in pictures for v in old
    )


def _corrects(new: _Views, old: _Views) -> bool:
    """Whether views of another patient have an object of the older ones with another content.

    Two real patients under one Study Instance UID have none in common but what cannot be read,
    which is given to each of them: so both must have been read. A corrected Patient ID changes the
    content.
    """
    objects = {v.name: v.sha256 for v in old if v.stored and _OBJECT.fullmatch(v.name)}
    return any(v.stored and objects.get(v.name, v.sha256) != v.sha256 for v in new)
