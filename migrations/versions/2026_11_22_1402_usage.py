"""Create the ledger, the archive of finished jobs, and the entries set aside.

Expand: new tables only; running code does not read them yet. Takes no lock that blocks others.
"""

import sqlalchemy as sa
from alembic import op

from core.db.tables.types import Money, UtcTime

revision = "2026_11_22_1402"
down_revision = "2026_11_22_1401"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "usage_events",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("service_tier", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("run_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("started_at", UtcTime(), nullable=True),
        sa.Column("finished_at", UtcTime(), nullable=False),
        sa.Column("recorded_at", UtcTime(), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("charged_input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("charged_cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("charged_output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("price_version_id", sa.String(length=64), nullable=True),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column("multiplier", Money(2), nullable=True),
        sa.Column("input_amount", Money(14), nullable=True),
        sa.Column("cached_amount", Money(14), nullable=True),
        sa.Column("output_amount", Money(14), nullable=True),
        sa.CheckConstraint(
            "charged_input_tokens >= 0 AND charged_cached_tokens >= 0"
            " AND charged_input_tokens + charged_cached_tokens <= input_tokens"
            " AND charged_output_tokens BETWEEN 0 AND output_tokens",
            name=op.f("ck_usage_events_charged"),
        ),
        sa.CheckConstraint(
            "input_tokens >= 0 AND cached_tokens BETWEEN 0 AND input_tokens AND output_tokens >= 0",
            name=op.f("ck_usage_events_tokens"),
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_usage_events")),
    )
    op.create_index(
        op.f("ix_usage_events_account_id_finished_at_job_id"),
        "usage_events",
        ["account_id", "finished_at", "job_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_usage_events_month_job_id"),
        "usage_events",
        ["month", "job_id"],
        unique=False,
    )
    op.create_index(
        "ix_usage_events_unpriced",
        "usage_events",
        ["month", "model"],
        unique=False,
        postgresql_where=sa.text("price_version_id IS NULL"),
        sqlite_where=sa.text("price_version_id IS NULL"),
    )
    op.create_table(
        "archived_jobs",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("finished_at", UtcTime(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_archived_jobs")),
    )
    op.create_index(
        op.f("ix_archived_jobs_finished_at"), "archived_jobs", ["finished_at"], unique=False
    )
    op.create_table(
        "set_aside_entries",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("entry_id", sa.String(length=64), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("set_aside_at", UtcTime(), nullable=False),
        sa.Column("resolved_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_set_aside_entries")),
        sa.UniqueConstraint("entry_id", name=op.f("uq_set_aside_entries_entry_id")),
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("set_aside_entries")
    op.drop_table("archived_jobs")
    op.drop_table("usage_events")
