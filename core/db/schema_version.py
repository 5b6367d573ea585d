"""Migrates a database to a version of the schema; `penstock db upgrade` runs it.

Invariant: each migration is one transaction, and on PostgreSQL only one process migrates at a time.
"""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, make_url

from core.db.database import configure_sqlite, connect_args, is_sqlite, prepare_folder
from core.settings.billing import DatabaseSettings


def alembic_config(settings: DatabaseSettings) -> Config:
    """Return Alembic's configuration; pyproject.toml holds what developers' commands need."""
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.attributes["settings"] = settings
    return config


def migration_engine(settings: DatabaseSettings) -> Engine:
    """Return an engine without asyncio, because Alembic needs one."""
    url = make_url(settings.url.get_secret_value())
    prepare_folder(url)
    if is_sqlite(url):
        url = url.set(drivername="sqlite")
    engine = create_engine(
        url, connect_args=connect_args(url, settings.timeout_seconds, "migration")
    )
    if is_sqlite(url):
        configure_sqlite(engine)
    return engine


def upgrade(settings: DatabaseSettings, revision: str = "head") -> None:
    """Apply every migration up to a revision, if any is missing."""
    command.upgrade(alembic_config(settings), revision)


def downgrade(settings: DatabaseSettings, revision: str = "base") -> None:
    """Revert migrations, including the data of their tables."""
    command.downgrade(alembic_config(settings), revision)


def check(settings: DatabaseSettings) -> None:
    """Raise `alembic.util.CommandError` when the tables differ from `core.db.tables`."""
    command.check(alembic_config(settings))


def revisions(settings: DatabaseSettings) -> tuple[str | None, str | None]:
    """Return the database's revision and the newest there is."""
    engine = migration_engine(settings)
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    head = ScriptDirectory.from_config(alembic_config(settings)).get_current_head()
    return current, head


def is_behind(settings: DatabaseSettings) -> bool:
    """Return whether tables that this program needs are missing; newer tables do not matter.

    Migrations only add, so a program runs on the tables of the next one, which allows a rollback.
    """
    current, head = revisions(settings)
    if current is None or current == head:
        return current is None
    directory = ScriptDirectory.from_config(alembic_config(settings))
    return current in {script.revision for script in directory.walk_revisions()}
