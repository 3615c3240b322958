"""Which study had taken another one's place when that one's time was over."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    column = sa.Column("superseded", sa.String(32), nullable=False, server_default="")
    op.add_column("studies", column)
