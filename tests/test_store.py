"""The worklist on SQLite and on a real PostgreSQL server: nothing lost, nothing twice."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, insert, select, text
from sqlalchemy.orm import Session

from core.errors import (
    DecisionConflict,
    NotStorable,
    SettingsInvalid,
    StoreOutdated,
    StoreUnavailable,
    StudyNotFound,
)
from core.manifest import Release
from core.registry import Registry
from core.settings import Settings
from core.store import Mark, Opinion, Query, Status, Store, Verdict, audit, rows, tables
from core.store.database import MIGRATIONS, Database
from core.store.export import to_csv
from core.study import StudyResult, combine
from core.types import (
    BodyPart,
    BodyPartPrediction,
    Finding,
    FracturePrediction,
    Heatmap,
    ImageResult,
)

HAND, ELBOW = BodyPart.HAND, BodyPart.ELBOW
AGREE = Opinion(Verdict.AGREE, HAND, Finding.SUSPECTED)
DISAGREE = Opinion(
    Verdict.DISAGREE, ELBOW, Finding.NOT_SUSPECTED, "Jane Doe", (Mark(0, 0.1, 0.2, 0.3, 0.4),)
)


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of an empty database of either kind."""
    return empty(request, tmp_path)


def empty(request: pytest.FixtureRequest, folder: Path) -> Settings:
    """Settings of an empty database of the kind that the fixture's parameter names."""
    home = folder / "home"
    if request.param == "sqlite":
        return Settings(home=home)
    url = f"{request.getfixturevalue('postgresql')}/postgres"
    name = f"t{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    raw(Settings(home=home, database_url=url), f"CREATE SCHEMA {name}")
    return Settings(home=home, database_url=f"{url}?options=-csearch_path%3D{name}")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    found = Store.open(settings)
    yield found
    found.close()


@pytest.fixture(scope="module")
def release(weights: Path) -> Release:
    return Registry.open(weights).find("champion")


def image(release: Release, probability: float, data: bytes) -> ImageResult:
    odds = {HAND: 0.9, BodyPart.OTHER: 0.1}
    heat = Heatmap(np.linspace(0, probability, 9, dtype=np.float32).reshape(3, 3), "Grad-CAM")
    fracture = FracturePrediction(probability, Finding.DOUBTFUL)
    digest = hashlib.sha256(data).hexdigest()
    seen = BodyPartPrediction(HAND, 0.9, odds)
    made_by = release.id, release.sha256
    return ImageResult("doe.png", digest, None, *made_by, 1.5, seen, fracture, heat)


def study(release: Release, probability: float = 0.9, name: str = "a") -> StudyResult:
    views = [image(release, probability, f"{name}{n}".encode()) for n in range(2)]
    return combine(f"key {name}", views, release)


def add(store: Store, release: Release, probability: float = 0.9, name: str = "a") -> str:
    result = study(release, probability, name)
    pictures = {str(v.sha256): f"{name}{n}".encode() for n, v in enumerate(result.views)}
    return store.add_study(f"Doe {name}", result, release, pictures, "ann")


def raw(settings: Settings, *statements: str) -> None:
    """What somebody does to the database behind the program's back."""
    url = settings.database_url or f"sqlite:///{settings.home / 'bone.sqlite'}"
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
    finally:
        engine.dispose()


def unprotect(settings: Settings) -> None:
    if settings.database_url:
        raw(settings, "ALTER TABLE audit DISABLE TRIGGER ALL")
    else:
        raw(settings, "DROP TRIGGER audit_no_update", "DROP TRIGGER audit_no_delete")


def test_what_is_added_comes_back_as_it_was(store: Store, release: Release) -> None:
    result = study(release)
    number = add(store, release)
    record = store.study(number)
    assert record.result == result and record.title == "Doe a" and record.added_by == "ann"
    assert record.label_means == "fracture" and record.status is Status.NEW
    for got, put in zip(record.result.views, result.views):
        assert got.heatmap is not None and put.heatmap is not None
        np.testing.assert_allclose(got.heatmap.values, put.heatmap.values, atol=1e-6)
    assert store.pictures.get(str(result.views[1].sha256)) == b"a1"
    assert abs(record.added - datetime.now(UTC)) < timedelta(minutes=5)


def test_the_same_study_is_there_once(store: Store, release: Release) -> None:
    assert add(store, release) == add(store, release)
    assert len(store.worklist()) == 1
    assert [line.event for line in store.audit_lines()] == ["study.added"]


def test_a_picture_that_was_not_assessed_is_refused(store: Store, release: Release) -> None:
    result = study(release)
    with pytest.raises(StoreUnavailable, match="not the one"):
        store.add_study("x", result, release, {str(result.views[0].sha256): b"other"}, "ann")
    assert not store.worklist() and not store.audit_lines()


def test_what_was_no_picture_is_not_kept(store: Store, release: Release) -> None:
    good = image(release, 0.9, b"a")
    bad = replace(good, sha256=hashlib.sha256(b"x").hexdigest(), body_part=None, fracture=None)
    pictures = {str(good.sha256): b"a", str(bad.sha256): b"x"}
    number = store.add_study("x", combine("k", [good, bad], release), release, pictures, "ann")
    assert store.study(number).stored == (True, False)
    assert not store.pictures.path(str(bad.sha256)).exists()


def test_a_damaged_picture_is_not_shown(store: Store, release: Release) -> None:
    add(store, release)
    sha256 = hashlib.sha256(b"a0").hexdigest()
    store.pictures.path(sha256).write_bytes(b"a9")
    with pytest.raises(StoreUnavailable, match="damaged"):
        store.pictures.get(sha256)


@pytest.mark.parametrize("damage", ["lost", "damaged"])
def test_a_picture_that_is_not_there_comes_back_with_its_study(
    store: Store, release: Release, damage: str
) -> None:
    number, sha256 = add(store, release), hashlib.sha256(b"a0").hexdigest()
    path = store.pictures.path(sha256)
    path.unlink() if damage == "lost" else path.write_bytes(b"a9")
    assert add(store, release) == number
    assert store.pictures.get(sha256) == b"a0"


def test_urgent_first_and_filters(store: Store, release: Release) -> None:
    for name, probability in (("n", 0.1), ("d", 0.5), ("s", 0.8), ("S", 0.95)):
        add(store, release, probability, name)
    titles = [e.title for e in store.worklist()]
    assert titles == ["Doe S", "Doe s", "Doe d", "Doe n"]
    assert [e.views for e in store.worklist()] == [2] * 4
    doubtful = store.worklist(Query(finding=(Finding.DOUBTFUL,)))
    assert [e.title for e in doubtful] == ["Doe d"]
    assert not store.worklist(Query(body_part=(ELBOW,)))
    assert [e.title for e in store.worklist(Query(text=" doe D"))] == ["Doe d"]
    assert len(store.worklist(Query(text="doe.png"))) == 4
    assert not store.worklist(Query(text="%"))
    add(store, release, 0.4, "Ärztin")
    assert [e.title for e in store.worklist(Query(text="DOE ÄRZ"))] == ["Doe Ärztin"]
    number = store.worklist()[0].id
    store.decide(number, "ann", AGREE, 0)
    assert [e.id for e in store.worklist(Query(status=(Status.AGREED,)))] == [number]
    assert len(store.worklist(Query(undecided_by="ann"))) == 4
    assert len(store.worklist(Query(undecided_by="bob"))) == 5


def test_two_readers_both_count(store: Store, release: Release) -> None:
    number = add(store, release)
    store.decide(number, "ann", AGREE, 0)
    assert store.study(number).status is Status.AGREED
    store.decide(number, "bob", DISAGREE, 0)
    record = store.study(number)
    assert [d.reader for d in record.decisions] == ["ann", "bob"]
    assert record.decisions[1].opinion == DISAGREE
    assert record.status is Status.SECOND_LOOK
    assert store.worklist()[0].readers == ("ann", "bob")


def test_the_status_follows_from_what_is_in_force(store: Store, release: Release) -> None:
    number = add(store, release)
    seen = store.decide(number, "ann", Opinion(Verdict.DRAFT, comment="hm"), 0).revision
    assert store.study(number).status is Status.NEW
    seen = store.decide(number, "ann", DISAGREE, seen).revision
    assert store.study(number).status is Status.DISAGREED
    store.decide(number, "ann", Opinion(Verdict.SECOND_LOOK), seen)
    assert store.study(number).status is Status.SECOND_LOOK


def test_undo_goes_back_step_by_step_and_loses_nothing(store: Store, release: Release) -> None:
    number = add(store, release)
    opinions = [AGREE, DISAGREE, Opinion(Verdict.SECOND_LOOK)]
    for seen, opinion in enumerate(opinions):
        store.decide(number, "ann", opinion, seen)
    assert store.undo(number, "ann", 3).opinion == DISAGREE
    assert store.undo(number, "ann", 4).opinion == AGREE
    assert store.undo(number, "ann", 5).opinion is None
    record = store.study(number)
    assert (record.status, record.decisions) == (Status.NEW, ())
    assert [d.opinion for d in record.history] == [*opinions, DISAGREE, AGREE, None]
    with pytest.raises(StoreUnavailable, match="nothing to undo"):
        store.undo(number, "ann", 6)
    store.decide(number, "ann", DISAGREE, 6)
    assert store.undo(number, "ann", 7).opinion is None


def as_elbow(release: Release) -> StudyResult:
    """The study of ``study``, assessed as an elbow."""
    views = [
        replace(v, chosen=ELBOW, fracture=FracturePrediction(0.2, Finding.NOT_SUSPECTED))
        for v in study(release).views
    ]
    return combine("key a", views, release)


def test_a_part_may_have_a_long_name(store: Store, release: Release) -> None:
    """Which PostgreSQL looks at."""
    part = BodyPart("thoracolumbar_spine_with_sacroiliac_join")
    assert len(part) == 40
    release = replace(release, stages=release.stages | {part: release.stages["hand"]})
    found = replace(study(release), body_part=part)
    pictures = {str(v.sha256): f"a{n}".encode() for n, v in enumerate(found.views)}
    number = store.add_study("long", found, release, pictures, "ann")
    store.reassess(number, found, release, "ann")
    assert store.study(number).reassessments[0].result.body_part == part
    assert [row.body_part for row in store.worklist(Query(body_part=(part,)))] == [part]


def test_the_answer_for_another_part_stands_beside_the_first(
    store: Store, release: Release
) -> None:
    number = add(store, release)
    store.reassess(number, as_elbow(release), release, "ann")
    store.reassess(number, as_elbow(release), release, "bob")
    record = store.study(number)
    assert record.result == study(release)
    (asked,) = record.reassessments
    assert asked.result == as_elbow(release) and asked.asked_by == "ann"
    assert asked.label_means == "fracture" and asked.release_sha256 == release.sha256
    heat = asked.result.views[1].heatmap
    assert heat is not None and heat.values.shape == (3, 3)
    assert record.reassessed_as(ELBOW) == asked and record.reassessed_as(HAND) is None
    store.decide(number, "ann", DISAGREE, 0)
    store.decide(number, "bob", AGREE, 0)
    events = [line.event for line in store.audit_lines()]
    assert events.count("study.reassessed") == 1 and store.verify_audit().problems == ()
    rows_ = list(csv.DictReader(io.StringIO(to_csv(store.studies(), names=False))))
    assert [r["as_reader_probability"] for r in rows_] == ["0.2", ""]
    assert [r["as_reader_release"] for r in rows_] == [release.id, ""]
    assert [r["as_reader_release_sha256"] for r in rows_] == [release.sha256, ""]
    assert [r["probability"] for r in rows_] == ["0.9", "0.9"]


def test_an_answer_of_other_views_or_without_a_part_is_refused(
    store: Store, release: Release
) -> None:
    number = add(store, release)
    with pytest.raises(ValueError, match="other views"):
        store.reassess(number, study(release, name="b"), release, "ann")
    with pytest.raises(ValueError, match="no part"):
        store.reassess(number, replace(as_elbow(release), body_part=None), release, "ann")
    with pytest.raises(StudyNotFound):
        store.reassess("nothing", as_elbow(release), release, "ann")
    assert store.study(number).reassessments == ()


def test_a_second_window_overwrites_nothing(store: Store, release: Release) -> None:
    number = add(store, release)
    store.decide(number, "ann", AGREE, 0)
    with pytest.raises(DecisionConflict):
        store.decide(number, "ann", DISAGREE, 0)
    with pytest.raises(DecisionConflict):
        store.undo(number, "ann", 0)
    assert store.study(number).decisions[0].opinion == AGREE


def together(*work: Callable[[], object]) -> list[object]:
    """Run all at the same moment; what each returned or raised."""
    barrier, found = threading.Barrier(len(work)), [None] * len(work)

    def one(position: int) -> None:
        barrier.wait()
        try:
            found[position] = work[position]()
        except StoreUnavailable as error:
            found[position] = error

    threads = [threading.Thread(target=one, args=(n,)) for n in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_decisions_at_the_same_moment(settings: Settings, release: Release) -> None:
    """Two programs on one database: both readers' decisions are there, the chain is whole."""
    one, two = Store.open(settings), Store.open(settings)
    try:
        for n in range(8):
            number = add(one, release, name=f"s{n}")
            together(
                lambda i=number: one.decide(i, "ann", AGREE, 0),
                lambda i=number: two.decide(i, "bob", DISAGREE, 0),
            )
            record = one.study(number)
            assert {d.reader: d.opinion for d in record.decisions} == {
                "ann": AGREE,
                "bob": DISAGREE,
            }
            assert record.status is Status.SECOND_LOOK
            same = together(
                lambda i=number: one.decide(i, "ann", DISAGREE, 1),
                lambda i=number: two.decide(i, "ann", AGREE, 1),
            )
            assert sum(isinstance(s, DecisionConflict) for s in same) == 1
        assert one.verify_audit().problems == ()
        assert one.verify_audit().entries == 8 * 4
    finally:
        one.close()
        two.close()


def test_two_programs_open_a_new_database_at_once(settings: Settings) -> None:
    stores = together(*[lambda: Store.open(settings)] * 4)
    assert all(isinstance(s, Store) for s in stores)
    for found in stores:
        found.close()


def test_opened_again_everything_is_there(settings: Settings, release: Release) -> None:
    first = Store.open(settings)
    number = add(first, release)
    first.decide(number, "ann", DISAGREE, 0)
    first.close()
    second = Store.open(settings)
    assert second.study(number).decisions[0].opinion == DISAGREE
    assert second.verify_audit().problems == ()
    second.close()


@pytest.mark.stress
def test_500_studies_are_listed_in_under_a_second(
    store: Store, settings: Settings, release: Release
) -> None:
    database = Database.open(settings.database_url, settings.home)
    with database.writing() as (session, _):
        for n in range(500):
            result = study(release, (n % 100) / 100, f"s{n}")
            row = rows.study_row(f"Study {n}", result, release, f"{n:064d}", "ann")
            row.decisions = [decided(reader) for reader in ("ann", "bob")[: n % 3]]
            session.add_all([row, *rows.view_rows(row.id, result, set())])
    database.close()
    seconds = []
    for _ in range(3):  # the best: a machine may have something else to do meanwhile
        started = time.thread_time()
        found = store.worklist()
        store.worklist(Query(text="study 49", undecided_by="bob"))
        seconds.append(time.thread_time() - started)
    assert min(seconds) < 1, seconds
    assert len(found) == 500 and found[0].probability == 0.99


def decided(reader: str) -> tables.Decision:
    made = datetime.now(UTC)
    return tables.Decision(reader=reader, revision=1, made=made, opinion=AGREE.to_json())


def upgraded(settings: Settings, revision: str) -> None:
    """A database as an older version of the program left it."""
    settings.home.mkdir(parents=True)
    url = settings.database_url or f"sqlite:///{settings.home / 'bone.sqlite'}"
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def a_study(name: str, added: str, by: str, status: str = "new") -> str:
    """The statement that adds one, with the columns of the first version."""
    return (
        "INSERT INTO studies (id, key, title, content, added, added_by, release, release_sha256, "
        f"label_means, urgency, notes, status) VALUES ('{name}', '1.2.840.99.3', 'Old {name}', "
        f"'{name}', '{added}', '{by}', 'r', 'd', 'fracture', 3, '[]', '{status}')"
    )


def test_the_first_version_is_brought_up_with_its_data(settings: Settings) -> None:
    """A database of version 0001 with a decided study becomes one of today."""
    upgraded(settings, "0001")
    opinion = json.dumps(AGREE.to_json()).replace(":", "\\:")
    raw(
        settings,
        a_study("s1", "2026-01-02 03:04:05", "ann", "agreed"),
        "INSERT INTO decisions (study_id, reader, revision, made, opinion) VALUES "
        f"('s1', 'ann', 1, '2026-01-02 03:04:05', '{opinion}')",
    )
    store = Store.open(settings)
    record = store.study("s1")
    assert (record.title, record.decisions[0].opinion) == ("Old s1", AGREE)
    store.decide("s1", "bob", DISAGREE, 0)
    assert store.verify_audit().problems == ()
    store.close()


def test_a_look_leaves_the_tables_of_an_older_version_as_they_are(settings: Settings) -> None:
    upgraded(settings, "0003")
    with pytest.raises(StoreOutdated, match="brought up to it when the program starts"):
        Store.open(settings, look=True)
    Store.open(settings).close()
    Store.open(settings, look=True).close()  # only now
    raw(settings, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnavailable, match="newer version"):
        Store.open(settings, look=True)


def test_the_order_of_what_came_before_is_that_of_the_audit(settings: Settings) -> None:
    """A database of version 0004: the listener's two studies, of which one came at a wrong time."""
    upgraded(settings, "0004")
    for number, (name, added) in enumerate((("old", "2026-01-02"), ("new", "2020-01-01")), 1):
        facts = json.dumps({"study": name}).replace(":", "\\:")
        raw(
            settings,
            a_study(name, added, "listener"),
            "INSERT INTO views (study_id, position, sha256, stored, name, result) VALUES "
            f"('{name}', 0, '{name}', false, '1.2.7.dcm', 'null')",
            "INSERT INTO audit (number, time, event, actor, facts, previous, digest) VALUES "
            f"({number}, 't', 'study.added', 'listener', '{facts}', 'p', 'd')",
        )
    store = Store.open(settings)
    found = {e.id: (e.newer, e.received) for e in store.worklist()}
    assert found == {"old": ("new", True), "new": ("", True)}
    store.close()


def test_the_time_of_what_came_again_before_is_that_of_the_audit(settings: Settings) -> None:
    """A database of version 0006: two studies, of which one was brought once more."""
    upgraded(settings, "0006")
    line = ("2026-03-01T00:00:00.5+00:00", json.dumps({"study": "again"}))
    time, facts = (text.replace(":", "\\:") for text in line)
    raw(
        settings,
        *(a_study(name, "2026-01-02", "listener") for name in ("once", "again")),
        "INSERT INTO audit (number, time, event, actor, facts, previous, digest) VALUES "
        f"(1, '{time}', 'study.arrived', 'listener', '{facts}', 'p', 'd')",
        "UPDATE audit_head SET number = 1",
    )
    store = Store(Database.open(settings.database_url, settings.home), settings.home, 30)
    assert store.purge(datetime(2026, 3, 15, tzinfo=UTC)) == 1
    assert [e.id for e in store.worklist()] == ["again"]
    store.close()


# --- audit ---------------------------------------------------------------------------------------


@pytest.fixture
def audited(store: Store, settings: Settings, release: Release) -> Store:
    """Five lines, and no trigger in the way of a change."""
    number = add(store, release)
    for seen in range(3):
        store.decide(number, "ann", AGREE if seen % 2 else DISAGREE, seen)
    store.audit("release.changed", "bob", release="2026.11-1")
    unprotect(settings)
    assert store.verify_audit().problems == () and store.verify_audit().entries == 5
    return store


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'eve' WHERE number = 2",
        "UPDATE audit SET facts = '{}' WHERE number = 5",
        "UPDATE audit SET time = '2020' WHERE number = 1",
        "UPDATE audit SET digest = previous WHERE number = 3",
        "DELETE FROM audit WHERE number = 1",
        "DELETE FROM audit WHERE number = 3",
        "DELETE FROM audit WHERE number = 5",
        "DELETE FROM audit",
        "DELETE FROM audit_head",
        "INSERT INTO audit SELECT 6, time, event, actor, facts, digest, digest FROM audit "
        "WHERE number = 5",
    ],
)
def test_every_change_is_found(audited: Store, settings: Settings, statement: str) -> None:
    raw(settings, statement)
    assert audited.verify_audit().problems


def test_a_line_written_while_the_audit_is_walked_is_no_problem(
    audited: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, other = audit.digest_of, Store.open(settings)
    written: list[bool] = []

    def slow(entry: tables.AuditEntry) -> str:
        if not written:  # somebody else works, in the middle of the walk
            written.append(True)
            other.audit("page.opened", "bob")
        return real(entry)

    monkeypatch.setattr(audit, "digest_of", slow)
    report = audited.verify_audit()
    monkeypatch.undo()
    assert report.problems == () and report.entries == 5
    assert audited.verify_audit().entries == 6 and not audited.verify_audit().problems
    other.close()


def test_a_database_of_a_newer_version_is_a_sentence(settings: Settings, store: Store) -> None:
    raw(settings, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnavailable, match="newer version"):
        Store.open(settings)


@pytest.mark.parametrize(
    ("first", "second", "superseded"),
    [
        ({"a": "1"}, {"a": "1", "b": "2"}, True),  # with one view more
        ({"a": "1"}, {"a": "9"}, True),  # corrected
        ({"a": "1", "b": "2"}, {"a": "9"}, True),  # one of two corrected, which came alone
        ({"a": "1", "b": "2"}, {"a": "1"}, False),  # a part of it once more
        ({"a": "1", "b": "2"}, {"c": "3"}, False),  # a view that came late, alone
    ],
)
def test_what_is_superseded(
    store: Store, release: Release, first: dict[str, str], second: dict[str, str], superseded: bool
) -> None:
    ids = []
    for views in (first, second):
        seen = [
            ImageResult(name, digest * 64, "No picture.", release.id, release.sha256, 1.0)
            for name, digest in views.items()
        ]
        ids.append(
            store.add_study("S", combine("1.2.840.99.3", seen, release), release, {}, "listener")
        )
    wanted = {ids[0]: ids[1] if superseded else "", ids[1]: ""}
    assert {e.id: e.newer for e in store.worklist()} == wanted
    assert {r.id: r.newer for r in store.studies()} == wanted
    assert {i: store.study(i).newer for i in ids} == wanted


def test_other_body_parts_are_those_that_were_not_assessed(store: Store, release: Release) -> None:
    refused = ImageResult("a.png", "1" * 64, "It looks like a knee.", release.id, release.sha256, 1)
    gone = store.add_study("Knee", combine("knee", [refused], release), release, {}, "ann")
    hand = add(store, release)
    assert [e.id for e in store.worklist(Query(body_part=(BodyPart.OTHER,)))] == [gone]
    part = store.study(hand).result.body_part
    assert part is not None
    assert {e.id for e in store.worklist(Query(body_part=(BodyPart.OTHER, part)))} == {gone, hand}


def test_lines_and_head_removed_together_are_found(audited: Store, settings: Settings) -> None:
    """The end of the chain cut off, and the head set back to fit: the anchor remembers."""
    raw(
        settings,
        "DELETE FROM audit WHERE number > 3",
        "UPDATE audit_head SET number = 3, digest = (SELECT digest FROM audit WHERE number = 3)",
    )
    (problem,) = audited.verify_audit().problems
    assert "remembers" in problem


def forge(settings: Settings) -> None:
    """With access to the database alone: another actor in line 3, and the whole chain anew."""
    url = settings.database_url or f"sqlite:///{settings.home / 'bone.sqlite'}"
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with Session(engine) as session, session.begin():
        previous = audit.BEFORE_THE_FIRST
        for entry in session.scalars(select(tables.AuditEntry).order_by(tables.AuditEntry.number)):
            entry.actor = "eve" if entry.number == 3 else entry.actor
            entry.previous = previous
            previous = entry.digest = audit.digest_of(entry)
        session.scalars(select(tables.AuditHead)).one().digest = previous
    engine.dispose()


@pytest.mark.parametrize("how", ["written anew", "cut off"])
def test_the_anchor_does_not_heal_over_a_forged_chain(
    audited: Store, settings: Settings, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    if how == "written anew":
        forge(settings)
    else:
        raw(
            settings,
            "DELETE FROM audit WHERE number > 3",
            "UPDATE audit_head SET number = 3, "
            "digest = (SELECT digest FROM audit WHERE number = 3)",
        )
    for _ in range(3):  # cut off, the third one has the number that the anchor remembers
        audited.audit("export.made", "ann")
        (problem,) = audited.verify_audit().problems
        assert "Line 5 is not the one that" in problem
    assert caplog.text.count("Line 5 of the audit is not the one") == 3


@pytest.mark.parametrize("damage", ["", "{}", '{"number": "x", "digest": ""}'])
def test_a_damaged_anchor_is_not_healed_over(
    audited: Store, settings: Settings, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    (settings.home / audit.ANCHOR).write_text(damage)
    audited.audit("export.made", "ann")
    (problem,) = audited.verify_audit().problems
    assert "cannot be read" in problem and "stays as it is" in caplog.text
    assert (settings.home / audit.ANCHOR).read_text() == damage


def test_a_line_whose_anchor_cannot_be_compared_is_written(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable("The database is gone.")

    monkeypatch.setattr(audit, "drop_anchor", away)
    store.audit("export.made", "ann")
    assert len(store.audit_lines()) == 1 and "could not be compared" in caplog.text


def test_what_a_database_never_takes_is_no_database_that_is_away(store: Store) -> None:
    """Waiting changes nothing: as PostgreSQL refuses a NUL, and both refuse a number twice."""
    if store._database._engine.dialect.name == "postgresql":
        with pytest.raises(NotStorable):
            store.audit("study.added", "a\0b")
    with pytest.raises(NotStorable), store._database.writing() as (session, head):
        session.execute(
            insert(tables.AuditHead).values(id=head.id, number=head.number, digest=head.digest)
        )


def test_the_database_itself_lets_nobody_change_a_line(
    store: Store, settings: Settings, release: Release
) -> None:
    add(store, release)
    for statement in ("UPDATE audit SET actor = 'eve'", "DELETE FROM audit"):
        with pytest.raises(Exception, match="only be appended"):
            raw(settings, statement)


def test_no_audit_no_action(settings: Settings, store: Store, release: Release) -> None:
    number = add(store, release)
    raw(settings, "ALTER TABLE audit RENAME TO elsewhere")
    for act in (
        lambda: store.decide(number, "ann", AGREE, 0),
        lambda: add(store, release, name="b"),
        lambda: store.audit("export.made", "ann"),
    ):
        with pytest.raises(StoreUnavailable, match="nothing was changed"):
            act()
    raw(settings, "ALTER TABLE elsewhere RENAME TO audit")
    assert store.study(number).decisions == () and len(store.worklist()) == 1
    assert store.verify_audit().problems == ()


def test_the_audit_names_no_patient(store: Store, release: Release) -> None:
    number = add(store, release)
    store.decide(number, "ann", DISAGREE, 0)
    lines = store.audit_lines()
    assert [line.event for line in lines] == ["study.added", "decision.made"]
    assert all("Doe" not in line.facts and "doe" not in line.facts for line in lines)
    with pytest.raises(ValueError, match="too long"):
        store.audit("note.made", "ann", text="x" * 201)


# --- retention -----------------------------------------------------------------------------------


def test_what_is_past_its_time_loses_pictures_and_names(
    settings: Settings, release: Release
) -> None:
    store = Store.open(replace(settings, retention_days=30))
    old = add(store, release, name="a")
    store.decide(old, "ann", DISAGREE, 0)
    assert store.purge(datetime.now(UTC) + timedelta(days=29)) == 0
    later = datetime.now(UTC) + timedelta(days=31)
    assert store.purge(later) == 1
    record = store.study(old)
    assert "Doe" not in repr(record) and "doe" not in repr(record)
    assert record.purged == later and record.stored == (False, False)
    assert record.decisions[0].opinion == replace(DISAGREE, comment="")
    assert not list((settings.home / "images").rglob("*/*")) and not store.worklist()
    assert len(store.worklist(Query(with_purged=True))) == 1
    assert add(store, release, name="a") != old
    assert store.purge(later - timedelta(days=1)) == 0
    assert store.verify_audit().problems == ()
    store.close()


def test_only_its_owner_reads_what_is_kept(settings: Settings, release: Release) -> None:
    if settings.database_url:
        pytest.skip("the database is PostgreSQL's to guard")
    settings.home.mkdir(parents=True, exist_ok=True)
    settings.home.chmod(0o755)
    store = Store.open(settings)
    add(store, release)
    store.close()
    kept = [settings.home, settings.home / "bone.sqlite", *settings.home.glob("images/*/*")]
    assert [oct(p.stat().st_mode & 0o777) for p in kept] == ["0o700", *["0o600"] * (len(kept) - 1)]


def test_a_picture_that_another_study_needs_stays(settings: Settings, release: Release) -> None:
    store = Store.open(replace(settings, retention_days=30))
    add(store, release)
    raw(settings, "UPDATE studies SET added = '2020-01-01'")
    shared = combine("both", study(release).views[:1], release)
    sha256 = str(shared.views[0].sha256)
    store.add_study("b", shared, release, {sha256: b"a0"}, "ann")
    assert store.purge() == 1
    assert store.pictures.get(sha256) == b"a0"
    assert len(list((settings.home / "images").rglob("*/*"))) == 1
    store.close()


# --- errors --------------------------------------------------------------------------------------


def test_unknown_study(store: Store) -> None:
    with pytest.raises(StudyNotFound):
        store.study("none")
    with pytest.raises(StudyNotFound):
        store.decide("none", "ann", AGREE, 0)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("nonsense", SettingsInvalid),
        ("mysql://x/y", SettingsInvalid),
        ("postgresql://bone@127.0.0.1:1/none", StoreUnavailable),
    ],
)
def test_a_url_that_leads_nowhere(tmp_path: Path, url: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        Store.open(Settings(home=tmp_path, database_url=url))


def test_retention_is_at_least_a_day() -> None:
    assert Settings.from_environment({}).retention_days is None
    assert Settings.from_environment({"BONE_RETENTION_DAYS": "30"}).retention_days == 30
    assert Settings.from_environment({"BONE_RETENTION_DAYS": "0.5"}).retention_days == 1
    with pytest.raises(SettingsInvalid):
        Settings.from_environment({"BONE_RETENTION_DAYS": "0"})


def test_the_command_tells_and_verifies(
    tmp_path: Path,
    release: Release,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from core.__main__ import main

    monkeypatch.setenv("BONE_HOME", str(tmp_path))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    settings = Settings(home=tmp_path)
    store = Store.open(settings)
    add(store, release)
    store.close()
    assert main(["audit"]) == 0
    assert "study.added\tann" in capsys.readouterr().out
    store = Store.open(settings)
    store.audit("export.made", "Jürgen\n3\t2026\tstudy.added\tchief\x85\u2028", kind="csv")
    store.close()
    assert main(["audit"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and [line.count("\t") for line in said] == [4, 4]
    assert "\tJürgen\\n3\\t2026\\tstudy.added\\tchief\\u0085\\u2028\t" in said[1]
    assert main(["audit", "--verify"]) == 0
    assert "2 lines, all as they were written." in capsys.readouterr().out
    unprotect(settings)
    raw(settings, "UPDATE audit SET actor = 'eve'")
    assert main(["audit", "--verify"]) == 1
    assert "Line 1 was changed." in capsys.readouterr().out
