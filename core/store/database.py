"""The database behind the store: SQLite in WAL mode, or PostgreSQL; migrated when it is opened.

Writers take turns: SQLite by BEGIN IMMEDIATE, PostgreSQL by a lock on the head of the audit. So
what a write reads first is still true when it commits, and the audit is one chain.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    IntegrityError,
    NoSuchModuleError,
    SQLAlchemyError,
)
from sqlalchemy.orm import Session

from core.errors import NotStorable, SettingsInvalid, StoreOutdated, StoreUnavailable
from core.files import make_private
from core.store.tables import AuditHead

log = logging.getLogger(__name__)
MIGRATIONS = Path(__file__).with_name("migrations")
FILE = "bone.sqlite"
BUSY_SECONDS = 20
# Any number that nothing else in the database uses: two programs must not migrate at once.
MIGRATION_LOCK = 0x626F6E65
OUTDATED = (
    "The tables of the worklist are not of this version yet; they are brought up to it when the "
    "program starts."
)
UNAVAILABLE = "The worklist could not be read or written, so nothing was changed."


class Database:
    """Connections to one database; ``reading`` and ``writing`` are its only two ways in."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(writes=True)
        # SQLite's transactions are such a look anyhow; PostgreSQL's look anew at each statement.
        snapshot = {"isolation_level": "REPEATABLE READ"}
        self._reader = engine.execution_options(
            **(snapshot if engine.dialect.name == "postgresql" else {})
        )

    @classmethod
    def open(cls, url: str, home: Path, migrate: bool = True) -> Database:
        """Connect, and bring the tables to the newest version. url: "" for SQLite in ``home``.

        migrate: False changes nothing, and raises StoreOutdated where there is something to change.
        Raises SettingsInvalid for a URL of another kind, StoreUnavailable for everything else.
        """
        engine = _engine(url, home)
        database = cls(engine)
        try:
            if migrate:
                database._migrate()
            else:
                database._compare()
        except SQLAlchemyError as error:
            database.close()
            raise StoreUnavailable("The database of the worklist cannot be opened.") from error
        except StoreOutdated:
            database.close()
            raise
        except CommandError as error:  # of Alembic: a step of the tables that it does not know
            database.close()
            raise StoreUnavailable(
                "The database of the worklist was made by a newer version of this program."
            ) from error
        return database

    def close(self) -> None:
        self._engine.dispose()

    def empty_log(self) -> None:
        """Bring SQLite's write-ahead log into the file and cut it off, if nobody reads meanwhile.

        Until then what was deleted can be read in the log.
        """
        if self._engine.dialect.name != "sqlite":
            return
        with _one_sentence(), closing(self._engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute("PRAGMA busy_timeout=1000")  # whoever writes waits as long
            try:
                (busy, *_) = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.Error:
                busy = True
            finally:
                cursor.execute(f"PRAGMA busy_timeout={1000 * BUSY_SECONDS}")
            if busy:
                log.warning("The log of the database is kept until the next time.")

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One consistent look; raises StoreUnavailable."""
        with _one_sentence(), Session(self._reader) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[tuple[Session, AuditHead]]:
        """All or nothing, and one at a time; raises StoreUnavailable, and then nothing is there."""
        with (
            _one_sentence(),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            head = session.scalars(select(AuditHead).with_for_update()).one()
            yield session, head

    def _compare(self) -> None:
        """Raises StoreOutdated, or CommandError where the tables are of a newer version."""
        steps = ScriptDirectory.from_config(_steps())
        with self._reader.connect() as connection:
            here = MigrationContext.configure(connection).get_current_revision()
        if here != steps.get_current_head():
            steps.get_revision(here or "base")
            raise StoreOutdated(OUTDATED)

    def _migrate(self) -> None:
        config = _steps()
        with self._writer.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _steps() -> Config:
    """Where Alembic finds the steps from one version of the tables to the next."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


@contextmanager
def _one_sentence() -> Iterator[None]:
    try:
        yield
    except (DataError, IntegrityError) as error:  # PostgreSQL keeps no text with a NUL in it
        raise NotStorable(
            "The database refuses what it was given, so nothing was changed."
        ) from error
    except SQLAlchemyError as error:
        raise StoreUnavailable(UNAVAILABLE) from error


def _engine(url: str, home: Path) -> Engine:
    try:
        parsed = make_url(url or f"sqlite:///{home / FILE}")
    except ArgumentError as error:
        raise SettingsInvalid("DATABASE_URL is not the URL of a database.") from error
    if not url:
        with _needs("BONE_HOME"):
            make_private(home)
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        file = _file(parsed)
        with _needs("of the database" if url else "BONE_HOME"):
            _keep_private(file)
        engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if kind not in ("postgresql", "postgres"):
        raise SettingsInvalid(f"DATABASE_URL must be of SQLite or PostgreSQL, not of {kind}.")
    try:
        return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    except (ImportError, NoSuchModuleError) as error:
        raise SettingsInvalid("DATABASE_URL needs psycopg: pip install psycopg.") from error


def _file(url: URL) -> Path:
    """Where SQLite keeps a database; raises SettingsInvalid for one in memory.

    Each thread would have one of its own there, and nothing would outlive the program.
    """
    name = url.database or ""
    if name in ("", ":memory:", "file::memory:") or url.query.get("mode") == "memory":
        raise SettingsInvalid("DATABASE_URL must name a file: the worklist cannot be in memory.")
    return Path(unquote(urlsplit(name).path) if name.startswith("file:") else name)


def _keep_private(file: Path) -> None:
    """SQLite by itself makes files that others may read; its log gets the mode of its file."""
    if not file.exists():
        file.touch(mode=0o600)
    with suppress(OSError):  # of an older version, or another user's
        file.chmod(0o600)


@contextmanager
def _needs(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"The folder {folder} cannot be written to.") from error


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves; sqlite3 would do so too late
    _into_wal(connection)
    # SQLite's own knows ASCII alone, and what is searched for has umlauts.
    connection.create_function("lower", 1, lambda text: text and text.lower(), deterministic=True)
    # Not every build of SQLite overwrites what is deleted unless it is told to.
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _into_wal(connection: sqlite3.Connection) -> None:
    """Where two programs do this to a new file at once, SQLite does not wait as elsewhere."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > end:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
