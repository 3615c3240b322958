"""Alembic's entry: run the versions on the connection that ``core.store.database`` hands over."""

from __future__ import annotations

from alembic import context

from core.store.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
