"""What is past its time goes for good, and nothing comes after it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.errors import NotStorable, StudyNotFound
from core.imaging import sha256
from core.manifest import Release
from core.registry import Registry
from core.settings import Settings
from core.store import Opinion, Query, Status, Store, Verdict, audit, rows
from core.store import tables as t
from core.store.database import Database
from core.store.pictures import Pictures
from core.study import combine, key_of
from core.types import BodyPart, BodyPartPrediction, Finding, ImageResult
from tests import worklist

AGREE = Opinion(Verdict.AGREE, BodyPart.HAND, Finding.SUSPECTED)
LATER = timedelta(days=31)


@pytest.fixture(scope="module")
def release(weights: Path) -> Release:
    return Registry.open(weights).find("champion")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "kept", retention_days=30)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    found = Store.open(settings)
    yield found
    found.close()


def test_nothing_is_written_about_a_study_after_its_time(store: Store, release: Release) -> None:
    study = worklist.put(store, release, "doe", 0.9)
    store.decide(study, "ann", AGREE, 0)
    assert store.purge(datetime.now(UTC) + LATER) == 1
    said = replace(AGREE, comment="Jane Doe")
    with pytest.raises(StudyNotFound, match="period of this study is over"):
        store.decide(study, "ann", said, 1)
    with pytest.raises(StudyNotFound):
        store.undo(study, "ann", 1)
    assert [d.opinion for d in store.study(study).history] == [AGREE]
    assert "decision.undone" not in [line.event for line in store.audit_lines()]


def test_what_is_no_picture_of_the_worklist_stays(
    store: Store, settings: Settings, release: Release
) -> None:
    worklist.put(store, release, "doe", 0.9)
    picture = next((settings.home / "images").glob("*/*"))
    (picture.parent / "@eaDir").mkdir()
    (picture.parent / "notes.txt").write_text("of the administrator")
    (picture.parent / f".{picture.name}.ab12cd34").write_text("half")  # as a crash leaves it
    assert store.purge(datetime.now(UTC) + LATER) == 1
    assert sorted(p.name for p in picture.parent.iterdir()) == ["@eaDir", "notes.txt"]


def test_a_picture_that_cannot_be_removed_stops_nothing(
    store: Store, settings: Settings, release: Release, caplog: pytest.LogCaptureFixture
) -> None:
    worklist.put(store, release, "doe", 0.9)
    first, second = sorted((settings.home / "images").glob("*/*"))
    first.unlink()
    first.mkdir()  # nobody can unlink that, root neither
    assert store.purge(datetime.now(UTC) + LATER) == 1
    assert first.exists() and not second.exists() and "A picture stays" in caplog.text


def test_another_database_with_the_same_home_keeps_its_pictures(
    store: Store, settings: Settings, release: Release
) -> None:
    url = f"sqlite:///{settings.home / 'other.sqlite'}"
    other = Store.open(replace(settings, database_url=url))
    worklist.put(store, release, "shared", 0.9, seed=1)
    gone = worklist.put(store, release, "doe", 0.9, seed=5)
    kept = other.study(worklist.put(other, release, "roe", 0.9, seed=9)).result.views
    late = datetime.now(UTC) + LATER
    for view in kept:  # put by the other one while those of this one came to their time
        picture, new = other.pictures.path(str(view.sha256)), late.timestamp() - 3600
        os.utime(picture, (new, new))
    assert store.purge(late) == 2
    assert all(other.pictures.path(str(v.sha256)).exists() for v in kept)
    pictures = [str(v.sha256) for v in store.study(gone).result.views]
    assert not any(store.pictures.path(p).exists() for p in pictures)
    other.close()


def test_a_picture_that_could_not_be_removed_goes_with_the_next_ones(
    store: Store, settings: Settings, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    worklist.put(store, release, "doe", 0.9)
    with monkeypatch.context() as held:
        held.setattr(Pictures, "remove", lambda *_: 0)
        assert store.purge(datetime.now(UTC) + LATER) == 1
    worklist.put(store, release, "roe", 0.9, seed=5)
    assert store.purge(datetime.now(UTC) + LATER) == 1
    assert not [p for p in (settings.home / "images").glob("*/*")]


def test_a_clock_that_lies_before_the_audit_removes_nothing(
    store: Store, release: Release, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + 3 * LATER

    worklist.put(store, release, "doe", 0.9)
    with monkeypatch.context() as jumped:
        jumped.setattr(audit, "datetime", Ahead)
        store.audit("export.made", "ann")
    assert store.purge(datetime.now(UTC) + LATER) == 0
    assert "The clock lies before the newest line" in caplog.text
    store.audit("export.made", "ann")  # by the right clock
    assert store.purge(datetime.now(UTC) + LATER) == 1


def test_a_store_opens_where_its_purge_fails(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> int:
        raise PermissionError(13, "Permission denied", "Jane_Doe.png")

    monkeypatch.setattr(Store, "purge", fails)
    with caplog.at_level(logging.ERROR):
        Store.open(settings).close()
    assert "could not be removed: PermissionError" in caplog.text and "Doe" not in caplog.text


@pytest.mark.parametrize("default", ["ON", "OFF"])  # of the build of SQLite
def test_no_file_of_the_database_has_a_name_after_its_time(
    settings: Settings,
    release: Release,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    default: str,
) -> None:
    from core.store import database

    into_wal = database._into_wal

    def built(connection: object) -> None:
        connection.execute(f"PRAGMA secure_delete={default}")  # type: ignore[attr-defined]
        into_wal(connection)  # type: ignore[arg-type]

    monkeypatch.setattr(database, "_into_wal", built)
    store = Store.open(settings)
    study = worklist.put(store, release, "ZZMUSTERMANN", 0.9)
    store.decide(study, "ann", replace(AGREE, comment="ZZREMARK " * 200), 0)
    files = list(settings.home.glob("bone.sqlite*"))
    assert b"ZZMUSTERMANN" in b"".join(f.read_bytes() for f in files)
    with store._database.reading() as session:  # the log stays, for now, and nothing fails
        session.connection().exec_driver_sql("SELECT count(*) FROM studies")
        assert store.purge(datetime.now(UTC) + LATER) == 1
    assert "kept until the next time" in caplog.text
    assert store.purge(datetime.now(UTC)) == 0
    left = b"".join(f.read_bytes() for f in settings.home.glob("bone.sqlite*"))
    assert b"ZZMUSTERMANN" not in left and b"ZZREMARK" not in left
    store.close()


def test_a_superseded_study_stays_so_after_its_time(store: Store, release: Release) -> None:
    old, new = (
        store.add_study(
            "S", combine("1.2.840.99.3", [refused(release, digest)], release), release, {}, "a"
        )
        for digest in "12"
    )
    assert store.study(old).newer == new
    assert store.purge(datetime.now(UTC) + LATER) == 2
    everything = Query(with_purged=True)
    assert {e.id: e.newer for e in store.worklist(everything)} == {old: new, new: ""}
    assert {r.id: r.newer for r in store.studies(everything)} == {old: new, new: ""}


def test_a_correction_that_was_taken_back_stays_so_after_the_time_of_the_first(
    store: Store, release: Release
) -> None:
    """The study in force is the older one, and goes first: the wrong one is not in force again."""

    def brought(content: str, patient: str) -> str:
        digest, knee = sha256(content.encode()), BodyPartPrediction(BodyPart.OTHER, 1.0, {})
        made_by = release.id, release.sha256
        seen = ImageResult("1.2.7.dcm", digest, "A knee.", *made_by, 1.0, knee)
        study = combine(key_of("x", "1.2.840.99.3", patient), [seen], release)
        return store.add_study("S", study, release, {digest: content.encode()}, "listener")

    right, wrong = brought("1", "ab"), brought("2", "cd")
    assert brought("1", "ab") == right and store.study(wrong).newer == right
    with store._database.writing() as (session, _):
        session.get(t.Study, right).renewed -= LATER  # by a clock that was behind
    assert store.purge() == 1
    assert store.study(wrong).newer == right and store.study(wrong).purged is None
    assert brought("2", "cd") == wrong and store.study(wrong).newer == ""  # it came once more


def test_the_time_of_a_study_counts_from_when_it_was_brought_last(
    store: Store, release: Release
) -> None:
    twice, once = (worklist.put(store, release, n, 0.9, seed) for n, seed in (("a", 1), ("b", 5)))
    with store._database.writing() as (session, _):
        for study in (twice, once):
            session.get(t.Study, study).added -= LATER
    assert worklist.put(store, release, "a", 0.9, 1) == twice
    assert store.purge() == 1
    assert store.study(once).purged and not store.study(twice).purged
    assert store.purge(datetime.now(UTC) + LATER) == 1 and store.study(twice).purged


def refused(release: Release, digest: str) -> ImageResult:
    return ImageResult("a.png", digest * 64, "No picture.", release.id, release.sha256, 1.0)


@pytest.mark.parametrize(
    ("comments", "status"),
    [
        (("scaphoid fracture",), Status.DISAGREED),
        (("scaphoid fracture", "normal, artefact"), Status.SECOND_LOOK),
    ],
)
def test_two_who_disagree_by_comments_alone_need_a_second_look(
    store: Store, release: Release, comments: tuple[str, ...], status: Status
) -> None:
    study = worklist.put(store, release, "doe", 0.9)
    for reader, comment in zip(("ann", "bob"), comments):
        store.decide(study, reader, Opinion(Verdict.DISAGREE, comment=comment), 0)
    assert store.study(study).status is status


def kept_in(settings: Settings) -> list[Path]:
    return [p for p in (settings.home / "images").glob("*/*") if p.is_file()]


def test_a_study_that_the_database_refuses_leaves_no_picture(
    store: Store, settings: Settings, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise NotStorable("The database refuses it.")

    worklist.put(store, release, "doe", 0.9, seed=1)  # one of its pictures is the refused one's too
    before = kept_in(settings)
    with monkeypatch.context() as held, pytest.raises(NotStorable):
        held.setattr(rows, "view_rows", refuses)
        worklist.put(store, release, "roe", 0.9, seed=2)
    assert kept_in(settings) == before and len(before) == 2


def test_pictures_that_no_study_names_go_once_they_are_past_their_time(
    store: Store, settings: Settings, release: Release, caplog: pytest.LogCaptureFixture
) -> None:
    """As a kill before the commit leaves them, or a database that was restored."""
    worklist.put(store, release, "doe", 0.9)
    named = kept_in(settings)
    left = [store.pictures.path(store.pictures.put(data)) for data in (b"killed", b"again")]
    half = left[0].with_name(f".{left[0].name}.ab12cd34")
    half.write_bytes(b"half")
    past = (datetime.now(UTC) - LATER).timestamp()
    for path in (*named, *left, half):
        os.utime(path, (past, past))
    store.pictures.put(b"again")  # by a study that is being added
    assert store.purge() == 0
    assert set(kept_in(settings)) == {*named, left[1]}
    assert "that no study names: 1." in caplog.text and left[0].name not in caplog.text


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where all pictures are walked, and where others have to wait with what they write."""
    found: list[str] = []
    glob, writing = Path.glob, Database.writing

    def walks(self: Path, pattern: str) -> Iterator[Path]:
        found.extend(["walk"] * (pattern == "*/*"))
        return glob(self, pattern)

    @contextmanager
    def locks(self: Database) -> Iterator[object]:
        with writing(self) as held:
            found.append("lock")
            yield held

    monkeypatch.setattr(Path, "glob", walks)
    monkeypatch.setattr(Database, "writing", locks)
    return found


def test_all_pictures_are_walked_once_and_nobody_waits_for_it(
    store: Store, release: Release, steps: list[str]
) -> None:
    study = worklist.put(store, release, "doe", 0.9)
    pictures = [str(v.sha256) for v in store.study(study).result.views]
    steps.clear()
    assert store.purge(datetime.now(UTC) + LATER) == 1
    assert steps == ["walk", "lock"]
    assert not any(store.pictures.path(p).exists() for p in pictures)


def test_a_left_picture_that_cannot_be_removed_is_tried_once_by_a_process(
    store: Store, settings: Settings, caplog: pytest.LogCaptureFixture, steps: list[str]
) -> None:
    path = store.pictures.path(store.pictures.put(b"left"))
    path.unlink()
    path.mkdir()  # nobody can unlink that, root neither
    past = (datetime.now(UTC) - LATER).timestamp()
    os.utime(path, (past, past))
    for _ in range(3):
        Store.open(settings).close()
    assert steps.count("lock") == 1 and caplog.text.count("A picture stays") == 1
    assert "no study names" not in caplog.text
    path.rmdir()
    path.write_bytes(b"left")
    os.utime(path, (past, past))
    other = store.pictures.path(store.pictures.put(b"another"))
    os.utime(other, (past, past))
    assert store.purge() == 0 and kept_in(settings) == []  # with the next one it is tried again


def test_a_picture_that_was_put_again_stays_beside_its_old_half(
    store: Store, settings: Settings
) -> None:
    """As another database with the same home does it, whose studies this one does not know."""
    path = store.pictures.path(store.pictures.put(b"again"))
    half = path.with_name(f".{path.name}.ab12cd34")
    half.write_bytes(b"ag")
    past = (datetime.now(UTC) - LATER).timestamp()
    os.utime(half, (past, past))
    assert store.purge() == 0 and kept_in(settings) == [path]
