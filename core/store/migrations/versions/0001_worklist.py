"""Studies, their views and the readers' decisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "studies",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("content", sa.String(64), nullable=False, unique=True),
        sa.Column("added", MOMENT, nullable=False),
        sa.Column("added_by", sa.Text, nullable=False),
        sa.Column("release", sa.Text, nullable=False),
        sa.Column("release_sha256", sa.String(64), nullable=False),
        sa.Column("label_means", sa.Text, nullable=False),
        sa.Column("body_part", sa.String(16)),
        sa.Column("probability", sa.Float),
        sa.Column("finding", sa.String(16)),
        sa.Column("urgency", sa.Integer, nullable=False),
        sa.Column("notes", sa.JSON, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("purged", MOMENT),
    )
    op.create_index("studies_order", "studies", ["urgency", "probability"])
    op.create_index("ix_studies_added", "studies", ["added"])
    op.create_index("ix_studies_status", "studies", ["status"])
    op.create_table(
        "views",
        sa.Column("study_id", sa.String(32), sa.ForeignKey("studies.id"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("sha256", sa.String(64)),
        sa.Column("stored", sa.Boolean, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("result", sa.JSON, nullable=False),
    )
    op.create_index("ix_views_sha256", "views", ["sha256"])
    op.create_table(
        "decisions",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("study_id", sa.String(32), sa.ForeignKey("studies.id"), nullable=False),
        sa.Column("reader", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("restores", sa.Integer),
        sa.Column("made", MOMENT, nullable=False),
        sa.Column("opinion", sa.JSON),
        sa.UniqueConstraint("study_id", "reader", "revision"),
    )
    op.create_index("ix_decisions_study_id", "decisions", ["study_id"])
