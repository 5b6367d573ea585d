"""Prices: set once, ahead of time, never changed; invalid ones are refused with a reason."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from billing.errors import InvalidPrice
from billing.pricing.price_book import PriceBook
from billing.pricing.prices import LEAD, load_prices
from core.db.database import Database
from core.db.tables.audit import AuditEntryRow
from tests.support.ledger import a_price

SOON = timedelta(hours=1)


async def book_of(database: Database) -> PriceBook:
    async with database.read() as connection:
        return await load_prices(connection)


async def test_a_price_is_read_back_as_it_was_set(database: Database) -> None:
    price = await a_price(database, currency="EUR", input=Decimal("0.123456"), flex=Decimal(0))

    assert (await book_of(database)).versions() == [price]
    assert price.valid_from <= datetime.now(UTC)


async def test_a_change_is_valid_a_minute_later_and_the_old_price_until_then(
    database: Database,
) -> None:
    old = await a_price(database)
    new = await a_price(database, input=Decimal(9))

    book = await book_of(database)
    assert new.valid_from - old.valid_from >= LEAD
    assert book.at("m", new.valid_from) == new
    assert book.at("m", new.valid_from - timedelta(microseconds=1)) == old


async def test_time_that_has_a_price_is_never_priced_again(database: Database) -> None:
    price = await a_price(database)
    for moment in (price.valid_from, datetime.now(UTC), datetime.now(UTC) + LEAD / 2):
        with pytest.raises(InvalidPrice, match="at least 60 s in the future"):
            await a_price(database, valid_from=moment)


async def test_time_without_a_price_may_be_priced_afterwards(database: Database) -> None:
    later = await a_price(database)
    before = later.valid_from - timedelta(days=3)
    first = await a_price(database, valid_from=before, input=Decimal(1))

    book = await book_of(database)
    assert book.at("m", before - timedelta(seconds=1)) is None
    assert book.at("m", later.valid_from - timedelta(seconds=1)) == first
    assert book.at("m", later.valid_from) == later


async def test_of_two_set_for_one_instant_one_is_refused(database: Database) -> None:
    moment = datetime.now(UTC) + SOON
    results = await asyncio.gather(
        *(a_price(database, valid_from=moment, input=Decimal(n)) for n in range(3)),
        return_exceptions=True,
    )

    assert sorted(isinstance(result, InvalidPrice) for result in results) == [False, True, True]
    assert len((await book_of(database)).versions()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"input": Decimal(-1)},
        {"output": Decimal("NaN")},
        {"output": Decimal("Infinity")},
        {"cached_input": Decimal("0.0000001")},
        {"input": Decimal(10) ** 9},
        {"priority": Decimal("1.005")},
        {"flex": Decimal(-1)},
        {"currency": "dollars"},
        {"currency": "usd"},
        {"currency": "XYZ"},
        {"cached_input": Decimal("0.200001")},  # more than input
    ],
)
async def test_wrong_amounts_are_refused_by_name(database: Database, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(InvalidPrice) as refused:
        await a_price(database, **wrong)
    assert refused.value.param == name
    assert (await book_of(database)).versions() == []


async def test_who_set_a_price_is_written_down(database: Database) -> None:
    price = await a_price(database)

    async with database.read() as connection:
        (entry,) = (await connection.execute(select(AuditEntryRow.__table__))).all()
    assert (entry.action, entry.target) == ("price_set", price.id)
    assert entry.details["input"] == "0.2"


async def test_two_first_prices_at_once_never_price_the_same_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    added, may_commit = asyncio.Event(), asyncio.Event()

    async def audit_and_wait(*args: Any, **details: Any) -> None:
        added.set()
        await may_commit.wait()

    monkeypatch.setattr("billing.pricing.prices.audit", audit_and_wait)
    now = datetime.now(UTC)
    early = asyncio.create_task(a_price(database, valid_from=now - timedelta(days=2)))
    await added.wait()
    late = asyncio.create_task(a_price(database, valid_from=now - timedelta(days=1)))
    await asyncio.wait({late}, timeout=0.5)  # as far as it comes
    may_commit.set()
    price = await early
    with pytest.raises(InvalidPrice, match="at least 60 s in the future"):
        await late
    assert (await book_of(database)).versions() == [price]
