"""A store that is locked, read-only, full or gone: one sentence, and afterwards it works."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from core.errors import StoreUnavailable
from core.settings import Settings
from core.store import Store, database
from tests.permissions import not_permitted, read_only


@pytest.fixture
def store(home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    return Store.open(Settings(home=home))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """By another program, which does not let go."""
    with closing(sqlite3.connect(path)) as other:
        other.isolation_level = None
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def gone(path: Path) -> Iterator[None]:
    """As when the disk with it is taken out: another, empty one is in its place."""
    aside = path.with_name("aside")
    for end in ("", "-wal", "-shm"):
        if (part := path.with_name(path.name + end)).exists():
            shutil.move(part, f"{aside}{end}")
    path.mkdir()
    yield
    path.rmdir()
    for end in ("", "-wal", "-shm"):
        if (part := path.with_name(aside.name + end)).exists():
            shutil.move(part, path.with_name(path.name + end))


def in_a_folder_without_permission(path: Path) -> AbstractContextManager[None]:
    return not_permitted(path.parent)


def on_a_disk_that_is_read_only(path: Path) -> AbstractContextManager[None]:
    return read_only(path.parent)


FAULTS = [locked, gone, in_a_folder_without_permission, on_a_disk_that_is_read_only]


def kinds(store: Store) -> list[str]:
    return [line.event for line in store.audit_lines()]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_sentence_and_changes_nothing(store: Store, home: Path, fault) -> None:
    store.audit("app.started", "program", what="before")
    before = kinds(store)
    with fault(home / database.FILE):
        store._database.close()  # the connections of a program that is started again
        for _ in range(2):
            with pytest.raises(StoreUnavailable) as caught:
                store.audit("app.started", "program", what="during")
            assert str(caught.value) == database.UNAVAILABLE
    store._database.close()
    assert kinds(store) == before
    store.audit("app.started", "program", what="after")  # it recovered by itself
    assert kinds(store) == [*before, "app.started"]
    assert not store.verify_audit().problems


def test_a_database_that_may_only_be_read(store: Store, home: Path) -> None:
    store.audit("app.started", "program", what="before")
    before = kinds(store)
    url = f"sqlite:///file:{home / database.FILE}?mode=ro&uri=true"
    with pytest.raises(StoreUnavailable):
        Store.open(Settings(home=home, database_url=url)).audit("app.started", "program")
    assert kinds(store) == before


def test_a_full_disk(store: Store, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No page can be added to the file; what was answered before is there, and no more."""
    with closing(sqlite3.connect(home / database.FILE)) as other:
        pages = other.execute("PRAGMA page_count").fetchone()[0]
    store._database.close()
    prepare = database._prepare_sqlite

    def small(connection: sqlite3.Connection, record: object) -> None:
        prepare(connection, record)
        connection.execute(f"PRAGMA max_page_count={pages}")

    with monkeypatch.context() as patch:
        patch.setattr(database, "_prepare_sqlite", small)
        filling = Store.open(Settings(home=home))
        answered = len(kinds(filling))
        with pytest.raises(StoreUnavailable) as caught:
            for _ in range(1000):
                filling.audit("app.started", "program", what="x" * 30)
                answered += 1
        assert str(caught.value) == database.UNAVAILABLE
        assert len(kinds(filling)) == answered
        filling._database.close()
    store.audit("app.started", "program", what="after")
    assert len(kinds(store)) == answered + 1
    assert not store.verify_audit().problems
