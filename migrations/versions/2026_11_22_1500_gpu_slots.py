"""Add to GPU rates how many jobs a GPU runs at a time, so that margins do not add their seconds up.

Expand: a column with a default; running code does not read it yet. Takes a short exclusive lock.
"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_1500"
down_revision = "2026_11_22_1405"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    column = sa.Column("slots", sa.BigInteger(), server_default="1", nullable=False)
    op.add_column("gpu_rates", column)


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("gpu_rates", "slots")
