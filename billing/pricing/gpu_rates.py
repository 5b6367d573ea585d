"""What the GPUs behind each model cost per hour: used for margins, never for invoices.

Invariant: rates are only added, never changed. Unlike a price, a rate may start in the past, since
a provider's rate is often known only afterwards.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.currencies import wrong_currency
from billing.errors import InvalidPrice
from billing.money import plain
from core.db.audit import audit
from core.db.database import Database
from core.db.tables.prices import GpuRateRow
from core.db.tables.types import MICROS

LARGEST = Decimal(1_000_000)
MAX_SLOTS = 100_000


@dataclass(frozen=True, slots=True)
class GpuRate:
    """The cost of one worker of a model, and how many jobs it runs at a time, from `valid_from` on.

    `per_hour` is in units of `currency`.
    """

    model: str
    gpu: str
    per_hour: Decimal
    slots: int
    currency: str
    valid_from: datetime


async def load_gpu_rates(
    connection: AsyncConnection, model: str | None = None
) -> Sequence[GpuRate]:
    """Return the rates of one model, or of all, ordered by model and time."""
    rate = GpuRateRow
    query = select(
        rate.model, rate.gpu, rate.per_hour, rate.slots, rate.currency, rate.valid_from
    ).order_by(rate.model, rate.valid_from)
    if model is not None:
        query = query.where(rate.model == model)
    return [GpuRate(*row) for row in await connection.execute(query)]


async def set_gpu_rate(database: Database, rate: GpuRate, actor: str = "") -> None:
    """Add a rate.

    Args:
        database: where it is stored.
        rate: `per_hour` in units of the currency, with at most 6 decimals.
        actor: who sets it, for the audit log.

    Raises:
        InvalidPrice: a value is out of range, or the model already has a rate from that instant.
        DatabaseUnavailable: nothing was stored; try again later.
    """
    _check(rate)
    async with database.write() as connection:
        try:
            await connection.execute(insert(GpuRateRow), [{**asdict(rate), "created_by": actor}])
        except IntegrityError:
            raise InvalidPrice(
                f"{rate.model} already has a rate that starts at that instant"
            ) from None
        since, amount = rate.valid_from.isoformat(), plain(rate.per_hour)
        details: dict[str, Any] = {
            "gpu": rate.gpu,
            "per_hour": amount,
            "slots": rate.slots,
            "valid_from": since,
        }
        await audit(connection, actor, "gpu_rate_set", rate.model, **details)


def _check(rate: GpuRate) -> None:
    amount = rate.per_hour
    if not amount.is_finite() or not 0 <= amount <= LARGEST:
        raise InvalidPrice(f"per hour: expected a number from 0 to {LARGEST}", param="per_hour")
    if amount != round(amount, MICROS):
        raise InvalidPrice(f"per hour: expected at most {MICROS} decimals", param="per_hour")
    if not 1 <= rate.slots <= MAX_SLOTS:
        raise InvalidPrice(f"slots: expected a number from 1 to {MAX_SLOTS}", param="slots")
    if problem := wrong_currency(rate.currency):
        raise InvalidPrice(problem, param="currency")
