"""Deletes an account: its keys, users, jobs, files, batches, webhooks and budgets.

Invariant: the ledger, invoices, adjustments, exports and the audit log never change, and the
account's row stays without personal data, so that its id is never used for another customer. Each
step may be repeated; an interrupted deletion is continued by the next request.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from time import monotonic

import structlog
from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.caller import Caller
from accounts.caller_cache import KNOWN_SECONDS
from accounts.errors import AccountInUse
from core.db.tables.base import now
from core.db.tables.budgets import BudgetRow, BudgetWarningRow
from core.db.tables.files import BatchPartRow, BatchRow, FileRow
from core.db.tables.invoices import AdjustmentRow, ClosedMonthRow
from core.db.tables.usage import ArchivedJobRow, SetAsideEntryRow, UsageEventRow
from core.db.tables.webhooks import (
    WebhookDeliveryRow,
    WebhookEndpointRow,
    WebhookEventRow,
    WebhookSecretRow,
)
from core.errors import JobGone, JobNotFound
from intake.services import Services
from jobs.job import Job
from jobs.store.usage_outbox import Outbox, UsageEntry

log = structlog.get_logger()

#: The longest single request; the next one continues.
SECONDS = 15.0
PAGE = 500

#: Tables with an account that stay as they are, by law or because nothing in them is personal.
KEPT = (
    *("usage_events", "invoices", "adjustments", "spending", "exports", "audit_log", "accounts"),
)
#: Tables whose rows of the account are deleted, or hidden until the file store has deleted them.
REMOVED = (
    *("api_keys", "users", "files", "batches", "archived_jobs", "budgets"),
    *("webhook_endpoints", "webhook_secrets", "webhook_deliveries", "webhook_events"),
)


@dataclass(frozen=True, slots=True)
class AccountUse:
    """What speaks against deleting an account now."""

    open_jobs: int
    open_batches: int
    unbilled: Sequence[str]

    @property
    def reasons(self) -> list[str]:
        """One phrase per reason."""
        found = []
        if self.open_jobs:
            found.append(f"{self.open_jobs} jobs that have not ended")
        if self.open_batches:
            found.append(f"{self.open_batches} batches that have not ended")
        return [*found, *self.unbilled]


@dataclass(slots=True)
class DeletedAccount:
    """How far a deletion has come; unless `complete`, the request must be repeated."""

    account: str
    complete: bool = False
    removed: dict[str, int] = field(default_factory=dict)

    def count(self, kind: str, number: int) -> None:
        """Add to what was removed."""
        self.removed[kind] = self.removed.get(kind, 0) + number


async def delete_account(
    services: Services, caller: Caller, account: str, *, force: bool
) -> DeletedAccount:
    """Delete an account, or continue its deletion.

    Args:
        services: What the process shares.
        caller: The operator.
        account: The account.
        force: Cancel its open jobs and batches, and leave unbilled usage to the next invoice.

    Returns:
        What was removed.

    Raises:
        AccountNotFound: There is none.
        AccountInUse: It is the caller's own, or has open jobs or unbilled usage without `force`.
    """
    row = await services.directory.accounts.get(account)
    if account == caller.account:
        raise AccountInUse(f"account {account!r} is your own", param="account")
    use = await _use(services, account)
    if use.reasons and not force:
        raise _in_use(account, use)
    deletion = DeletedAccount(account)
    if row.suspended_at is None:
        await services.directory.accounts.suspend(caller.id, account, suspended=True)
        # Until every process knows of the suspension, jobs may still be accepted.
        await asyncio.sleep(KNOWN_SECONDS)
    use = await _use(services, account)
    if use.reasons and not force:
        await services.directory.accounts.suspend(caller.id, account, suspended=False)
        raise _in_use(account, use)
    await _remove(services, deletion, monotonic() + SECONDS)
    if deletion.complete:
        keep_billing = bool((await _use(services, account)).unbilled)
        keys, users = await services.directory.accounts.delete(
            caller.id, account, keep_billing=keep_billing, forced=force
        )
        deletion.count("keys", keys)
        deletion.count("users", users)
    log.info("account_deleted", account=account, by=caller.id, complete=deletion.complete)
    return deletion


def _in_use(account: str, use: AccountUse) -> AccountInUse:
    reasons = ", ".join(use.reasons)
    return AccountInUse(f"account {account!r} has {reasons}", param="account")


async def _use(services: Services, account: str) -> AccountUse:
    jobs = await services.store.open_jobs(account)
    async with services.database.read() as connection:
        query = select(func.count()).where(
            BatchRow.account_id == account, BatchRow.ended_at.is_(None)
        )
        batches = await connection.scalar(query) or 0
        unbilled = await _unbilled(connection, account)
    outbox = Outbox(services.store.redis, services.store.keys, "", "")
    async for entries in outbox.waiting():
        if any(isinstance(entry, UsageEntry) and entry.account == account for entry in entries):
            unbilled.append("usage that is not in the ledger yet")
            break
    return AccountUse(jobs, batches, unbilled)


async def _unbilled(connection: AsyncConnection, account: str) -> list[str]:
    """Return the usage and adjustments of months that are not closed, and what was set aside."""
    found = []
    events, adjustments = UsageEventRow, AdjustmentRow
    closed = select(ClosedMonthRow.month)
    costs = (events.input_amount, events.cached_amount, events.output_amount)
    charged = or_(events.price_version_id.is_(None), *(amount != Decimal(0) for amount in costs))
    open_usage = exists().where(events.account_id == account, events.month.not_in(closed), charged)
    if await connection.scalar(select(open_usage)):
        found.append("usage of a month that is not closed")
    open_credit = exists().where(
        adjustments.account_id == account, adjustments.month.not_in(closed)
    )
    if await connection.scalar(select(open_credit)):
        found.append("adjustments of a month that is not closed")
    aside = SetAsideEntryRow
    named = aside.fields.contains(f'"account":"{account}"', autoescape=True)
    if await connection.scalar(select(exists().where(aside.resolved_at.is_(None), named))):
        found.append("usage that was set aside")
    return found


async def _remove(services: Services, deletion: DeletedAccount, until: float) -> None:
    """Remove everything but keys, users and the account; stop when the time is up."""
    async with services.database.write() as connection:
        await _remove_small(connection, deletion)
    if not await _end_jobs(services, deletion, until):
        return
    for step in (_remove_events, _remove_batches, _remove_archive):
        if not await step(services, deletion, until):
            return
    deletion.complete = True


async def _remove_small(connection: AsyncConnection, deletion: DeletedAccount) -> None:
    """Remove what is few, stop the feeder from writing to batches, and hide files."""
    account = deletion.account
    budgets = select(BudgetRow.id).where(BudgetRow.account_id == account)
    await connection.execute(
        delete(BudgetWarningRow).where(BudgetWarningRow.budget_id.in_(budgets))
    )
    for row, kind in (
        (BudgetRow, "budgets"),
        (WebhookEndpointRow, "webhooks"),
        (WebhookSecretRow, "webhook_secrets"),
    ):
        done = await connection.execute(delete(row).where(row.account_id == account))
        deletion.count(kind, done.rowcount)
    # A feeder that has the batch finds its fence stale and drops it.
    await connection.execute(
        update(BatchRow)
        .where(BatchRow.account_id == account, BatchRow.ended_at.is_(None))
        .values(ended_at=now(), fence=BatchRow.fence + 1, status="cancelled")
    )
    hidden = await connection.execute(
        update(FileRow)
        .where(FileRow.account_id == account, FileRow.deleted_at.is_(None))
        .values(deleted_at=now())
    )
    deletion.count("files", hidden.rowcount)


async def _end_jobs(services: Services, deletion: DeletedAccount, until: float) -> bool:
    """Cancel and erase the account's jobs in Redis; False while some still run."""
    account, store = deletion.account, services.store
    running, before = False, None
    while monotonic() < until:
        jobs = await store.list_jobs(account, limit=PAGE, before=before, status=None)
        for job in jobs:
            running |= not await _end_job(services, job)
        deletion.count("jobs", len(jobs))
        if len(jobs) < PAGE:
            return not running
        before = jobs[-1].id
    return False


async def _end_job(services: Services, job: Job) -> bool:
    """Cancel and erase one job; False while its worker still has it."""
    try:
        status = job.status
        if not status.is_terminal and await services.store.cancel(job.id, job.account) == (
            "cancelling"
        ):
            return False
        await services.store.delete(job.id, job.account)
    except (JobGone, JobNotFound):
        return True  # erased by an earlier try
    return True


async def _remove_events(services: Services, deletion: DeletedAccount, until: float) -> bool:
    """Remove webhook events; their deliveries and attempts go with them."""
    deliveries = WebhookDeliveryRow
    ids = select(deliveries.event_id).where(deliveries.account_id == deletion.account).limit(PAGE)
    while monotonic() < until:
        async with services.database.write() as connection:
            page = list(await connection.scalars(ids))
            events = delete(WebhookEventRow).where(WebhookEventRow.id.in_(page))
            done = await connection.execute(events)
        deletion.count("webhook_events", done.rowcount)
        if not page:
            return True
    return False


async def _remove_batches(services: Services, deletion: DeletedAccount, until: float) -> bool:
    """Remove batches with their parts; the objects of parts are removed as orphans."""
    ids = select(BatchRow.id).where(BatchRow.account_id == deletion.account).limit(PAGE)
    while monotonic() < until:
        async with services.database.write() as connection:
            page = list(await connection.scalars(ids))
            await connection.execute(delete(BatchPartRow).where(BatchPartRow.batch_id.in_(page)))
            done = await connection.execute(delete(BatchRow).where(BatchRow.id.in_(page)))
        deletion.count("batches", done.rowcount)
        if not page:
            return True
    return False


async def _remove_archive(services: Services, deletion: DeletedAccount, until: float) -> bool:
    """Remove archived jobs, which are found by the ledger's index of the account."""
    events, last = UsageEventRow, None
    while monotonic() < until:
        query = select(events.finished_at, events.job_id).where(
            events.account_id == deletion.account
        )
        if last is not None:
            query = query.where(
                or_(
                    events.finished_at > last.finished_at,
                    (events.finished_at == last.finished_at) & (events.job_id > last.job_id),
                )
            )
        query = query.order_by(events.finished_at, events.job_id).limit(PAGE)
        async with services.database.write() as connection:
            page = (await connection.execute(query)).all()
            ids = [row.job_id for row in page]
            done = await connection.execute(
                delete(ArchivedJobRow).where(ArchivedJobRow.job_id.in_(ids))
            )
        deletion.count("archived_jobs", done.rowcount)
        if len(page) < PAGE:
            return True
        last = page[-1]
    return False
