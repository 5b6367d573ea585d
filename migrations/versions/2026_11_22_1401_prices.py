"""Create prices and GPU rates.

Expand: new tables only; running code does not read them yet. Takes no lock that blocks others.
"""

import sqlalchemy as sa
from alembic import op

from core.db.tables.types import Money, UtcTime

revision = "2026_11_22_1401"
down_revision = "2026_11_22_1400"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "price_versions",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("valid_from", UtcTime(), nullable=False),
        sa.Column("priority_multiplier", Money(2), nullable=False),
        sa.Column("flex_multiplier", Money(2), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.CheckConstraint(
            "priority_multiplier >= 0 AND flex_multiplier >= 0",
            name=op.f("ck_price_versions_multipliers"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price_versions")),
        sa.UniqueConstraint("model", "valid_from", name=op.f("uq_price_versions_model_valid_from")),
    )
    op.create_table(
        "prices",
        sa.Column("version_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("per_million", Money(6), nullable=False),
        sa.CheckConstraint(
            "kind IN ('input', 'cached_input', 'output')", name=op.f("ck_prices_kind")
        ),
        sa.CheckConstraint("per_million >= 0", name=op.f("ck_prices_not_negative")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["price_versions.id"], name=op.f("fk_prices_version_id")
        ),
        sa.PrimaryKeyConstraint("version_id", "kind", name=op.f("pk_prices")),
    )
    op.create_table(
        "gpu_rates",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("gpu", sa.String(length=128), nullable=False),
        sa.Column("per_hour", Money(6), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("valid_from", UtcTime(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.CheckConstraint("per_hour >= 0", name=op.f("ck_gpu_rates_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gpu_rates")),
        sa.UniqueConstraint("model", "valid_from", name=op.f("uq_gpu_rates_model_valid_from")),
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("gpu_rates")
    op.drop_table("prices")
    op.drop_table("price_versions")
