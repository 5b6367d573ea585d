"""What an export holds, whatever its format: summary, lines, usage; rows come in pieces.

Invariant: constant memory, and the same rows in the same order each time a closed month is asked
for, on either database.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.errors import MonthNotClosed
from billing.invoices.close import check_month, draft_month
from billing.invoices.invoices import Invoice, stream_invoices
from core.db.tables.base import table_of
from core.db.tables.invoices import ClosedMonthRow
from core.db.tables.usage import UsageEventRow
from core.settings.billing import SellerSettings

EVENTS = table_of(UsageEventRow)


USAGE = (
    *("account_id", "job_id", "key_id", "model", "service_tier", "status", "late", "created_at"),
    *("finished_at", "run_ms", "input_tokens", "cached_tokens", "output_tokens"),
    *("charged_input_tokens", "charged_cached_tokens", "charged_output_tokens"),
    *("price_version_id", "currency", "multiplier"),
    *("input_amount", "cached_amount", "output_amount"),
)


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is to be exported; `account` None is everybody."""

    month: str
    account: str | None = None
    preliminary: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next bytes of a file; `rows` of the ledger are in them, for who shows progress."""

    file: str
    data: bytes
    rows: int = 0


async def open_content(
    connection: AsyncConnection, wanted: ExportRequest, seller: SellerSettings
) -> "Content":
    """Return a month's content, as it was issued or, if preliminary, as it stands.

    Raises:
        InvalidMonth: this is no month.
        MonthNotClosed: there are no invoices yet, and nobody asked for preliminary ones.
    """
    first, _ = check_month(wanted.month)
    if connection.dialect.name != "sqlite":
        # A running month goes on while it is read.
        await connection.execution_options(isolation_level="REPEATABLE READ")
    closed = select(ClosedMonthRow.closed_at).where(ClosedMonthRow.month == wanted.month)
    closed_at = await connection.scalar(closed)
    if closed_at is not None:
        return Content(connection, wanted, closed_at, None)
    if not wanted.preliminary:
        raise MonthNotClosed(
            f"{wanted.month} is not closed, so it has no invoices yet; what it would have now is"
            " called preliminary and must be asked for as such",
            param="month",
        )
    drafts = await draft_month(connection, wanted.month, seller, wanted.account)
    renamed = [
        replace(draft, number=draft.number.replace("INV", "PRELIMINARY")) for draft in drafts
    ]
    return Content(connection, wanted, first, renamed)


class Content:
    """One month on one connection. `preliminary` marks a month that is not closed."""

    #: Rows of the ledger in memory at a time.
    rows_at_once: ClassVar = 5_000

    def __init__(
        self,
        connection: AsyncConnection,
        wanted: ExportRequest,
        stamp: datetime,
        drafts: Sequence[Invoice] | None,
    ) -> None:
        self.connection = connection
        self.month = wanted.month
        self.account = wanted.account
        self.preliminary = drafts is not None
        self.sqlite = connection.dialect.name == "sqlite"
        #: The instant all dates inside of files are set to.
        self.stamp = stamp
        self._drafts = drafts

    async def invoices(self) -> AsyncIterator[Invoice]:
        """Yield invoices and credit notes with their lines, by number."""
        if self._drafts is not None:
            for draft in self._drafts:
                yield draft
            return
        async for invoice in stream_invoices(self.connection, self.month, self.account):
            yield invoice

    def select_usage(self, *columns: Any) -> Select[Any]:
        """Return a query of the month's usage, in the order in which its jobs were submitted."""
        return select(*columns).where(*self._where()).order_by(EVENTS.c.job_id)

    async def count_usage(self) -> int:
        """Return how many usage events there are."""
        query = select(func.count()).select_from(EVENTS).where(*self._where())
        return await self.connection.scalar(query) or 0

    async def usage(self) -> AsyncGenerator[Sequence[Any], None]:
        """Yield the usage events some at a time, as rows of the columns `USAGE`."""
        query = self.select_usage(*(EVENTS.c[name] for name in USAGE))
        async with aclosing(self.pieces(query)) as pieces:
            async for rows in pieces:
                yield rows

    async def pieces(self, query: Select[Any]) -> AsyncGenerator[Sequence[Any], None]:
        """Yield a query's rows some at a time; the database prepares the next while one is used."""
        options = {"yield_per": self.rows_at_once}
        result = await self.connection.stream(query, execution_options=options)
        upcoming = asyncio.ensure_future(result.fetchmany())
        try:
            while rows := await upcoming:
                upcoming = asyncio.ensure_future(result.fetchmany())
                yield rows
        finally:
            upcoming.cancel()
            await asyncio.gather(upcoming, return_exceptions=True)

    def _where(self) -> list[Any]:
        where: list[Any] = [EVENTS.c.month == self.month]
        if self.account is not None:
            where.append(EVENTS.c.account_id == self.account)
        return where
