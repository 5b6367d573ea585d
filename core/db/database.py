"""Opens SQL connections: pooled, with short transactions.

Invariant: on PostgreSQL no statement takes longer than `statement_seconds`, and none waits for a
frozen server, except where it is said (exports, and operators' commands). An error after which a
later try can succeed (connection lost, server starting, lock or disk busy, schema missing) leaves
as `DatabaseUnavailable`; an error in the data passes through.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import event, make_url, text
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from core.db.bounded_connection import bounded_by
from core.errors import DatabaseUnavailable
from core.settings.billing import DatabaseSettings

RETRY_AFTER_SECONDS = 5.0

#: Execution option: a SQLite transaction takes the write lock at its beginning, where it can
#: wait for it.
WRITES = "penstock_writes"

#: Execution option: the seconds that a transaction waits for a lock.
LOCK_SECONDS = "penstock_lock_seconds"

#: Readers do not block the writer; a commit is on disk; `REPLACE` fires the triggers of a delete.
PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "recursive_triggers = ON",
)


class Database:
    """Opens connections on first use; `process` names this process in PostgreSQL's views.

    With `bounded=False` statements may take any time, as those of `read(long=True)` always may.
    """

    def __init__(self, settings: DatabaseSettings, process: str, *, bounded: bool = True) -> None:
        url = make_url(settings.url.get_secret_value())
        prepare_folder(url)
        self.is_sqlite = is_sqlite(url)
        limit = settings.statement_seconds if bounded and not self.is_sqlite else None
        self._lock_seconds = settings.timeout_seconds
        self._engine = _engine(url, settings, process, limit)
        self._long = self._engine if limit is None else _engine(url, settings, process, None)

    @asynccontextmanager
    async def read(self, *, long: bool = False) -> AsyncGenerator[AsyncConnection, None]:
        """Open a connection in a transaction that is rolled back at the end."""
        engine = self._long if long else self._engine
        async with _translated(), engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(
        self, *, lock_seconds: float | None = None
    ) -> AsyncGenerator[AsyncConnection, None]:
        """Open a connection in a transaction; commit at the end, roll back on an error.

        Args:
            lock_seconds: how long to wait for a lock; by default the timeout of the settings.
        """
        seconds = self._lock_seconds if lock_seconds is None else lock_seconds
        async with _translated(), self._engine.connect() as connection:
            await connection.execution_options(**{WRITES: True, LOCK_SECONDS: seconds})
            async with connection.begin():
                if lock_seconds is not None and not self.is_sqlite:
                    await connection.execute(text(f"SET LOCAL lock_timeout = '{lock_seconds}s'"))
                yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()
        await self._long.dispose()


def _engine(url: URL, settings: DatabaseSettings, process: str, limit: float | None) -> AsyncEngine:
    arguments = connect_args(url, settings.timeout_seconds, process, limit)
    if is_sqlite(url):
        engine = create_async_engine(url, connect_args=arguments, pool_pre_ping=True)
        configure_sqlite(engine.sync_engine)
        return engine
    if limit is not None:
        # The server ends a statement by itself; a server that does not is frozen.
        arguments["async_creator_fn"] = bounded_by(limit + settings.timeout_seconds)
    return create_async_engine(
        url,
        connect_args=arguments,
        pool_pre_ping=True,
        pool_size=settings.connections,
        pool_timeout=settings.timeout_seconds,
    )


def is_sqlite(url: URL) -> bool:
    """Return whether this is SQLite."""
    return url.get_backend_name() == "sqlite"


def prepare_folder(url: URL) -> None:
    """Create the folder of a SQLite file, and the file; only their owner can read them."""
    if not is_sqlite(url) or not url.database or url.database == ":memory:":
        return
    file = Path(url.database)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(OSError):  # the connection says what is wrong
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))


def connect_args(
    url: URL, timeout_seconds: float, process: str, statement_seconds: float | None = None
) -> dict[str, Any]:
    """Return the timeouts of a connection; by default statements may take any time."""
    if is_sqlite(url):
        return {"timeout": timeout_seconds}
    milliseconds = int(timeout_seconds * 1000)
    return {
        "connect_timeout": max(2, int(timeout_seconds)),
        "application_name": f"penstock-{process}",
        # Keepalives end a connection whose server vanished.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": milliseconds * 2,
        "options": f"-c lock_timeout={milliseconds} -c timezone=UTC"
        f" -c statement_timeout={int((statement_seconds or 0) * 1000)}",
    }


def configure_sqlite(engine: Engine) -> None:
    """Set up each connection: write-ahead log, foreign keys, and explicit transactions.

    The driver by itself begins a transaction only at the first write, and none around DDL.
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
        options = connection.get_execution_options()
        seconds = options.get(LOCK_SECONDS)
        if seconds is not None and connection.info.get(LOCK_SECONDS) != seconds:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
            connection.info[LOCK_SECONDS] = seconds
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(WRITES, False) else "BEGIN")


@asynccontextmanager
async def _translated() -> AsyncGenerator[None, None]:
    try:
        yield
    except (DataError, IntegrityError):
        raise
    except (DBAPIError, PoolTimeout, OSError) as error:
        raise DatabaseUnavailable(
            "the database does not take requests at the moment",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        ) from error
