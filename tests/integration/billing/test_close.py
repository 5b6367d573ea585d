"""A month is closed once, whole, in order; its invoices are the sum of its ledger."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from accounts.errors import AccountNotFound
from billing.errors import (
    InvalidAmount,
    InvalidMonth,
    InvoiceNotFound,
    MonthClosed,
    MonthNotOver,
    MonthOutOfOrder,
    UnpricedUsage,
    UsageWaits,
)
from billing.invoices.close import close_month, draft_month
from billing.invoices.credits import NewAdjustment, adjust, credit
from billing.invoices.outbox_check import check_recorded
from billing.ledger.consumer import GROUP
from billing.ledger.ledger import Ledger, closed_months
from billing.money import to_micros
from billing.months import check_month, month_of, next_month
from core.db.database import Database
from core.db.locks import own_ledger
from core.db.tables.base import table_of
from core.db.tables.invoices import AdjustmentRow, InvoiceRow
from core.errors import DatabaseUnavailable
from core.settings.billing import DatabaseSettings
from jobs.fairness import ServiceTier
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.usage_outbox import Outbox
from tests.support.ledger import a_price, consuming, end_jobs, until_consumed
from tests.support.months import (
    AFTER,
    MONTH,
    NOON,
    SELLER,
    a_past_price,
    amounts,
    an_account,
    close,
    events,
    invoice_of,
    usage_entry,
    used,
)

DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


async def test_an_invoice_has_lines_by_model_tier_kind_and_price(database: Database) -> None:
    await an_account(database)
    first = await a_past_price(database)
    second = await a_past_price(database, "n", output=Decimal(3), cached_input=Decimal("0.2"))
    await used(
        database,
        usage_entry(),
        usage_entry(),
        usage_entry(service_tier=ServiceTier.PRIORITY, cached_input_tokens=0),
        usage_entry(model="n", input_tokens=3, cached_input_tokens=0, output_tokens=1),
        usage_entry(status=Status.FAILED),
        usage_entry(account="zeta"),
    )

    closed = await close(database)

    assert [invoice.account_id for invoice in closed.invoices] == ["acme", "zeta"]
    invoice = await invoice_of(database, "INV-2026-10-0001")
    shown = [
        (line.model, line.service_tier, line.token_kind, line.price_version_id, line.jobs,
         line.tokens, line.amount)
        for line in invoice.lines
    ]  # fmt: skip
    assert shown == [
        ("m", "priority", "input", first.id, 1, 1_000, Decimal("0.0003")),
        ("m", "priority", "output", first.id, 1, 500, Decimal("0.000225")),
        ("m", "default", "input", first.id, 2, 1_600, Decimal("0.00032")),
        ("m", "default", "cached_input", first.id, 2, 400, Decimal("0.00002")),
        ("m", "default", "output", first.id, 2, 1_000, Decimal("0.0003")),
        ("n", "default", "input", second.id, 1, 3, Decimal("0.000001")),
        ("n", "default", "output", second.id, 1, 1, Decimal("0.000003")),
    ]
    assert invoice.total == sum(line.amount for line in invoice.lines)
    assert (invoice.billing_name, invoice.tax_id) == ("Acme Ltd", "GB9")
    assert invoice.seller == SELLER
    assert invoice.issued_at == AFTER


async def test_closing_again_finds_the_same_invoices(database: Database) -> None:
    await a_past_price(database)
    await used(database)
    first = await close(database)
    again = await close(database, now=DECEMBER)

    assert not first.already
    assert again.already
    assert again.invoices == first.invoices


async def test_two_who_close_at_once_issue_one_set_of_invoices(database: Database) -> None:
    await a_past_price(database)
    await used(database, *(usage_entry(account=f"a{number}") for number in range(20)))

    both = await asyncio.gather(close(database), close(database))

    assert sorted(closed.already for closed in both) == [False, True]
    assert both[0].invoices == both[1].invoices
    assert len(both[0].invoices) == 20


async def test_a_close_waits_longer_for_another_than_other_transactions_wait(
    database_settings: DatabaseSettings,
) -> None:
    impatient = database_settings.model_copy(update={"timeout_seconds": 0.2})
    database = Database(impatient, "test", bounded=False)
    try:
        async with database.write() as connection:
            await own_ledger(connection)
            waiting = [asyncio.create_task(close(database)) for _ in range(2)]
            for _ in range(2):
                with pytest.raises(DatabaseUnavailable):
                    async with database.write() as other:
                        await own_ledger(other)
            assert not any(task.done() for task in waiting)
        closed = await asyncio.gather(*waiting)
    finally:
        await database.close()
    assert sorted(one.already for one in closed) == [False, True]


async def test_a_month_is_ready_to_close_when_its_usage_is_recorded(
    store: JobStore, database: Database
) -> None:
    month, outbox = month_of(datetime.now(UTC)), Outbox(store.redis, store.keys, GROUP, "")
    first, end = check_month(month)
    later = end + timedelta(days=40)
    await a_price(database)
    await end_jobs(store, 3)
    await store.redis.xadd(store.keys.outbox, {"unreadable": "entry"})

    with pytest.raises(UsageWaits, match="4 entries"):
        await check_recorded(database, outbox, month, later)
    with pytest.raises(UsageWaits, match="4 entries"):  # they would be late in the next one
        await check_recorded(database, outbox, next_month(month), later)
    with pytest.raises(UsageWaits, match="1 entry"):  # the unreadable one: of any month
        await check_recorded(database, outbox, month_of(first - timedelta(days=1)), later)
    with pytest.raises(MonthNotOver):
        await check_recorded(database, outbox, month)

    async with consuming(store, database):
        await until_consumed(store)
    await check_recorded(database, outbox, month, later)
    await close(database, month, later)
    await end_jobs(store, 1)
    await check_recorded(database, outbox, month, later)  # nothing is left to refuse


@pytest.mark.parametrize(
    ("month", "error"),
    [
        ("2026-11", MonthNotOver),
        ("2027-01", MonthNotOver),
        ("2026-13", InvalidMonth),
        ("October", InvalidMonth),
    ],
)
async def test_only_a_month_that_is_over_can_be_closed(
    database: Database, month: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await close(database, month)
    async with database.read() as connection:
        assert await closed_months(connection) == frozenset()


async def test_a_month_ends_with_its_last_microsecond(database: Database) -> None:
    end = datetime(2026, 11, 1, tzinfo=UTC)
    with pytest.raises(MonthNotOver):
        await close_month(
            database, MONTH, SELLER, now=datetime(2026, 10, 31, 23, 59, 59, 999_999, UTC)
        )
    assert not (await close_month(database, MONTH, SELLER, now=end)).already


async def test_a_month_with_nothing_in_it_closes_without_invoices(database: Database) -> None:
    await used(database, usage_entry(status=Status.FAILED))
    assert (await close(database)).invoices == []
    assert (await close(database)).already


async def test_months_are_closed_in_order_and_empty_ones_on_the_way(database: Database) -> None:
    await a_past_price(database)
    await used(database, usage_entry(finished=datetime(2026, 8, 3, tzinfo=UTC)), usage_entry())

    with pytest.raises(MonthOutOfOrder, match="2026-08"):
        await close(database)
    await close(database, "2026-08")
    await close(database)

    async with database.read() as connection:
        assert await closed_months(connection) == {"2026-08", "2026-09", "2026-10"}


async def test_a_month_long_before_the_first_closed_one_is_not_forgotten(
    database: Database,
) -> None:
    await a_past_price(database)
    await close(database)
    for month in (8, 9):
        await used(database, usage_entry(finished=datetime(2026, month, 3, tzinfo=UTC)))
        with pytest.raises(MonthOutOfOrder, match=f"2026-0{month}"):
            await close(database, "2026-11", DECEMBER)
        assert len((await close(database, f"2026-0{month}")).invoices) == 1
    assert not (await close(database, "2026-11", DECEMBER)).already


async def test_usage_without_a_price_keeps_a_month_open(database: Database) -> None:
    await used(database, usage_entry(), usage_entry(model="n", status=Status.FAILED))
    with pytest.raises(UnpricedUsage, match=r"m \(1 jobs\)"):
        await close(database)

    await a_past_price(database)
    await Ledger(database).rate_unpriced()

    assert len((await close(database)).invoices) == 1


async def test_late_usage_is_billed_in_the_first_open_month_and_labelled(
    database: Database,
) -> None:
    await a_past_price(database)
    await used(database)
    issued = await close(database)
    await used(database, usage_entry(finished=NOON), usage_entry(finished=AFTER))

    await close(database, "2026-11", DECEMBER)

    assert (await close(database)).invoices == issued.invoices
    november = await invoice_of(database, "INV-2026-11-0001")
    assert [line.late for line in november.lines] == [False] * 3 + [True] * 3
    assert all("late" in line.description for line in november.lines if line.late)
    assert november.total == to_micros(amounts((await events(database))[1:]))


async def test_adjustments_are_lines_of_their_months_invoice(database: Database) -> None:
    await an_account(database)
    await a_past_price(database)
    await used(database)
    await adjust(database, NewAdjustment("acme", Decimal("-2.5"), "an outage", MONTH))

    await close(database)

    invoice = await invoice_of(database, "INV-2026-10-0001")
    assert (invoice.lines[-1].kind, invoice.lines[-1].amount) == ("adjustment", Decimal("-2.5"))
    assert invoice.lines[-1].description == "an outage"
    assert invoice.total == to_micros(amounts(await events(database))) - Decimal("2.5")
    with pytest.raises(MonthClosed):
        await adjust(database, NewAdjustment("acme", Decimal(1), "too late", MONTH))


@pytest.mark.parametrize("amount", ["0", "0.0000001", "NaN", "Infinity", "1e10"])
async def test_impossible_amounts_are_refused(database: Database, amount: str) -> None:
    await an_account(database)
    with pytest.raises(InvalidAmount):
        await adjust(database, NewAdjustment("acme", Decimal(amount), "why not"))
    with pytest.raises(InvalidAmount):
        await adjust(database, NewAdjustment("acme", Decimal(1), "  "))
    with pytest.raises(AccountNotFound):
        await adjust(database, NewAdjustment("nobody", Decimal(1), "a gift"))


async def test_an_issued_invoice_is_corrected_by_credit_notes_up_to_its_total(
    database: Database,
) -> None:
    await a_past_price(database, input=Decimal(1000))
    await used(database)
    (invoice,) = (await close(database)).invoices

    note = await credit(database, invoice.number, Decimal("0.1"), "a mistake")

    assert (note.kind, note.corrects, note.total) == (
        "credit_note",
        invoice.number,
        Decimal("-0.1"),
    )
    assert note.number == "CN-2026-10-0001-1"
    assert note.issued_at is not None
    for amount in (invoice.total, Decimal(-1)):
        with pytest.raises(InvalidAmount, match="can be credited"):
            await credit(database, invoice.id, amount, "more")
    rest = await credit(database, invoice.id, invoice.total - Decimal("0.1"), "the rest")
    assert rest.number.endswith("-2")
    with pytest.raises(InvoiceNotFound):
        await credit(database, "inv_nope", Decimal(1), "what")
    with pytest.raises(InvalidAmount):
        await credit(database, note.id, Decimal("0.01"), "a note of a note")


async def test_credit_notes_never_pay_out_more_than_the_invoice_asked_for(
    database: Database,
) -> None:
    await a_past_price(database, input=Decimal(0), cached_input=Decimal(0), output=Decimal(30))
    await used(database)
    (invoice,) = (await close(database)).invoices
    assert (invoice.total, invoice.due) == (Decimal("0.015"), Decimal("0.02"))
    notes = [await credit(database, invoice.id, Decimal("0.005"), "a part") for _ in range(2)]
    assert sum(-note.due for note in notes) == invoice.due
    with pytest.raises(InvalidAmount, match=r"would pay out 0\.03 USD, more than the 0\.02"):
        await credit(database, invoice.id, Decimal("0.005"), "the last part")


@pytest.mark.parametrize("month", ["2019-01", "2031-12"])
async def test_an_adjustment_for_a_month_that_only_a_slip_can_mean_is_refused(
    database: Database, month: str
) -> None:
    await an_account(database)
    with pytest.raises(InvalidMonth, match=f"month: expected one from .* not {month}"):
        await adjust(database, NewAdjustment("acme", Decimal(1), "a slip", month))


async def test_an_adjustment_is_in_the_currency_of_the_usage_it_corrects(
    database: Database,
) -> None:
    await an_account(database)
    await a_past_price(database, currency="EUR")
    euros, pounds = usage_entry(), usage_entry(model="n")
    await used(database, euros)

    async def added(**fields: Any) -> str:
        new = replace(NewAdjustment("acme", Decimal(-1), "an outage", MONTH), **fields)
        adjustment_id, _ = await adjust(database, new)
        table = table_of(AdjustmentRow)
        async with database.read() as connection:
            query = select(table.c.currency).where(table.c.id == adjustment_id)
            return str(await connection.scalar(query))

    assert await added() == "EUR"
    assert await added(currency="USD") == "USD"
    await a_past_price(database, "n", currency="GBP")
    await used(database, pounds)
    with pytest.raises(InvalidAmount, match="has usage in EUR, GBP in 2026-10; say which one"):
        await added()
    assert await added(job_id=pounds.job_id) == "GBP"
    with pytest.raises(InvalidAmount, match="the job was charged in GBP, not in EUR"):
        await added(job_id=pounds.job_id, currency="EUR")
    with pytest.raises(InvalidAmount, match="has no usage of a job 'job_nope'"):
        await added(job_id="job_nope")


async def test_each_currency_has_an_invoice_of_its_own(database: Database) -> None:
    await a_past_price(database)
    await a_past_price(database, "n", currency="EUR")
    await used(database, usage_entry(), usage_entry(model="n"))

    invoices = (await close(database)).invoices

    assert [invoice.currency for invoice in invoices] == ["EUR", "USD"]


async def test_a_sum_beyond_64_bits_is_exact(database: Database) -> None:
    await a_past_price(database, output=Decimal(1_000_000))
    await used(database, *(usage_entry(output_tokens=90_000) for _ in range(3)))

    (invoice,) = (await close(database)).invoices

    assert invoice.total == to_micros(amounts(await events(database)))
    assert invoice.total > 270_000


async def test_a_draft_changes_nothing(database: Database) -> None:
    await a_past_price(database)
    await used(database)
    async with database.read() as connection:
        (draft,) = await draft_month(connection, MONTH, SELLER)
    async with database.read() as connection:
        assert await connection.scalar(select(func.count()).select_from(table_of(InvoiceRow))) == 0
    (invoice,) = (await close(database)).invoices
    assert (draft.total, draft.number) == (invoice.total, invoice.number)


async def test_an_issued_invoice_cannot_be_issued_anew(database: Database) -> None:
    await a_past_price(database)
    await used(database)
    await close(database)
    with pytest.raises(IntegrityError):
        async with database.write() as connection:
            await connection.execute(table_of(InvoiceRow).update().values(total=Decimal(1)))
