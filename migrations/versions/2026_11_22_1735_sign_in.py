"""Add scopes, limits and rotation of keys, user sessions, and the account of an audit entry.

Expand: columns with defaults and a new table; running code does not read them yet. Takes short
exclusive locks; the indexes are on small tables.
"""

import sqlalchemy as sa
from alembic import op

from core.db.tables.types import UtcTime

revision = "2026_11_22_1735"
down_revision = "2026_11_22_1730"
branch_labels = None
depends_on = None

ACCOUNT_LIMITS = ("requests_per_minute", "tokens_per_minute", "max_running", "max_queued")
KEY_LIMITS = ("requests_per_minute", "tokens_per_minute", "max_queued")
CHANGING = ("accounts", "users", "api_keys")


def upgrade() -> None:
    """Add the columns, the indexes and the table."""
    for name in ACCOUNT_LIMITS:
        op.add_column("accounts", _number(name))
    for name in KEY_LIMITS:
        op.add_column("api_keys", _number(name))
    op.add_column(
        "users", sa.Column("operator", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.add_column("users", _number("session"))
    for column in (
        sa.Column("prefix", sa.String(length=16), nullable=True),
        sa.Column("role", sa.String(length=16), server_default="member", nullable=False),
        sa.Column("networks", sa.JSON(), nullable=True),
        sa.Column("rotated_from", sa.String(length=64), nullable=True),
    ):
        op.add_column("api_keys", column)
    op.create_index(op.f("ix_api_keys_account_id_prefix"), "api_keys", ["account_id", "prefix"])
    for table in CHANGING:
        op.add_column(table, sa.Column("changed_at", UtcTime(), nullable=True))
        op.create_index(op.f(f"ix_{table}_changed_at"), table, ["changed_at"])
    op.add_column("audit_log", sa.Column("account_id", sa.String(length=64), nullable=True))
    op.create_index(op.f("ix_audit_log_account_id_id"), "audit_log", ["account_id", "id"])
    _create_refresh_tokens()


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False)


def _create_refresh_tokens() -> None:
    op.create_table(
        "refresh_tokens",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("family", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("session", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("expires_at", UtcTime(), nullable=False),
        sa.Column("used_at", UtcTime(), nullable=True),
        sa.Column("revoked_at", UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_refresh_tokens_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refresh_tokens")),
        sa.UniqueConstraint("sha256", name=op.f("uq_refresh_tokens_sha256")),
    )
    for name in ("expires_at", "family", "user_id"):
        op.create_index(op.f(f"ix_refresh_tokens_{name}"), "refresh_tokens", [name])


def downgrade() -> None:
    """Drop the table, the indexes and the columns."""
    op.drop_table("refresh_tokens")
    op.drop_index(op.f("ix_audit_log_account_id_id"), "audit_log")
    op.drop_column("audit_log", "account_id")
    for table in CHANGING:
        op.drop_index(op.f(f"ix_{table}_changed_at"), table)
        op.drop_column(table, "changed_at")
    op.drop_index(op.f("ix_api_keys_account_id_prefix"), "api_keys")
    for name in ("prefix", "role", "networks", "rotated_from", *KEY_LIMITS):
        op.drop_column("api_keys", name)
    for name in ("operator", "session"):
        op.drop_column("users", name)
    for name in ACCOUNT_LIMITS:
        op.drop_column("accounts", name)
