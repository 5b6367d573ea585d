"""Reconciles one month: jobs = delivered tokens = ledger = invoices.

Everything is read in pages or by streaming cursors, so memory does not grow with the month.
Invariant: changes during the run are no findings; entries still in the outbox are only counted.
"""

from sqlalchemy import select

from billing.ledger.consumer import GROUP
from billing.months import check_month
from billing.reconcile.archive import compare_archive
from billing.reconcile.audited import check_audited
from billing.reconcile.findings import FindingKind, Findings
from billing.reconcile.invoices import check_invoices
from billing.reconcile.issued import check_issued
from billing.reconcile.ledger import check_ledger
from billing.reconcile.live import LiveJobs
from billing.reconcile.repair import LedgerRepair
from billing.reconcile.spending import check_spending
from billing.reconcile.triggers import check_guards
from core.db.database import Database
from core.db.tables.usage import SetAsideEntryRow
from jobs.store.job_store import JobStore
from jobs.store.usage_outbox import Outbox


async def reconcile(
    store: JobStore,
    database: Database,
    month: str,
    findings: Findings,
    repair: LedgerRepair | None = None,
) -> None:
    """Compare everything there is about a UTC month.

    Args:
        store: Redis, with live jobs and the outbox.
        database: SQL, with archive, ledger and invoices.
        month: as in 2026-11.
        findings: collects the differences.
        repair: records finished jobs that the ledger lost, where Redis still holds them whole.

    Raises:
        InvalidMonth: this is not a month.
        StoreUnavailable, DatabaseUnavailable: the comparison could not be completed.
    """
    check_month(month)
    outbox = Outbox(store.redis, store.keys, GROUP, "")
    await check_guards(database, findings)
    await LiveJobs(store, outbox, database, findings, repair).compare(month)
    await compare_archive(database, month, findings)
    await check_ledger(database, month, findings)
    await check_spending(database, month, findings)
    await _check_set_aside(database, findings)
    await check_invoices(database, month, findings)
    await check_issued(database, month, findings)
    await check_audited(database, month, findings)


async def _check_set_aside(database: Database, findings: Findings) -> None:
    """Note unresolved entries of any month: their month cannot be known for certain."""
    entry = SetAsideEntryRow
    unresolved = (
        select(entry.entry_id, entry.reason, entry.fields)
        .where(entry.resolved_at.is_(None))
        .order_by(entry.id)
    )
    async with database.read() as connection:
        async for entry_id, reason, fields in await connection.stream(unresolved):
            text = f"{reason} ({fields})"
            findings.add(FindingKind.SET_ASIDE, entry_id, "outbox entry", "a usage event", text)
