"""Completions that are kept because their caller asked for it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "completions",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.Integer()),
        sa.Column("created", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("messages", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_completions"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_completions_user_id", ondelete="CASCADE"),
        sa.UniqueConstraint("id", name="uq_completions_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_completions_user_id", "completions", ["user_id"])
    op.create_table(
        "completion_metadata",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.String(512), nullable=False),
        sa.PrimaryKeyConstraint("number", "key", name="pk_completion_metadata"),
        sa.ForeignKeyConstraint(
            ["number"], ["completions.number"], name="fk_completion_metadata_number", ondelete="CASCADE"
        ),
    )
