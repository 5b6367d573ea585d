"""A model's margin: GPU time that jobs share is counted once."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from billing.errors import InvalidMonth, InvalidPrice
from billing.pricing.gpu_rates import GpuRate, load_gpu_rates, set_gpu_rate
from billing.reports.margin import Margin, margins
from core.db.database import Database
from jobs.status import Status
from jobs.store.usage_outbox import UsageEntry
from tests.support.months import LONG_AGO, MONTH, NOON, a_past_price, usage_entry, used

SECOND = timedelta(seconds=1)

#: First and last second after noon.
Run = tuple[float, float]


def ran(start: float, end: float, **fields: Any) -> UsageEntry:
    """Return a job that ran between two seconds after noon."""
    return usage_entry(finished=NOON + end * SECOND, run_ms=round((end - start) * 1000), **fields)


async def a_rate(database: Database, since: datetime = LONG_AGO, **fields: Any) -> None:
    values: dict[str, Any] = {
        "model": "m",
        "gpu": "H200",
        "per_hour": Decimal("3.6"),
        "slots": 4,
        "currency": "USD",
        **fields,
    }
    await set_gpu_rate(database, GpuRate(**values, valid_from=since))


async def margin_of(database: Database, **options: Any) -> Margin:
    (found,) = await margins(database, MONTH, **options)
    return found


@pytest.mark.parametrize(
    ("runs", "slots", "gpu_seconds", "most"),
    [
        ([(0, 10)], 4, 10, 1),
        ([(0, 10), (0, 10), (5, 12)], 4, 12, 3),
        ([(0, 10), (20, 25)], 4, 15, 1),
        ([(0, 10), (10, 20)], 1, 20, 1),
        ([(0, 10)] * 4 + [(4, 6)], 4, 12, 5),
        ([(0, 10)] * 3, 1, 30, 3),
        ([(0, 0.5), (0.25, 0.75)], 2, 0.75, 2),
    ],
)
async def test_jobs_that_share_a_gpu_are_counted_once(
    database: Database, runs: Sequence[Run], slots: int, gpu_seconds: float, most: int
) -> None:
    await a_past_price(database)
    await a_rate(database, slots=slots)
    await used(database, *(ran(*run) for run in runs))

    found = await margin_of(database)

    assert (found.gpu_seconds, found.most_jobs) == (Decimal(str(gpu_seconds)), most)
    assert found.job_seconds == sum(Decimal(str(end - start)) for start, end in runs)
    # 3.6 an hour is a thousandth a second.
    assert found.cost == Decimal(str(gpu_seconds)) / 1000


async def test_revenue_cost_and_margin_of_a_month(database: Database) -> None:
    await a_past_price(database)
    await a_rate(database)
    await used(
        database,
        ran(0, 10),
        ran(0, 10, account="other", status=Status.FAILED),
        ran(30, 40),
        usage_entry(finished=datetime(2026, 11, 1, tzinfo=UTC)),
    )

    found = await margin_of(database)

    # The failed job earns nothing, and its GPU time costs.
    assert found.jobs == 3
    assert found.revenue == {"USD": Decimal("0.00064")}
    assert found.cost == Decimal("0.02")
    assert found.margin == Decimal("-0.01936")
    assert found.tokens == 4_500
    assert found.cost_per_million == Decimal("4.444444")
    assert found.mean_jobs == Decimal("1.5")


async def test_a_rate_counts_from_its_first_instant(database: Database) -> None:
    await a_past_price(database)
    await a_rate(database)
    await a_rate(database, NOON + 4 * SECOND, per_hour=Decimal("7.2"), slots=1)
    await used(database, ran(0, 10), ran(0, 10))

    found = await margin_of(database)

    # 4 s on one GPU of four slots, then 6 s on two of one slot each, at twice the rate.
    assert found.gpu_seconds == 4 + 12
    assert found.cost == Decimal("0.004") + Decimal("0.024")


async def test_paid_hours_replace_measured_ones(database: Database) -> None:
    await a_past_price(database)
    await a_rate(database)
    await used(database, ran(0, 10))

    found = await margin_of(database, paid_hours={"m": Decimal(2)})

    assert found.cost == Decimal("7.2")
    assert found.paid_seconds == 7_200
    assert found.gpu_seconds == 10


@pytest.mark.parametrize("since", [None, NOON + 5 * SECOND])
async def test_time_without_a_rate_is_said_and_costs_are_not_guessed(
    database: Database, since: datetime | None
) -> None:
    await a_past_price(database)
    if since is not None:
        await a_rate(database, since)
    await used(database, ran(0, 10))

    found = await margin_of(database)

    assert (found.cost, found.margin, found.cost_per_million) == (None, None, None)
    assert "no GPU rate" in found.notes[0]


async def test_currencies_are_not_mixed(database: Database) -> None:
    await a_past_price(database, currency="EUR")
    await a_rate(database)
    await used(database, ran(0, 10))

    found = await margin_of(database)

    assert found.cost == Decimal("0.01")
    assert found.margin is None
    assert "different currencies" in found.notes[0]


async def test_usage_without_a_price_is_said(database: Database) -> None:
    await a_rate(database)
    await used(database, ran(0, 10))
    assert (await margin_of(database)).notes == ["1 jobs have no price"]


async def test_models_stand_apart_and_a_month_without_jobs_is_empty(database: Database) -> None:
    await used(database, ran(0, 10), ran(0, 10, model="n"))
    assert [margin.model for margin in await margins(database, MONTH)] == ["m", "n"]
    assert await margins(database, "2026-09") == []
    with pytest.raises(InvalidMonth):
        await margins(database, "2026-13")


@pytest.mark.parametrize(
    "wrong",
    [
        {"per_hour": Decimal(-1)},
        {"per_hour": Decimal("NaN")},
        {"per_hour": Decimal("0.0000001")},
        {"slots": 0},
        {"currency": "usd"},
    ],
)
async def test_a_rate_that_cannot_be_is_refused(database: Database, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidPrice):
        await a_rate(database, **wrong)
    async with database.read() as connection:
        assert await load_gpu_rates(connection) == []


async def test_a_rate_is_never_replaced(database: Database) -> None:
    await a_rate(database)
    with pytest.raises(InvalidPrice, match="already"):
        await a_rate(database, per_hour=Decimal(1))
    async with database.read() as connection:
        (kept,) = await load_gpu_rates(connection, "m")
    assert (kept.per_hour, kept.slots, kept.valid_from) == (Decimal("3.6"), 4, LONG_AGO)
