"""Add the number of delivered vectors to usage events, and keep it from being changed.

Expand: a column that may be null; running code neither reads nor writes it, and what it records has
null there. Takes two short exclusive locks.
"""

import sqlalchemy as sa
from alembic import op

from migrations.triggers import Guard

revision = "2026_11_30_0710"
down_revision = "2026_11_30_0320"
branch_labels = None
depends_on = None

GUARDS = (Guard("usage_events", "UPDATE OF vectors"),)


def upgrade() -> None:
    """Add the column and its guard."""
    op.add_column("usage_events", sa.Column("vectors", sa.BigInteger(), nullable=True))
    for guard in GUARDS:
        guard.set()


def downgrade() -> None:
    """Drop the guard and the column."""
    for guard in GUARDS:
        guard.drop()
    op.drop_column("usage_events", "vectors")
