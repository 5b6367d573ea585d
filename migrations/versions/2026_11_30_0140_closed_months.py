"""Add triggers that keep closed months closed, and keep usage and invoices out of them.

Expand: running code records late usage in an open month and closes a month last. Each trigger takes
a short exclusive lock.
"""

from migrations.triggers import Guard

revision = "2026_11_30_0140"
down_revision = "2026_11_22_1735"
branch_labels = None
depends_on = None

CLOSED = "EXISTS (SELECT 1 FROM closed_months WHERE month = NEW.month)"

GUARDS = (
    *(Guard("closed_months", event) for event in ("UPDATE", "DELETE", "TRUNCATE")),
    *(Guard(table, "INSERT", CLOSED) for table in ("usage_events", "adjustments", "invoices")),
)


def upgrade() -> None:
    """Create the guards."""
    for guard in GUARDS:
        guard.set()


def downgrade() -> None:
    """Drop the guards."""
    for guard in GUARDS:
        guard.drop()
