"""Which studies on the worklist took the place of which."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from sqlalchemy import func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from core.quadrilaterals import overlap
from core.store import tables as t
from core.study import study_uid_of, with_patient
from core.types import Corners, Photograph

LISTENER = "listener"
"""Who brings studies from a PACS: their files are called by the UIDs of their objects."""
_OBJECT = re.compile(r"[0-9]+(\.[0-9]+)+\.dcm")
SAME_FILM = 0.5  # intersection over union of corners: two films in one photograph lie apart
_AT_ONCE = 10_000  # values of one statement: SQLite takes 32,766
_TERMS = 100  # of one condition, each of four: SQLite takes them to a depth of 1,000


class _View(NamedTuple):
    """A view of a study, called as who brought it calls it. corners: of the film that was cut out
    of a photograph. stored: its picture was read."""

    name: str
    sha256: str | None
    corners: Corners | None
    stored: bool


_Views: TypeAlias = list[_View]


@dataclass(frozen=True, eq=False)  # each is itself alone: many are put into sets
class _Came:
    """A study as it came from one hand: the reader's, or the listener's, or from each of them.

    number: in the order of all. uid: ``study_uid_of`` its key.
    """

    number: int
    id: str
    key: str
    uid: str
    hand: str


@dataclass(frozen=True)
class _Arrivals:
    """The studies that may be the same: from one hand, and of one Study Instance UID, with a
    picture in common or, of the listener's, an object. pairs: (older, newer), the newest last.
    having: by digest of a picture that several have these. views: of all that are in a pair."""

    pairs: list[tuple[_Came, _Came]]
    having: dict[str, list[_Came]]
    views: dict[_Came, _Views]

    def follows(self, new: _Came, old: _Came) -> bool:
        """Whether what came later takes the place of what was there."""
        later, before = self.views[new], self.views[old]
        if self._is_left_of(new, old):
            return True
        if new.uid and new.key == old.key:
            return _replaces(later, before)
        if new.hand == LISTENER and new.uid and old.uid and self._corrects(new, old):
            return True
        return (not new.uid or new.uid != old.uid) and self._holds(later, before)

    def _is_left_of(self, new: _Came, old: _Came) -> bool:
        """Whether it is what a reader left in a study: all else was moved into another one since.

        One file of a study that is added alone takes nothing away from it.
        """
        if new.hand == LISTENER or new.key != old.key:
            return False
        later, before = self.views[new], self.views[old]
        return self._holds(before, later) and all(
            self._holds(later, [view]) or self._is_moved(view, old) for view in before
        )

    def _is_moved(self, view: _View, old: _Came) -> bool:
        """Whether a view stands in another study of the same hand since."""
        return any(other.key != old.key for other in self._since(view, old))

    def _since(self, view: _View, old: _Came) -> Iterator[_Came]:
        """The studies of the same hand that came later and hold this view."""
        for other in self.having.get(view.sha256 or "", ()):
            later = other.hand == old.hand and other.number > old.number
            if later and self._holds(self.views[other], [view]):
                yield other

    def _corrects(self, new: _Came, old: _Came) -> bool:
        """Whether what came of another patient or Study Instance UID has an object of the older one
        with another content.

        Two real patients under one Study Instance UID have none in common but what cannot be read,
        which is given to each of them: so both must have been read. A corrected ID changes the
        content.
        """
        later, before = self.objects[new], self.objects[old]
        return any(later[name] != before[name] for name in later.keys() & before.keys())

    @cached_property
    def objects(self) -> dict[_Came, dict[str, str | None]]:
        """Of what the listener brought the digest of each object that was read."""
        return {
            one: {v.name: v.sha256 for v in views if v.stored and _OBJECT.fullmatch(v.name)}
            for one, views in self.views.items()
            if one.hand == LISTENER
        }

    def is_left(self, one: _Came, by: Mapping[_Came, _Came]) -> bool:
        """Whether what the listener brought was in another study, whose place a third one with
        another key took that has not all of it. by: by study what took its place."""
        taken = by.get(by.get(one, one))
        return (
            one.hand == LISTENER
            and taken is not None
            and taken.key != one.key
            and bool(self.lacking(taken, one))
        )

    def lacking(self, new: _Came, old: _Came) -> _Views:
        """Views that are neither in the newer one, nor corrected there."""
        later, names = self.views[new], {view.name for view in self.views[new]}
        return [
            view
            for view in self.views[old]
            if view.name not in names and not self._holds(later, [view])
        ]

    def missing(self, new: _Came, old: _Came) -> set[str | None]:
        """Digests of what the newer one lacks and no other study has had since."""
        lacking = self.lacking(new, old)
        return {view.sha256 for view in lacking if not any(self._since(view, old))}

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


@dataclass(frozen=True)
class Places:
    """Which studies took the place of which. newer: by study the newest one that took its place.
    missing: by study how many pictures of those whose place it took are neither in it nor corrected
    there nor in another one since; of what was purged nobody can tell."""

    newer: dict[str, str]
    missing: dict[str, int]

    @cached_property
    def older(self) -> dict[str, list[str]]:
        """By study those whose place it took."""
        found: dict[str, list[str]] = defaultdict(list)
        for old, new in self.newer.items():
            found[new].append(old)
        return found


def places(session: Session, study: t.Study | None = None) -> Places:
    """By study the newest one that the same reader or the listener brought of it since.

    Of it: with its key, which tells the patients of one Study Instance UID apart (what is no UID
    may be the name of many a file), and with all of its pictures or another one in the place of
    one. A view that comes alone later takes nothing away from those before it; but what a reader
    adds by hand with fewer views does where each of the others stands in another study of this
    reader since: it was moved out. Whatever the keys, with all of its pictures: the reader
    corrected the body part, say, of what is called by its file. Of the listener, whose files are
    called by their UIDs, also one of another patient or Study Instance UID that has one of its
    objects with another content: these were corrected. What a reader added and the listener brought
    came from both hands: what either brought since takes its place. What was purged has no key any
    more: it keeps what was so then. study: this one alone is asked for.
    """
    known = _arrivals(session, study)
    gone = select(t.Study.id, t.Study.superseded).where(t.Study.superseded != "")
    newer: dict[str, str] = {old: new for old, new in session.execute(gone)}
    by: dict[str, tuple[_Came, _Came]] = {}
    for old, new in known.pairs:
        if known.follows(new, old):
            newer[old.id], by[old.id] = new.id, (old, new)
            if newer.get(new.id) == old.id:  # by the other hand, before
                del newer[new.id]
    missing: dict[str, set[str | None]] = defaultdict(set)
    for old, new in by.values():
        if newer.get(old.id) == new.id:
            missing[new.id] |= known.missing(new, old)
    return Places(newer, {id_: len(pictures) for id_, pictures in missing.items()})


def comes_back(session: Session, study: t.Study, actor: str) -> bool:
    """Whether a known study that ``actor`` brings once more takes the place of what came since.

    A correction may be taken back: by the listener one that it brought itself. A part of a study
    that is sent again stays superseded by the whole, unless a study with another key took the place
    of that and has not all of it: it would be in no study. What a reader adds again by hand is what
    the reader means. What superseded it may be purged: then what comes again is the newest.
    """
    if actor not in _hands(study):
        return False
    if study.superseded:
        newer = session.get(t.Study, study.superseded)
        if newer is None or newer.purged is not None or actor != LISTENER:
            return True
        return LISTENER in _hands(newer)
    known = _arrivals(session, study)
    by = {old: new for old, new in known.pairs if known.follows(new, old)}
    return any(
        known.is_left(this, by)
        or known.follows(this, new)
        or (actor != LISTENER and known.follows(new, this))
        for this, new in known.pairs
        if (this.id, this.hand) == (study.id, actor)
    )


def arrives(study: t.Study, actor: str, number: int) -> None:
    """From now on a study is the newest one of who brings it. number: of the audit's line."""
    study.superseded = ""
    if actor == study.added_by:
        study.arrived = number
    else:
        study.delivered = number


def _hands(study: t.Study) -> set[str]:
    return {study.added_by, LISTENER} if study.received else {study.added_by}


def _arrivals(session: Session, study: t.Study | None) -> _Arrivals:
    """All studies; of one alone what may be it, and what may be that."""
    ids = None if study is None else _near(session, _near(session, {study.id}))
    shared = _shared(session, ids, t.View.sha256)
    objects = _shared(session, ids, t.View.object)
    groups: dict[tuple[str, ...], list[_Came]] = defaultdict(list)
    having: dict[str, list[_Came]] = defaultdict(list)
    for one in _came(session, ids):
        listened = one.hand == LISTENER
        if one.uid:
            # Of a reader one patient's alone: the names of such files tell nothing.
            groups["uid", one.hand, one.uid if listened else one.key].append(one)
        for digest in shared.get(one.id, ()):
            groups["picture", one.hand, digest].append(one)
            having[digest].append(one)
        for name in objects.get(one.id, ()) if one.uid and listened else ():
            # A UID is given once; what is short or oddly written somebody made up, and another one
            # may have it, too.
            if study_uid_of(name.removesuffix(".dcm")):
                groups["object", name].append(one)
    found = {pair for same in groups.values() for pair in combinations(same, 2)}
    pairs = sorted(found, key=lambda pair: pair[1].number)
    return _Arrivals(pairs, having, _views_of(session, pairs))


def _near(session: Session, ids: set[str]) -> set[str]:
    """These studies, and those with a picture, an object or a Study Instance UID of theirs."""
    found = set(ids)
    for what in (t.View.sha256, t.View.object):
        theirs = select(what).where(t.View.stored, t.View.study_id.in_(ids))
        found.update(session.scalars(select(t.View.study_id).where(what.in_(theirs))))
    columns = t.Study.key, t.Study.delivered_key
    keys = session.execute(select(*columns).where(t.Study.id.in_(ids))).all()
    uids = sorted({study_uid_of(key) for both in keys for key in both if key} - {""})
    for start in range(0, len(uids), _TERMS):
        some = [(key, uid) for uid in uids[start : start + _TERMS] for key in columns]
        named = (or_(key == uid, key.like(with_patient(uid, "%"))) for key, uid in some)
        found.update(session.scalars(select(t.Study.id).where(or_(*named))))
    return found


def _came(session: Session, ids: set[str] | None) -> list[_Came]:
    """The studies that were not purged, as they came. ids: of these alone.

    By the audit's numbers, which go up also where the clock was set back.
    """
    s = t.Study
    columns = s.id, s.added, s.added_by, s.arrived, s.key, s.received, s.delivered, s.delivered_key
    kept = select(*columns).where(s.purged.is_(None))
    if ids is not None:
        kept = kept.where(s.id.in_(ids))
    found = []
    for id_, added, by, arrived, key, received, delivered, delivered_key in session.execute(kept):
        found.append((arrived, added, id_, key, by))
        if received and by != LISTENER:
            found.append((delivered, added, id_, delivered_key or key, LISTENER))
    return [
        _Came(number, id_, key, study_uid_of(key), hand)
        for number, (_, _, id_, key, hand) in enumerate(sorted(found))
    ]


def _shared(
    session: Session, ids: set[str] | None, what: InstrumentedAttribute[Any]
) -> dict[str, set[str]]:
    """By study what another one has, too: pictures by digest, or objects by name. ids: of these
    alone."""
    asked = [t.View.stored] if ids is None else [t.View.stored, t.View.study_id.in_(ids)]
    several = select(what).where(*asked).group_by(what)
    several = several.having(func.count(t.View.study_id.distinct()) > 1)
    found: dict[str, set[str]] = defaultdict(set)
    for id_, value in session.execute(select(t.View.study_id, what).where(what.in_(several))):
        found[id_].add(str(value))
    return found


def _views_of(session: Session, pairs: Iterable[tuple[_Came, _Came]]) -> dict[_Came, _Views]:
    """The views of the studies of these pairs."""
    came: dict[str, set[_Came]] = defaultdict(set)
    for one in chain.from_iterable(pairs):
        came[one.id].add(one)
    ids = list(came)
    found: dict[_Came, _Views] = {one: [] for some in came.values() for one in some}
    v, photograph = t.View, t.View.result["photograph"]
    columns = v.study_id, v.name, v.object, v.sha256, v.stored, photograph
    for start in range(0, len(ids), _AT_ONCE):
        some = select(*columns).where(v.study_id.in_(ids[start : start + _AT_ONCE]))
        for id_, name, called, sha256, stored, taken in session.execute(some):
            seen = Photograph.from_json(taken)
            corners = seen.corners if seen else None
            for one in came[id_]:
                known_as = (called if one.hand == LISTENER else None) or name
                found[one].append(_View(known_as, sha256, corners, stored))
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
