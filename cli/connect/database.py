"""Opens the billing database for a command, and turns its errors into failures."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from billing.errors import ExportFailed, MonthConflict
from cli.connect.settings import load_settings
from cli.terminal.failures import Failure, Unreachable, UsageError
from core.db.database import Database
from core.errors import ClientError, DatabaseUnavailable

T = TypeVar("T")


def with_database(work: Callable[[Database], Awaitable[T]]) -> T:
    """Run `work` on the database of the settings.

    Raises:
        UsageError: the request is not valid.
        Failure: a month's state does not allow it, or files could not be written.
        Unreachable: the database does not answer, or has no tables yet.
    """

    async def run() -> T:
        database = Database(load_settings().database, "cli", bounded=False)
        try:
            return await work(database)
        finally:
            await database.close()

    try:
        return asyncio.run(run())
    except (MonthConflict, ExportFailed) as error:
        raise Failure(error.message) from None
    except ClientError as error:
        raise UsageError(error.message) from None
    except DatabaseUnavailable as error:
        raise Unreachable(
            "the billing database cannot be used",
            str(error.__cause__).partition("\n")[0],
            "PENSTOCK_DATABASE__URL names it; penstock db upgrade creates its tables",
        ) from None
