"""What takes the place of what: corrections, late views and what was moved by hand.

On SQLite; on PostgreSQL, too, with ``make stress``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from core.manifest import Release
from core.registry import Registry
from core.store import Store, rows
from core.study import combine, key_of
from core.types import (
    BodyPart,
    BodyPartPrediction,
    Corners,
    Finding,
    FracturePrediction,
    ImageResult,
    Photograph,
)
from tests.test_store import ELBOW, empty, image


@pytest.fixture(scope="module")
def release(weights: Path) -> Release:
    return Registry.open(weights).find("champion")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.stress)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    found = Store.open(empty(request, tmp_path))
    yield found
    found.close()


@pytest.mark.parametrize(
    ("older", "lacks"),
    [
        (
            {"a": "1", "b": "2", "c": "3"},
            "2 radiographs of the study that this one replaced are",
        ),
        ({"a": "1", "b": "2"}, "1 radiograph of the study that this one replaced is"),
        ({"a": "1"}, ""),
    ],
)
def test_what_came_before_and_is_not_in_the_newer_one_is_said(
    store: Store, release: Release, older: dict[str, str], lacks: str
) -> None:
    """One object that was corrected and came alone takes the place of the whole study."""
    for views in (older, {"a": "9"}):
        seen = [
            ImageResult(name, digest * 64, "No picture.", release.id, release.sha256, 1.0)
            for name, digest in views.items()
        ]
        study = combine("1.2.840.99.3", seen, release)
        newest = store.add_study("S", study, release, {}, "listener")
    record = store.study(newest)
    assert record.not_in_it == ((f"{lacks} not in it.",) if lacks else ())
    assert len(record.older) == 1 and record.notes == (*record.result.notes, *record.not_in_it)
    assert record in store.studies()


@pytest.mark.parametrize(
    ("name", "actor", "superseded"),
    [
        ("1.2.840.7.dcm", "listener", True),
        ("1.2.840.8.dcm", "listener", False),  # two patients of one study have no object in common
        ("1.2.840.7.dcm", "ann", False),  # what a reader dropped may be called anything
        ("a.dcm", "listener", False),
    ],
)
def test_a_corrected_patient_takes_the_place_of_the_other(
    store: Store, release: Release, name: str, actor: str, superseded: bool
) -> None:
    ids = []
    first = "a.dcm" if name == "a.dcm" else "1.2.840.7.dcm"
    for patient, file in (("ab12", first), ("cd34", name)):
        ids.append(brought(store, release, patient, patient, actor, file))
    wanted = {ids[0]: ids[1] if superseded else "", ids[1]: ""}
    assert {e.id: e.newer for e in store.worklist()} == wanted


def brought(
    store: Store,
    release: Release,
    content: str,
    patient: str = "",
    actor: str = "listener",
    name: str = "1.2.840.7.dcm",
    uid: str = "1.2.840.99.3",
) -> str:
    """A study of one object, with this content and of this patient; its id."""
    view = replace(image(release, 0.9, content.encode()), file=name)
    study = combine(key_of("x", uid, patient), [view], release)
    return store.add_study("S", study, release, {str(view.sha256): content.encode()}, actor)


@pytest.mark.parametrize(
    ("name", "actor", "superseded"),
    [
        ("1.2.840.7.1.1.dcm", "listener", True),
        ("1.2.840.7.1.2.dcm", "listener", False),  # another object
        ("1.2.7.dcm", "listener", False),  # nobody's root: somebody made it up
        ("1.2.840.7.1.1.dcm", "ann", False),  # what a reader dropped may be called anything
    ],
)
def test_an_object_under_another_study_uid_takes_the_place_of_the_first(
    store: Store, release: Release, name: str, actor: str, superseded: bool
) -> None:
    """Whose study it was is corrected by a new Study Instance UID, too."""
    first = "1.2.840.7.1.1.dcm" if name == "1.2.840.7.1.2.dcm" else name
    old = brought(store, release, "1", "ab", actor, first)
    new = brought(store, release, "2", "cd", actor, name, "1.2.840.99.4")
    wanted = {old: new if superseded else "", new: ""}
    assert {e.id: e.newer for e in store.worklist()} == wanted
    assert {i: store.study(i).newer for i in wanted} == wanted
    if superseded:  # taken back
        assert brought(store, release, "1", "ab", actor, first) == old
        assert {e.id: e.newer for e in store.worklist()} == {old: "", new: old}


def test_what_is_left_of_a_study_is_in_force_though_it_was_one_before(
    store: Store, release: Release
) -> None:
    """A late object came beside the first one, and was moved to another study since."""
    stays, late = "1.2.840.7.1.2.dcm", "1.2.840.7.1.1.dcm"
    first = brought(store, release, "y", "ab", name=stays)
    views = [
        replace(image(release, 0.9, content.encode()), file=name)
        for content, name in (("y", stays), ("x", late))
    ]
    result = combine(key_of("x", "1.2.840.99.3", "ab"), views, release)
    pictures = {str(v.sha256): c.encode() for v, c in zip(views, "yx")}
    whole = store.add_study("S", result, release, pictures, "listener")
    assert brought(store, release, "y", "ab", name=stays) == first  # a part, sent again
    assert {e.id: e.newer for e in store.worklist()} == {first: whole, whole: ""}
    moved = brought(store, release, "x2", "ab", name=late, uid="1.2.840.99.4")
    assert brought(store, release, "y", "ab", name=stays) == first
    wanted = {first: "", whole: moved, moved: ""}
    assert {e.id: e.newer for e in store.worklist()} == wanted


@pytest.mark.parametrize(("first", "then"), [("ab", "cd"), ("ab", "ab")])
def test_a_correction_may_be_taken_back(
    store: Store, release: Release, first: str, then: str
) -> None:
    """Of the Patient ID, or of the picture: what came last is not superseded."""
    old, new = brought(store, release, "1", first), brought(store, release, "2", then)
    assert {e.id: e.newer for e in store.worklist()} == {old: new, new: ""}
    assert brought(store, release, "2", then) == new  # nothing new
    assert brought(store, release, "1", first) == old
    assert brought(store, release, "1", first) == old
    assert {e.id: e.newer for e in store.worklist()} == {new: old, old: ""}
    assert brought(store, release, "2", then, "ann") == new  # what a reader has kept is older
    assert {e.id: e.newer for e in store.worklist()} == {new: old, old: ""}
    events = [line.event for line in store.audit_lines()]
    assert events == ["study.added", "study.added", "study.arrived"]
    assert store.verify_audit().problems == ()


@pytest.mark.parametrize("first", ["listener", "ann"])
def test_a_part_that_is_sent_again_stays_superseded_by_the_whole(
    store: Store, release: Release, first: str
) -> None:
    def sent(*names: str, by: str = "listener") -> str:
        seen = [
            ImageResult(f"1.2.{n}.dcm", n * 64, "No.", release.id, release.sha256, 1.0)
            for n in names
        ]
        return store.add_study("S", combine("1.2.840.99.3", seen, release), release, {}, by)

    part, whole = sent("1", by=first), sent("1", "2")
    assert sent("1") == part
    assert {e.id: e.newer for e in store.worklist()} == {part: whole, whole: ""}
    assert sent("1", "2") == whole
    assert {e.id: e.newer for e in store.worklist()} == {part: whole, whole: ""}
    assert {i: store.study(i).newer for i in (part, whole)} == {part: whole, whole: ""}


KEY = key_of("x", "1.2.840.99.3", "ab")


def by_hand(
    store: Store,
    release: Release,
    *views: str,
    key: str = KEY,
    actor: str = "ann",
    chosen: BodyPart | None = None,
    corners: Corners | None = None,
) -> str:
    """A study of pictures with these names, which are their content, too; its id."""
    pictures = {hashlib.sha256(n.encode()).hexdigest(): n.encode() for n in views}
    seen = [
        ImageResult(
            f"{n}.dcm", digest, None, release.id, release.sha256, 1.0,
            BodyPartPrediction(BodyPart.HAND, 0.9, {BodyPart.HAND: 0.9}),
            FracturePrediction(0.5, Finding.DOUBTFUL), None, chosen, Photograph(corners),
        )
        for n, digest in zip(views, pictures)
    ]  # fmt: skip
    return store.add_study("S", combine(key, seen, release), release, pictures, actor)


def superseded(store: Store) -> dict[str, str]:
    """Old and new, the same in every way to ask for it."""
    found = {e.id: e.newer for e in store.worklist()}
    assert {r.id: r.newer for r in store.studies()} == found
    assert [store.study(r.id) for r in store.studies()] == store.studies()
    return {old: new for old, new in found.items() if new}


@pytest.mark.parametrize("key", [KEY, "folder"])
def test_a_view_that_was_moved_into_the_wrong_study_and_back(
    store: Store, release: Release, key: str
) -> None:
    """What a reader adds last by hand is in force, whichever was there first."""
    right = by_hand(store, release, "a", key=key)
    mixed = by_hand(store, release, "a", "z", key=key)
    assert superseded(store) == {right: mixed}
    assert by_hand(store, release, "a", key=key) == right
    own = by_hand(store, release, "z", key="own-1")
    assert superseded(store) == {mixed: right}
    assert by_hand(store, release, "a", "z", key=key) == mixed
    assert superseded(store) == {right: mixed, own: mixed}


@pytest.mark.parametrize("key", [KEY, "folder"])
def test_a_view_that_was_moved_out_of_a_study_of_which_it_was_no_view(
    store: Store, release: Release, key: str
) -> None:
    by_hand(store, release, "z", key="own-1")  # before it was moved in by mistake
    mixed = by_hand(store, release, "a", "z", key=key)
    right = by_hand(store, release, "a", key=key)
    by_hand(store, release, "z", key="own-1", actor="bob")  # another's hand moved nothing
    assert mixed not in superseded(store)
    by_hand(store, release, "z", key="own-1")
    assert superseded(store) == {mixed: right}
    by_hand(store, release, "c", key=key)  # a view that comes alone later takes nothing away
    assert superseded(store) == {mixed: right}


@pytest.mark.parametrize("key", [KEY, "folder"])
def test_files_of_a_study_that_are_added_alone_take_nothing_away(
    store: Store, release: Release, key: str
) -> None:
    by_hand(store, release, "a", "b", key=key)
    for name in ("a", "b"):  # of one study still: neither was moved
        by_hand(store, release, name, key=key)
        assert superseded(store) == {}


def test_a_view_that_was_a_study_of_its_own_is_in_the_whole(store: Store, release: Release) -> None:
    alone = by_hand(store, release, "b", key="own-1")
    assert superseded(store) == {}
    whole = by_hand(store, release, "a", "b")
    assert superseded(store) == {alone: whole}
    assert by_hand(store, release, "b", key="own-1") == alone  # moved out once more
    assert superseded(store) == {}


@pytest.mark.parametrize("key", ["IMG_1.jpg", "other.jpg"])
def test_a_picture_without_a_uid_that_is_added_under_another_part(
    store: Store, release: Release, key: str
) -> None:
    first = by_hand(store, release, "a", key="IMG_1.jpg")
    by_hand(store, release, "b", key="IMG_1.jpg")  # another picture of that name
    by_hand(store, release, "a", key="IMG_1.jpg", actor="bob", chosen=BodyPart.SHOULDER)
    assert superseded(store) == {}
    again = by_hand(store, release, "a", key=key, chosen=BodyPart.ELBOW)
    assert superseded(store) == {first: again}
    assert by_hand(store, release, "a", key="IMG_1.jpg") == first
    assert superseded(store) == {again: first}


def test_two_films_in_one_photograph_are_two_studies(store: Store, release: Release) -> None:
    left = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    right = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))
    for corners in (left, right):
        by_hand(store, release, "a", key="IMG_1.jpg", corners=corners)
    assert len(store.worklist()) == 2 and superseded(store) == {}


def test_corners_that_are_put_right_are_of_the_same_film(store: Store, release: Release) -> None:
    """So is what was read as it was taken, until two films were cut out of that file."""
    first, right = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)), ((0.1, 0.0), (0.5, 0.0))
    taken = by_hand(store, release, "a", key="IMG_1.jpg")
    cut = by_hand(store, release, "a", key="IMG_1.jpg", corners=first)
    assert superseded(store) == {taken: cut}
    again = by_hand(store, release, "a", key="IMG_1.jpg", corners=(*right, *first[2:]))
    assert superseded(store) == {taken: again, cut: again}
    beside = ((0.55, 0.0), (1.0, 0.0), (1.0, 1.0), (0.55, 1.0))
    by_hand(store, release, "a", key="IMG_1.jpg", corners=beside)
    assert superseded(store) == {cut: again}


def test_files_of_one_name_in_a_folder_that_is_called_by_a_date(
    store: Store, release: Release
) -> None:
    key = key_of("05.12.2026/IMG_1.png")
    for patient in ("a", "b"):
        by_hand(store, release, patient, key=key)
    assert superseded(store) == {}


def test_a_clock_that_is_set_back_turns_nothing_round(
    store: Store, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Earlier(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(hours=1)

    old = brought(store, release, "1")
    monkeypatch.setattr(rows, "datetime", Earlier)
    new = brought(store, release, "2")
    assert {e.id: e.newer for e in store.worklist()} == {old: new, new: ""}


def test_what_a_reader_added_is_the_listeners_once_it_comes(store: Store, release: Release) -> None:
    """Its objects are known by their UIDs then, so that a corrected Patient ID is told."""
    own = brought(store, release, "1", "ab", "ann", "doe.dcm")
    assert not store.study(own).received
    assert brought(store, release, "1", "ab") == own
    record = store.study(own)
    assert record.received and record.added_by == "ann"
    other = brought(store, release, "2", "cd")
    assert {e.id: e.newer for e in store.worklist()} == {own: other, other: ""}
    assert [e.received for e in store.worklist()] == [True, True]


@pytest.mark.parametrize("key", [KEY, "folder"])
def test_what_a_reader_put_in_its_place_stays_there_when_the_listener_brings_the_first(
    store: Store, release: Release, key: str
) -> None:
    """Else what the reader decided on it, and replaced by another decision, is in force again."""
    first = by_hand(store, release, "a", key=key)
    second = by_hand(store, release, "a", key=key, chosen=ELBOW)
    for _ in range(2):
        assert by_hand(store, release, "a", actor="listener") == first
        assert store.study(first).received and superseded(store) == {first: second}
    assert store.study(first).key == KEY
    corrected = brought(store, release, "9", "ab", name="a.dcm")
    assert superseded(store) == {first: corrected}  # the newest; and the second is the reader's own
    assert by_hand(store, release, "a", actor="listener") == first  # that was taken back
    assert superseded(store) == {first: second, corrected: first}
    assert by_hand(store, release, "a", key=key) == first  # and here the second
    assert superseded(store) == {second: first, corrected: first}


@pytest.mark.parametrize("key", [KEY, "folder"])
def test_the_whole_stays_the_newer_one_when_the_listener_brings_it(
    store: Store, release: Release, key: str
) -> None:
    part = by_hand(store, release, "a", key=key)
    whole = by_hand(store, release, "a", "b", key=key)
    assert by_hand(store, release, "a", "b", actor="listener") == whole
    assert superseded(store) == {part: whole}
    more = by_hand(store, release, "a", "b", "c", key=key)  # both hands' may be superseded by one
    assert superseded(store) == {part: more, whole: more}


@pytest.mark.parametrize("key", [KEY, "folder"])
def test_two_patients_in_one_study_stay_apart_when_the_listener_brings_one_of_them(
    store: Store, release: Release, key: str
) -> None:
    mixed = by_hand(store, release, "a", "z", key=key)
    right = by_hand(store, release, "a", key=key)
    by_hand(store, release, "z", key=key_of("x", "1.2.840.99.4", "cd"))
    assert by_hand(store, release, "a", actor="listener") == right
    assert superseded(store) == {mixed: right}
    assert store.study(right).not_in_it == ()  # what was moved out stands in a study of its own


def test_a_correction_by_its_name_stays_one_when_the_listener_brings_the_first(
    store: Store, release: Release
) -> None:
    first = brought(store, release, "1", "ab", "ann", "doe.dcm")
    second = brought(store, release, "2", "ab", "ann", "doe.dcm")
    assert brought(store, release, "1", "ab") == first
    assert superseded(store) == {first: second}
    assert brought(store, release, "2", "ab") == second
    assert superseded(store) == {first: second}
    assert brought(store, release, "1", "ab") == first  # of the two that it brought the last
    assert superseded(store) == {second: first}
