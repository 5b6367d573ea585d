"""What an export contains, whatever its format: summary, lines and usage, read piece by piece.

Invariant: memory is constant, and a closed month gives the same rows in the same order each time,
on either database.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Row, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.errors import MonthNotClosed
from billing.invoices.close import draft_month
from billing.invoices.invoices import Invoice, stream_invoices
from billing.months import check_month
from core.db.tables.base import table_of
from core.db.tables.invoices import ClosedMonthRow
from core.db.tables.usage import UsageEventRow
from core.settings.billing import SellerSettings

EVENTS = table_of(UsageEventRow)


#: The columns of `usage.*`, in the order they are written in.
USAGE = (
    *("account_id", "job_id", "key_id", "model", "service_tier", "status", "late", "created_at"),
    *("finished_at", "run_ms", "input_tokens", "cached_tokens", "output_tokens"),
    *("charged_input_tokens", "charged_cached_tokens", "charged_output_tokens"),
    *("price_version_id", "currency", "multiplier"),
    *("input_amount", "cached_amount", "output_amount"),
    "weights",
)


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export: a month, of one account or of all accounts if `account` is None."""

    month: str
    account: str | None = None
    preliminary: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next bytes of a file; `rows` counts the usage events in them, for a progress display."""

    file: str
    data: bytes
    rows: int = 0


async def open_content(
    connection: AsyncConnection, request: ExportRequest, seller: SellerSettings
) -> "Content":
    """Return a month's content: as it was issued or, if preliminary, as it is now.

    Args:
        connection: an open transaction; on PostgreSQL it becomes one with a fixed snapshot.
        request: which month and account.
        seller: the seller's details, for preliminary invoices.

    Raises:
        InvalidMonth: this is not a month.
        MonthNotClosed: there are no invoices yet, and a preliminary export was not requested.
    """
    first, _ = check_month(request.month)
    if connection.dialect.name != "sqlite":
        # A running month goes on while it is read.
        await connection.execution_options(isolation_level="REPEATABLE READ")
    closed = select(ClosedMonthRow.closed_at).where(ClosedMonthRow.month == request.month)
    closed_at = await connection.scalar(closed)
    if closed_at is not None:
        return Content(connection, request, closed_at, None)
    if not request.preliminary:
        raise MonthNotClosed(
            f"{request.month} is not closed, so it has no invoices yet; ask for a preliminary"
            " export to see what it would have now",
            param="month",
        )
    drafts = await draft_month(connection, request.month, seller, request.account)
    renamed = [
        replace(draft, number=draft.number.replace("INV", "PRELIMINARY")) for draft in drafts
    ]
    return Content(connection, request, first, renamed)


class Content:
    """One month's content on one connection; `preliminary` if the month is not closed."""

    #: Rows of the ledger in memory at a time.
    rows_at_once: ClassVar = 5_000

    def __init__(
        self,
        connection: AsyncConnection,
        request: ExportRequest,
        stamp: datetime,
        drafts: Sequence[Invoice] | None,
    ) -> None:
        self.connection = connection
        self.month = request.month
        self.account = request.account
        self.preliminary = drafts is not None
        self.sqlite = connection.dialect.name == "sqlite"
        #: The instant that dates inside files are set to.
        self.stamp = stamp
        self._drafts = drafts

    async def invoices(self) -> AsyncIterator[Invoice]:
        """Yield invoices and credit notes with their lines, by number, and drafts last."""
        # An open month has no invoices, but credit notes of earlier ones may be issued in it.
        async for invoice in stream_invoices(self.connection, self.month, self.account):
            yield invoice
        for draft in self._drafts or ():
            yield draft

    def select_usage(self, *columns: ColumnElement[Any]) -> Select[Any]:
        """Return a query of the month's usage events in the order their jobs were submitted in."""
        return select(*columns).where(*self._where()).order_by(EVENTS.c.job_id)

    async def count_usage(self) -> int:
        """Return the number of usage events."""
        query = select(func.count()).select_from(EVENTS).where(*self._where())
        return await self.connection.scalar(query) or 0

    async def usage(self) -> AsyncGenerator[Sequence[Row[Any]], None]:
        """Yield the usage events in pieces, as rows of the columns USAGE."""
        query = self.select_usage(*(EVENTS.c[name] for name in USAGE))
        async with aclosing(self.pieces(query)) as pieces:
            async for rows in pieces:
                yield rows

    async def pieces(self, query: Select[Any]) -> AsyncGenerator[Sequence[Row[Any]], None]:
        """Yield a query's rows in pieces; fetch the next one while the caller uses this one."""
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

    def _where(self) -> list[ColumnElement[bool]]:
        where: list[ColumnElement[bool]] = [EVENTS.c.month == self.month]
        if self.account is not None:
            where.append(EVENTS.c.account_id == self.account)
        return where
