"""Opens accounts, users and keys for a command."""

import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from accounts.directory_factory import Directory, open_directory
from cli.connect.database import with_database
from cli.connect.settings import load_local_settings
from cli.terminal.failures import Unreachable
from core.db.database import Database
from core.errors import StoreUnavailable
from core.redis.client import connect

T = TypeVar("T")


def with_directory(work: Callable[[Directory, Database], Awaitable[T]]) -> T:
    """Run `work` on the accounts database; API processes learn of changes through Redis.

    Raises:
        UsageError: the request is not valid.
        Unreachable: the database does not answer, or Redis does not (the change is stored).
    """
    # Standard output is for results.
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))

    async def run(database: Database) -> T:
        settings = load_local_settings()
        redis = connect(settings.redis)
        directory = open_directory(database, redis, settings)
        try:
            return await work(directory, database)
        except StoreUnavailable as error:
            raise Unreachable(
                "the change is stored, but Redis does not answer",
                f"{error.message}; the API applies it within seconds when Redis is back",
                "PENSTOCK_REDIS__URL names it",
            ) from None
        finally:
            await directory.close()
            await redis.aclose()

    return with_database(run)
