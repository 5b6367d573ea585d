"""After usage was committed: publish the amounts spent, and release the jobs' reservations.

Invariant: it may be repeated and run in several processes at a time, in any order.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from billing.budgets.budgets import load_budgets
from billing.budgets.spending import SpentSum, spending_since
from billing.budgets.warnings import record_warnings
from billing.months import month_of
from core.db.database import Database
from jobs.store.job_store import JobStore
from jobs.store.usage_outbox import Entry, UsageEntry

#: Budgets look at the current month. Around its first day the clocks of processes may disagree.
LOOK_BACK = timedelta(days=1)


async def settle_budgets(store: JobStore, database: Database, entries: Sequence[Entry]) -> None:
    """Publish what the entries' accounts have spent, record warnings, release budget reservations.

    Raises:
        StoreUnavailable, DatabaseUnavailable: try again later.
    """
    usage = [entry for entry in entries if isinstance(entry, UsageEntry)]
    sums = await _spent(database, {entry.account for entry in usage})
    await store.reservations.settle(_job_ids(entries), [spent.spent for spent in sums])


async def _spent(database: Database, accounts: Collection[str]) -> list[SpentSum]:
    since = month_of(datetime.now(UTC) - LOOK_BACK)
    async with database.read() as connection:
        sums = await spending_since(connection, accounts, since)
        budgets = await load_budgets(connection, accounts)
    if budgets:
        await record_warnings(database, budgets, sums)
    return sums


def _job_ids(entries: Sequence[Entry]) -> list[str]:
    """Return the entries' job ids, including those of entries that were set aside."""
    ids = (
        entry.job_id if isinstance(entry, UsageEntry) else entry.fields.get("job", "")
        for entry in entries
    )
    return [job_id for job_id in ids if job_id]
