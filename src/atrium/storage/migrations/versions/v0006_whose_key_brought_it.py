"""With which key a document was brought, whose quotas its vectors count for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ingests", sa.Column("key_id", sa.Integer()))
