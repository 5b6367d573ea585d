"""Finds usage of a month that still waits in the outbox, before the month is closed.

A close would make that usage late, and bill it a month after. Invariant: nothing is changed here.
"""

from datetime import UTC, datetime

from billing.errors import UsageWaits
from billing.invoices.close import check_over
from billing.ledger.ledger import closed_months
from billing.months import check_month
from billing.unix_time import from_unix_ms
from core.db.database import Database
from jobs.store.usage_outbox import Outbox, UsageEntry


async def check_recorded(
    database: Database, outbox: Outbox, month: str, now: datetime | None = None
) -> None:
    """Check that the ledger has all usage of a month that is about to be closed.

    Args:
        database: where the ledger is.
        outbox: what waits for the ledger.
        month: a UTC month, as in 2026-11; one that is closed already passes.
        now: the current instant; tests set it.

    Raises:
        InvalidMonth: this is not a month.
        MonthNotOver: it has not ended yet.
        UsageWaits: usage of this month or of an earlier one is not in the ledger.
        StoreUnavailable, DatabaseUnavailable: the check could not be made.
    """
    check_over(month, now or datetime.now(UTC))
    async with database.read() as connection:
        if month in await closed_months(connection):
            return
    waiting = await count_waiting(outbox, month)
    if waiting:
        entries = "1 entry" if waiting == 1 else f"{waiting:,} entries"
        raise UsageWaits(
            f"the outbox has {entries} of {month} or before, which a close would bill a month"
            " later: see that penstock ledger runs, then close again (--force closes now)"
        )


async def count_waiting(outbox: Outbox, month: str) -> int:
    """Return how many outbox entries would be late after a close of the month.

    An entry that cannot be read counts as well, because its month is unknown.
    """
    _, end = check_month(month)
    count = 0
    async for page in outbox.waiting():
        count += sum(
            not isinstance(entry, UsageEntry) or from_unix_ms(entry.finished) < end
            for entry in page
        )
    return count
