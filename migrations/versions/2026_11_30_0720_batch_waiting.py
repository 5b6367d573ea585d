"""Add why a batch waits.

Expand: a column that may be null; running code does not read it. Takes a short exclusive lock.
"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_30_0720"
down_revision = "2026_11_30_0710"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("batches", sa.Column("waiting", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("batches", "waiting")
