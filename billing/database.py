"""The way to the billing database: one engine per process, short transactions.

Invariant: whatever means "not now" (connection lost, server starting, lock or disk busy, schema
not there yet) leaves as `DatabaseUnavailable`; what the data is to blame for passes through.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event, make_url
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from billing.errors import DatabaseUnavailable
from jobs.settings import DatabaseSettings

RETRY_AFTER_SECONDS = 5.0

#: Execution option that makes a SQLite transaction take the write lock at its beginning, where
#: waiting for it is possible.
WRITES = "penstock_writes"

#: Readers do not block the writer; a commit is on disk; `REPLACE` fires the triggers of a delete.
PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "recursive_triggers = ON",
)


class Database:
    """Opens connections on first use; `process` names this one in PostgreSQL's own views."""

    def __init__(self, settings: DatabaseSettings, process: str) -> None:
        url = make_url(settings.url.get_secret_value())
        prepare_folder(url)
        pooling: dict[str, Any] = {}
        if url.get_backend_name() != "sqlite":
            pooling = {"pool_size": settings.connections, "pool_timeout": settings.timeout_seconds}
        self._engine = create_async_engine(
            url,
            connect_args=connect_args(url, settings.timeout_seconds, process),
            pool_pre_ping=True,
            **pooling,
        )
        self.is_sqlite = is_sqlite(url)
        if self.is_sqlite:
            configure_sqlite(self._engine.sync_engine)

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncConnection, None]:
        """Open a connection in a transaction that is given up at the end."""
        async with _translated(), self._engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[AsyncConnection, None]:
        """Open a connection in a transaction that is committed at the end, or not at all."""
        async with _translated(), self._engine.connect() as connection:
            await connection.execution_options(**{WRITES: True})
            async with connection.begin():
                yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


def is_sqlite(url: URL) -> bool:
    """Return whether this is SQLite."""
    return url.get_backend_name() == "sqlite"


def prepare_folder(url: URL) -> None:
    """Make the folder of a SQLite file."""
    if is_sqlite(url) and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)


def connect_args(url: URL, timeout_seconds: float, process: str) -> dict[str, Any]:
    """Return what bounds every wait of a connection."""
    if is_sqlite(url):
        return {"timeout": timeout_seconds}
    milliseconds = int(timeout_seconds * 1000)
    return {
        "connect_timeout": max(2, int(timeout_seconds)),
        "application_name": f"penstock-{process}",
        # Keepalives end a connection whose server is gone without a word.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": milliseconds * 2,
        "options": f"-c lock_timeout={milliseconds} -c timezone=UTC",
    }


def configure_sqlite(engine: Engine) -> None:
    """Set up each connection: write-ahead log, enforced references, transactions of our own.

    The driver would begin a transaction at the first write only, and none around DDL.
    """

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@asynccontextmanager
async def _translated() -> AsyncGenerator[None, None]:
    try:
        yield
    except (DataError, IntegrityError):
        raise
    except (DBAPIError, PoolTimeout, OSError) as error:
        raise DatabaseUnavailable(
            "the billing database does not take requests at the moment",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        ) from error
