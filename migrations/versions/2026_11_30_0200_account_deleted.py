"""Add the time at which an account was deleted.

Expand: a column that may be null; running code does not read it. Takes a short exclusive lock.
"""

import sqlalchemy as sa
from alembic import op

from core.db.tables.types import UtcTime

revision = "2026_11_30_0200"
down_revision = "2026_11_30_0150"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("accounts", sa.Column("deleted_at", UtcTime(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("accounts", "deleted_at")
