"""Opens accounts, users and keys for a command."""

import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from accounts.directory import Directory, open_directory
from cli.database import with_database
from cli.failures import Unreachable
from cli.settings import load_local_settings
from core.db.engine import Database
from core.errors import StoreUnavailable
from core.redis.client import connect

T = TypeVar("T")


def with_directory(work: Callable[[Directory, Database], Awaitable[T]]) -> T:
    """Run `work` on the accounts of the settings, and tell the API processes by way of Redis.

    Raises:
        Usage: what was asked for cannot be.
        Unreachable: the database does not answer; or it has it, but Redis does not answer.
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
                "it is written down, but Redis does not answer",
                f"{error.message}; the API learns of it within seconds of being reachable again",
                "PENSTOCK_REDIS__URL names it",
            ) from None
        finally:
            await directory.close()
            await redis.aclose()

    return with_database(run)
