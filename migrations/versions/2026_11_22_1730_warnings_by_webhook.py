"""Deliver budget warnings as webhooks, and store until when a delivery has a ticket.

Contract: the delivery columns of `budget_warnings` are dropped. Stop ledger processes of earlier
versions first; `penstock budgets list` shows what they have not delivered. Takes short exclusive
locks.
"""

import sqlalchemy as sa
from alembic import op

from core.db.tables.types import UtcTime

revision = "2026_11_22_1730"
down_revision = "2026_11_22_1720"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column and an index; drop the columns that are no longer needed."""
    op.add_column("webhook_deliveries", sa.Column("ticket_until", UtcTime(), nullable=True))
    op.create_index(op.f("ix_webhook_deliveries_target_id"), "webhook_deliveries", ["target", "id"])
    op.drop_index(op.f("ix_budget_warnings_due_at"), "budget_warnings")
    for name in ("attempts", "due_at", "delivered_at", "failure"):
        op.drop_column("budget_warnings", name)


def downgrade() -> None:
    """Add the columns again, empty."""
    for column in (
        sa.Column("attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("due_at", UtcTime(), nullable=True),
        sa.Column("delivered_at", UtcTime(), nullable=True),
        sa.Column("failure", sa.String(length=128), server_default="", nullable=False),
    ):
        op.add_column("budget_warnings", column)
    op.create_index(op.f("ix_budget_warnings_due_at"), "budget_warnings", ["due_at"])
    op.drop_index(op.f("ix_webhook_deliveries_target_id"), "webhook_deliveries")
    op.drop_column("webhook_deliveries", "ticket_until")
