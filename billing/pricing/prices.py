"""Price versions in SQL: load all of them, add one.

Invariant: the price of an instant never changes once it was known. A change must start at least
LEAD in the future, so that every process reads it before it becomes valid. Only an instant without
any price may be priced afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.currencies import wrong_currency
from billing.errors import InvalidPrice
from billing.money import plain
from billing.pricing.price_book import PriceBook
from billing.pricing.rating import Price
from core.db.audit import audit
from core.db.database import Database
from core.db.locks import own_prices
from core.db.tables.prices import MULTIPLIER_DECIMALS, PriceRow, PriceVersion
from core.db.tables.types import MICROS
from core.ids import new_id

#: How long before it becomes valid a change of price must be stored.
LEAD = timedelta(seconds=60)

LARGEST = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class NewPrice:
    """A price version to add: currency units per million tokens, and the tiers' multipliers.

    `valid_from` None means as early as the rules allow.
    """

    model: str
    input: Decimal
    cached_input: Decimal
    output: Decimal
    priority: Decimal
    flex: Decimal
    currency: str = "USD"
    valid_from: datetime | None = None


async def load_prices(connection: AsyncConnection) -> PriceBook:
    """Return every price version."""
    version, price = PriceVersion, PriceRow
    query = select(
        version.id,
        version.model,
        version.currency,
        version.valid_from,
        version.priority_multiplier,
        version.flex_multiplier,
        price.kind,
        price.per_million,
    ).join_from(version, price)
    versions: dict[str, tuple[str, str, datetime, Decimal, Decimal]] = {}
    amounts: dict[str, dict[str, Decimal]] = {}
    for row in await connection.execute(query):
        price_id, model, currency, since, priority, flex, kind, per_million = row
        versions[price_id] = (model, currency, since, priority, flex)
        amounts.setdefault(price_id, {})[kind] = per_million
    return PriceBook(
        Price(price_id, model, currency, since, **amounts[price_id], priority=priority, flex=flex)
        for price_id, (model, currency, since, priority, flex) in versions.items()
    )


async def set_price(database: Database, new: NewPrice, actor: str = "") -> Price:
    """Add a version to a model's prices.

    Args:
        database: where it is stored.
        new: amounts in currency units per million tokens, with at most 6 decimals; multipliers with
            at most 2.
        actor: who sets it, for the audit log.

    Returns:
        The version as stored, with its id and the instant it starts at.

    Raises:
        InvalidPrice: an amount is out of range, or the price of a past instant would change.
        DatabaseUnavailable: nothing was stored; try again later.
    """
    _check_amounts(new)
    async with database.write() as connection:
        await own_prices(connection)
        book = await load_prices(connection)
        price = _decide(new, book, datetime.now(UTC))
        try:
            await _add(connection, price)
        except IntegrityError:
            raise InvalidPrice(
                f"{new.model} already has a price that starts at that instant"
            ) from None
        await audit(
            connection,
            *(actor, "price_set", price.id),
            model=price.model,
            currency=price.currency,
            valid_from=price.valid_from.isoformat(),
            input=plain(price.input),
            cached_input=plain(price.cached_input),
            output=plain(price.output),
        )
    return price


def _check_amounts(new: NewPrice) -> None:
    amounts = {"input": new.input, "cached_input": new.cached_input, "output": new.output}
    multipliers = {"priority": new.priority, "flex": new.flex}
    for values, decimals in ((amounts, MICROS), (multipliers, MULTIPLIER_DECIMALS)):
        for name, value in values.items():
            if not value.is_finite() or not 0 <= value <= LARGEST:
                raise InvalidPrice(f"{name}: expected a number from 0 to {LARGEST}", param=name)
            if value != round(value, decimals):
                raise InvalidPrice(f"{name}: expected at most {decimals} decimals", param=name)
    if new.cached_input > new.input:
        raise InvalidPrice(
            f"cached_input: expected at most the price of input, {plain(new.input)}",
            param="cached_input",
        )
    if problem := wrong_currency(new.currency):
        raise InvalidPrice(problem, param="currency")


def _decide(new: NewPrice, book: PriceBook, now: datetime) -> Price:
    """Return the version to add, with the instant it starts at."""
    earliest = now + LEAD
    since = new.valid_from
    if since is None:
        since = now if book.at(new.model, now) is None else earliest
    known: Sequence[Price] = book.versions(new.model)
    if book.at(new.model, since) is not None and since < earliest:
        raise InvalidPrice(
            f"{new.model} already has a price at {since:%Y-%m-%d %H:%M:%S} UTC; a change must start"
            f" at least {LEAD.seconds} s in the future",
            param="valid_from",
        )
    if any(price.valid_from == since for price in known):
        raise InvalidPrice(
            f"{new.model} already has a price that starts at that instant", param="valid_from"
        )
    return Price(
        new_id("price"),
        new.model,
        new.currency,
        since.astimezone(UTC),
        new.input,
        new.cached_input,
        new.output,
        new.priority,
        new.flex,
    )


async def _add(connection: AsyncConnection, price: Price) -> None:
    version = {
        "id": price.id,
        "model": price.model,
        "currency": price.currency,
        "valid_from": price.valid_from,
        "priority_multiplier": price.priority,
        "flex_multiplier": price.flex,
    }
    kinds = ("input", "cached_input", "output")
    rows = [
        {"version_id": price.id, "kind": kind, "per_million": getattr(price, kind)}
        for kind in kinds
    ]
    await connection.execute(insert(PriceVersion), [version])
    await connection.execute(insert(PriceRow), rows)
