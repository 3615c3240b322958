"""In which order studies came, whatever the clock said, and which of them the listener received."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    arrived = sa.Column("arrived", sa.Integer, nullable=False, server_default="0")
    received = sa.Column("received", sa.Boolean, nullable=False, server_default=sa.false())
    for column in (arrived, received):
        op.add_column("studies", column)
    studies = sa.table("studies", *map(sa.column, ("id", "added_by", "arrived", "received")))
    op.execute(studies.update().values(received=studies.c.added_by == "listener"))
    audit = sa.table("audit", *map(sa.column, ("number", "event", "facts")))
    added = sa.select(audit.c.number, audit.c.facts).where(audit.c.event == "study.added")
    for number, facts in op.get_bind().execute(added).all():
        study = studies.c.id == json.loads(facts)["study"]
        op.execute(studies.update().where(study).values(arrived=number))
