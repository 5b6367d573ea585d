"""What adjustments gave back in a month: it may be spent again, on top of a budget's amount.

Invariant: only credits count, each once for its account, and for the key of the job that it names.
"""

from decimal import Decimal

from sqlalchemy import and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.money import ZERO, total
from core.db.tables.accounts import ApiKeyRow
from core.db.tables.invoices import AdjustmentRow
from core.db.tables.usage import UsageEventRow
from jobs.store.budget_reservations import ACCOUNT, BudgetMonth


async def credited_in(
    connection: AsyncConnection, month: str
) -> dict[tuple[BudgetMonth, str], Decimal]:
    """Return the credits of a month by account, month and currency, and by scope.

    Args:
        connection: the database.
        month: a UTC month, such as `2026-10`.
    """
    row, job, key = AdjustmentRow, UsageEventRow, ApiKeyRow
    of_job = and_(job.job_id == row.job_id, job.account_id == row.account_id)
    query = (
        select(row.account_id, row.currency, row.amount, func.coalesce(key.origin_id, job.key_id))
        .outerjoin_from(row, job, of_job)
        .outerjoin(key, key.id == job.key_id)
        .where(row.month == month, row.amount < ZERO)
    )
    credited: dict[tuple[BudgetMonth, str], Decimal] = {}
    for account, currency, amount, key_id in await connection.execute(query):
        bucket = BudgetMonth(account, month, currency)
        for scope in (key_id, ACCOUNT) if key_id else (ACCOUNT,):
            credited[bucket, scope] = total(credited.get((bucket, scope), ZERO), -amount)
    return credited
