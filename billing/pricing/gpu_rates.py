"""What the GPUs behind the models cost, for margins; no bill depends on it.

Invariant: rates are only ever added. Unlike a price, one may be valid from the past on, since what
a provider asks is often known afterwards.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.errors import InvalidPrice
from billing.money import plain
from core.db.audit import audit
from core.db.engine import Database
from core.db.tables.prices import GpuRateRow
from core.db.tables.types import MICROS

LARGEST = Decimal(1_000_000)
MAX_SLOTS = 100_000


@dataclass(frozen=True, slots=True)
class GpuRate:
    """What one worker of a model costs per hour, and how many jobs it runs at once."""

    model: str
    gpu: str
    per_hour: Decimal
    slots: int
    currency: str
    valid_from: datetime


async def load_gpu_rates(
    connection: AsyncConnection, model: str | None = None
) -> Sequence[GpuRate]:
    """Return the rates of one model or of all, by model and time."""
    rate = GpuRateRow
    query = select(
        rate.model, rate.gpu, rate.per_hour, rate.slots, rate.currency, rate.valid_from
    ).order_by(rate.model, rate.valid_from)
    if model is not None:
        query = query.where(rate.model == model)
    return [GpuRate(*row) for row in await connection.execute(query)]


async def set_gpu_rate(database: Database, rate: GpuRate, actor: str = "") -> None:
    """Add a rate.

    Raises:
        InvalidPrice: a value is wrong, or the model has a rate from that instant already.
        DatabaseUnavailable: come back later.
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
    if not (len(rate.currency) == 3 and rate.currency.isascii() and rate.currency.isupper()):
        raise InvalidPrice("currency: expected three capital letters", param="currency")
