"""What the fracture model of a part that a reader named says of a study."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "reassessments",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("study_id", sa.String(32), sa.ForeignKey("studies.id"), nullable=False),
        sa.Column("body_part", sa.String(16), nullable=False),
        sa.Column("release", sa.Text, nullable=False),
        sa.Column("release_sha256", sa.String(64), nullable=False),
        sa.Column("label_means", sa.Text, nullable=False),
        sa.Column("probability", sa.Float, nullable=False),
        sa.Column("finding", sa.String(16), nullable=False),
        sa.Column("notes", sa.JSON, nullable=False),
        sa.Column("results", sa.JSON, nullable=False),
        sa.Column("made", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked_by", sa.Text, nullable=False),
        sa.UniqueConstraint("study_id", "body_part", "release_sha256"),
    )
    op.create_index("ix_reassessments_study_id", "reassessments", ["study_id"])
