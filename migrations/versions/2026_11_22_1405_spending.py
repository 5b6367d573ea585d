"""Create spending, maintained by triggers on the ledger, and budget warnings.

Expand: new tables, one new column without a default, and triggers that only add rows. Existing
usage is summed up here; the lock on the ledger is held until that is done.
"""

import sqlalchemy as sa
from alembic import op

from core.db.tables.types import NANOS, Money, UtcTime
from migrations.triggers import Trigger

revision = "2026_11_22_1405"
down_revision = "2026_11_22_1404"
branch_labels = None
depends_on = None

COLUMNS = "account_id, month, currency, key_id"
AMOUNTS = ("input_amount", "cached_amount", "output_amount")

#: What one row adds on PostgreSQL: its cost, rounded up to nanos (9 decimals).
COST = f"ceil(({' + '.join(AMOUNTS)}) * 1000000000) * 0.000000001"


def _cost_on_sqlite(of: str = "") -> str:
    """Return the expression of COST for SQLite.

    Its amounts are integers with 14 decimals. Their sum may overflow; in nanos it never does.
    """
    whole = " + ".join(f"{of}{name} / 100000" for name in AMOUNTS)
    rest = " + ".join(f"{of}{name} % 100000" for name in AMOUNTS)
    return f"{whole} + ({rest} + 99999) / 100000"


def _trigger(event: str) -> Trigger:
    """Return the trigger of an event; on PostgreSQL both share a function.

    A statement adds in one order there, so that two statements cannot deadlock.
    """
    row = ", ".join(f"NEW.{name}" for name in COLUMNS.split(", "))
    return Trigger(
        table="usage_events",
        name=f"keep_spending_{event.lower()}",
        sqlite=f"AFTER {event} ON usage_events WHEN NEW.input_amount IS NOT NULL BEGIN"
        f" INSERT INTO spending ({COLUMNS}, amount) VALUES ({row}, {_cost_on_sqlite('NEW.')})"
        f" ON CONFLICT ({COLUMNS}) DO UPDATE SET amount = amount + excluded.amount; END",
        postgresql=f"AFTER {event} ON usage_events"
        " REFERENCING NEW TABLE AS added FOR EACH STATEMENT",
        function="keep_spending",
        body=f" BEGIN INSERT INTO spending ({COLUMNS}, amount) SELECT {COLUMNS}, sum({COST})"
        f" FROM added WHERE input_amount IS NOT NULL GROUP BY {COLUMNS} ORDER BY {COLUMNS}"
        f" ON CONFLICT ({COLUMNS}) DO UPDATE SET amount = spending.amount + excluded.amount;"
        " RETURN NULL; END ",
    )


TRIGGERS = (_trigger("INSERT"), _trigger("UPDATE"))


def upgrade() -> None:
    """Create the tables, sum up the ledger, and add triggers that maintain the sums."""
    op.create_table(
        "spending",
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("amount", Money(NANOS), nullable=False),
        sa.PrimaryKeyConstraint(
            "account_id", "month", "currency", "key_id", name=op.f("pk_spending")
        ),
        sa.CheckConstraint("typeof(amount) = 'integer'", op.f("ck_spending_exact")).ddl_if(
            dialect="sqlite"
        ),
    )
    op.create_table(
        "budget_warnings",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("budget_id", sa.String(length=64), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("percent", sa.BigInteger(), nullable=False),
        sa.Column("spent", Money(NANOS), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("due_at", UtcTime(), nullable=True),
        sa.Column("delivered_at", UtcTime(), nullable=True),
        sa.Column("failure", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budget_warnings")),
        sa.UniqueConstraint(
            "budget_id", "month", "percent", name=op.f("uq_budget_warnings_budget_id_month_percent")
        ),
    )
    op.create_index(op.f("ix_budget_warnings_due_at"), "budget_warnings", ["due_at"])
    op.add_column("budgets", sa.Column("webhook_secret", sa.Text(), nullable=True))
    sqlite = op.get_bind().dialect.name == "sqlite"
    if not sqlite:
        op.execute("LOCK TABLE usage_events IN SHARE ROW EXCLUSIVE MODE")
    TRIGGERS[0].create_function()
    for trigger in TRIGGERS:
        trigger.create()
    op.execute(
        f"INSERT INTO spending ({COLUMNS}, amount)"
        f" SELECT {COLUMNS}, sum({_cost_on_sqlite() if sqlite else COST})"
        f" FROM usage_events WHERE input_amount IS NOT NULL GROUP BY {COLUMNS}"
    )


def downgrade() -> None:
    """Drop the tables, the triggers and the column."""
    for trigger in TRIGGERS:
        trigger.drop()
    op.drop_column("budgets", "webhook_secret")
    op.drop_table("budget_warnings")
    op.drop_table("spending")
