"""After usage was committed: budgets hear what was spent, and jobs' holds are let go.

Invariant: may be repeated, and be done by several at once, in any order.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from billing.budgets.budgets import load_budgets
from billing.budgets.spending import SpentSum, spending_since
from billing.budgets.warnings import warn
from billing.months import month_of
from core.db.engine import Database
from jobs.store.job_store import JobStore
from jobs.store.usage_outbox import Entry, UsageEntry

#: Budgets ask for the present month; at its turn, clocks may differ about which one that is.
LOOK_BACK = timedelta(days=1)


async def settle(store: JobStore, database: Database, entries: Sequence[Entry]) -> None:
    """Pass on what the accounts of recorded entries have spent, and warn who comes near.

    Raises:
        StoreUnavailable, DatabaseUnavailable: come back later.
    """
    usage = [entry for entry in entries if isinstance(entry, UsageEntry)]
    sums = await _spent(database, {entry.account for entry in usage})
    await store.reservations.settle(_jobs(entries), [one.spent for one in sums])


async def _spent(database: Database, accounts: Collection[str]) -> list[SpentSum]:
    since = month_of(datetime.now(UTC) - LOOK_BACK)
    async with database.read() as connection:
        sums = await spending_since(connection, accounts, since)
        budgets = await load_budgets(connection, accounts)
    if budgets:
        await warn(database, budgets, sums)
    return sums


def _jobs(entries: Sequence[Entry]) -> list[str]:
    """Return the entries' jobs, also those of entries that were set aside."""
    ids = (
        entry.job_id if isinstance(entry, UsageEntry) else entry.fields.get("job", "")
        for entry in entries
    )
    return [job_id for job_id in ids if job_id]
