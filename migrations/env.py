"""Runs migrations for Alembic, called by `penstock db upgrade` or by the `alembic` command.

Invariant: waiting for a lock is bounded, so that a migration never blocks the ledger for long.
"""

from typing import Any

from alembic import context
from sqlalchemy import text
from sqlalchemy.engine import Connection

from core.db.database import WRITES
from core.db.schema_version import migration_engine
from core.db.tables.metadata import metadata
from core.runtime.process import read_settings

#: An arbitrary number: it names the lock that lets one process migrate at a time.
MIGRATION_LOCK = 7_351_942


def migrate(connection: Connection) -> None:
    """Run the requested migrations."""
    sqlite = connection.dialect.name == "sqlite"
    options: dict[str, Any] = {"render_as_batch": sqlite}
    context.configure(
        connection,
        target_metadata=metadata,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
        **options,
    )
    with context.begin_transaction():
        if not sqlite:
            connection.execute(text("SET LOCAL lock_timeout = '4s'"))
            connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        context.run_migrations()


def main() -> None:
    """Connect and migrate."""
    settings = context.config.attributes.get("settings") or read_settings("migration").database
    engine = migration_engine(settings)
    try:
        with engine.connect() as connection:
            connection.execution_options(**{WRITES: True})
            migrate(connection)
    finally:
        engine.dispose()


main()
