"""Add the bounds of users, and who set the bounds of a key.

Expand: new columns that are null or 0 in existing rows, which is "no bound"; running code neither
reads nor writes them. Takes two short exclusive locks.
"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_30_0725"
down_revision = "2026_11_30_0720"
branch_labels = None
depends_on = None

SCOPES = ("models", "routes", "networks")
LIMITS = ("requests_per_minute", "tokens_per_minute", "max_running", "max_queued")


def upgrade() -> None:
    """Add the columns."""
    op.add_column("api_keys", sa.Column("set_by", sa.JSON(), nullable=True))
    for name in SCOPES:
        op.add_column("users", sa.Column(name, sa.JSON(), nullable=True))
    for name in LIMITS:
        column = sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0"))
        op.add_column("users", column)


def downgrade() -> None:
    """Drop the columns; bounds of users end."""
    for name in (*LIMITS, *SCOPES):
        op.drop_column("users", name)
    op.drop_column("api_keys", "set_by")
