"""A body part may have the name that ``core.types.BodyPart`` allows, up to 40 characters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        return  # which does not look at the length
    for table in ("studies", "reassessments"):
        op.alter_column(table, "body_part", type_=sa.String(40))
