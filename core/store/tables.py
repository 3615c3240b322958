"""The tables, as SQLAlchemy models. How they came to be stands in migrations/versions/."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Moment(TypeDecorator[datetime]):
    """A point in time, always UTC; SQLite by itself forgets the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it from the class)
        datetime: Moment(),
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(),
        str: Text(),
    }


class Study(Base):
    """One study on the worklist, as the release saw it. Only its status and what tells of its
    arrivals ever change, until its time is over: then purged and superseded are set, and title,
    keys, its views' names and, as it follows from the pictures, content are overwritten.

    content: digest of its pictures and release, so that nothing is added twice.
    urgency: rank of the finding, 0 for suspected. status: follows from the readers' decisions.
    renewed: when somebody brought it once more, None where nobody did: its time counts from then.
    purged: when pictures, names and comments were removed. arrived: number of the audit's line that
    tells of it, or of its last arrival where it came again. received: whether the listener brought
    it, whoever added it. delivered, delivered_key: arrived and key as the listener has them, where
    a reader had added it before. superseded: id of the study that had taken its place when one of
    the two was purged, "" without one: the key, from which that follows before, is gone then.
    """

    __tablename__ = "studies"
    __table_args__ = (Index("studies_order", "urgency", "probability"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    key: Mapped[str]
    title: Mapped[str]
    content: Mapped[str] = mapped_column(String(64), unique=True)
    added: Mapped[datetime] = mapped_column(index=True)
    added_by: Mapped[str]
    release: Mapped[str]
    release_sha256: Mapped[str] = mapped_column(String(64))
    label_means: Mapped[str]
    body_part: Mapped[str | None] = mapped_column(String(40))
    probability: Mapped[float | None]
    finding: Mapped[str | None] = mapped_column(String(16))
    urgency: Mapped[int]
    notes: Mapped[list[Any]]
    status: Mapped[str] = mapped_column(String(16), index=True)
    renewed: Mapped[datetime | None]
    purged: Mapped[datetime | None]
    arrived: Mapped[int] = mapped_column(default=0)
    received: Mapped[bool] = mapped_column(default=False)
    delivered: Mapped[int] = mapped_column(default=0)
    delivered_key: Mapped[str | None]
    superseded: Mapped[str] = mapped_column(String(32), default="")
    views: Mapped[list[View]] = relationship(order_by="View.position")
    decisions: Mapped[list[Decision]] = relationship(order_by="Decision.number")
    reassessments: Mapped[list[Reassessment]] = relationship(order_by="Reassessment.number")


class View(Base):
    """One picture of a study with its result; the picture itself lies in a file named by sha256.

    object: its name as the listener has it, by a UID; None where that did not bring it.
    """

    __tablename__ = "views"

    study_id: Mapped[str] = mapped_column(ForeignKey("studies.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    stored: Mapped[bool]
    name: Mapped[str]
    object: Mapped[str | None] = mapped_column(index=True)
    result: Mapped[dict[str, Any]]


class Decision(Base):
    """One thing that a reader did to a study. Rows are added and never changed.

    But for the comment, which is removed when the study's time is over.

    revision: 1, 2, … of this reader on this study. restores: of an undo, the revision that is in
    force again, 0 for none. opinion: what the reader said (``records.Opinion``).
    """

    __tablename__ = "decisions"
    __table_args__ = (UniqueConstraint("study_id", "reader", "revision"),)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("studies.id"), index=True)
    reader: Mapped[str]
    revision: Mapped[int]
    restores: Mapped[int | None]
    made: Mapped[datetime]
    opinion: Mapped[dict[str, Any] | None]


class Reassessment(Base):
    """What another part's fracture model says of a study. Rows are added and never changed.

    results: for each view of the study, in its order, the packed result.
    """

    __tablename__ = "reassessments"
    __table_args__ = (UniqueConstraint("study_id", "body_part", "release_sha256"),)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("studies.id"), index=True)
    body_part: Mapped[str] = mapped_column(String(40))
    release: Mapped[str]
    release_sha256: Mapped[str] = mapped_column(String(64))
    label_means: Mapped[str]
    probability: Mapped[float]
    finding: Mapped[str] = mapped_column(String(16))
    notes: Mapped[list[Any]]
    results: Mapped[list[Any]]
    made: Mapped[datetime]
    asked_by: Mapped[str]


class AuditEntry(Base):
    """One line of the audit; digest is over all other columns and the digest before it."""

    __tablename__ = "audit"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    time: Mapped[str]
    event: Mapped[str]
    actor: Mapped[str]
    facts: Mapped[str]
    previous: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))


class AuditHead(Base):
    """Number and digest of the last line: what shows that lines at the end are missing."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))
