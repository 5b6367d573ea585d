"""Add the first key of a chain of rotations, whose budget and limits a rotated key shares.

Expand: a new column, filled for existing keys. A budget of a rotated key becomes one of the first
key; of several in one chain the one that was changed last stays.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "2026_11_30_0150"
down_revision = "2026_11_30_0140"
branch_labels = None
depends_on = None

FILL = """
WITH RECURSIVE chain (id, origin) AS (
    SELECT id, id FROM api_keys WHERE rotated_from IS NULL
    UNION ALL
    SELECT next.id, chain.origin FROM api_keys AS next JOIN chain ON next.rotated_from = chain.id
)
UPDATE api_keys SET origin_id = (SELECT origin FROM chain WHERE chain.id = api_keys.id)
WHERE rotated_from IS NOT NULL
"""

BUDGETS = """
SELECT budgets.id, budgets.account_id, coalesce(api_keys.origin_id, budgets.key_id) AS origin
FROM budgets LEFT JOIN api_keys ON api_keys.id = budgets.key_id
WHERE budgets.key_id <> '' ORDER BY budgets.changed_at DESC, budgets.id DESC
"""


def upgrade() -> None:
    """Add the column, fill it, and move the budgets of rotated keys."""
    op.add_column("api_keys", sa.Column("origin_id", sa.String(length=64), nullable=True))
    op.execute(FILL)
    _move_budgets(op.get_bind().execute(sa.text(BUDGETS)).all())


def _move_budgets(rows: Sequence[Any]) -> None:
    """Keep the newest budget of each chain, under the chain's first key."""
    newest: dict[tuple[str, str], str] = {}
    for row in rows:
        newest.setdefault((row.account_id, row.origin), row.id)
    kept = set(newest.values())
    connection = op.get_bind()
    for row in rows:
        if row.id not in kept:
            connection.execute(sa.text("DELETE FROM budgets WHERE id = :id"), {"id": row.id})
    move = sa.text("UPDATE budgets SET key_id = :origin WHERE id = :id")
    for (_, origin), budget in newest.items():
        connection.execute(move, {"id": budget, "origin": origin})


def downgrade() -> None:
    """Drop the column; budgets stay with the first keys."""
    op.drop_column("api_keys", "origin_id")
