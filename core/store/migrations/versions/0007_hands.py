"""When a study was brought last, and what the listener knows of one that a reader added before."""

from __future__ import annotations

import json
from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("studies", sa.Column("renewed", MOMENT))
    op.add_column("studies", sa.Column("delivered", sa.Integer, nullable=False, server_default="0"))
    op.add_column("studies", sa.Column("delivered_key", sa.Text))
    op.add_column("views", sa.Column("object", sa.Text))
    op.create_index("ix_views_object", "views", ["object"])
    names = ("id", "added_by", "arrived", "received", "delivered", "purged")
    studies = sa.table("studies", *map(sa.column, names), sa.column("renewed", MOMENT))
    both = studies.c.received & (studies.c.added_by != "listener")
    op.execute(studies.update().where(both).values(delivered=studies.c.arrived))
    views = sa.table("views", *map(sa.column, ("study_id", "name", "object")))
    received = sa.select(studies.c.id).where(studies.c.received, studies.c.purged.is_(None))
    its = views.c.study_id.in_(received)
    op.execute(views.update().where(its).values(object=views.c.name))
    audit = sa.table("audit", *map(sa.column, ("number", "time", "event", "facts")))
    again = sa.select(audit.c.time, audit.c.facts).where(audit.c.event == "study.arrived")
    for time, facts in op.get_bind().execute(again.order_by(audit.c.number)).all():
        study = studies.c.id == json.loads(facts)["study"]
        op.execute(studies.update().where(study).values(renewed=datetime.fromisoformat(time)))
