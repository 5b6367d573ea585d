"""Reconciliation of a closed month: each invoice amount is a sum of the ledger; none is missing."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from billing.invoices.credits import NewAdjustment, adjust, credit
from billing.reconcile.audited import check_audited
from billing.reconcile.findings import FindingKind, Findings
from billing.reconcile.issued import check_issued
from core.db.database import Database
from jobs.fairness import ServiceTier
from jobs.status import Status
from jobs.store.job_store import JobStore
from tests.support import reconciliation
from tests.support.drift import plant
from tests.support.months import MONTH, NOON, a_past_price, an_account, close, used
from tests.support.months import usage_entry as entry

LAST = datetime(2026, 10, 31, 23, 59, 59, 999_000, UTC)


async def look(store: JobStore, database: Database, month: str = MONTH) -> Findings:
    return await reconciliation.look(store, database, month)


def about(findings: Findings, kind: FindingKind) -> list[tuple[str, str, str]]:
    """Return what, expected and found of the differences; fail if there are other kinds."""
    listed = reconciliation.only(findings, kind)
    return [(one.what, one.expected, one.found) for one in listed]


@pytest.fixture
async def closed(database: Database) -> Database:
    """October with three accounts, two tiers, two prices, a failure and an adjustment; closed."""
    await an_account(database)
    await a_past_price(database)
    await a_past_price(database, "n", output=Decimal("0.333333"))
    await used(
        database,
        *(entry(finished=NOON + timedelta(hours=hour)) for hour in range(5)),
        entry(model="n", service_tier=ServiceTier.PRIORITY),
        entry(account="other", cached_input_tokens=0),
        entry(account="third", status=Status.FAILED),
        entry(finished=LAST),
    )
    await adjust(database, NewAdjustment("acme", Decimal("-0.00001"), "an outage", MONTH))
    await close(database)
    return database


async def test_a_month_that_was_closed_in_order_is_clean(store: JobStore, closed: Database) -> None:
    findings = await look(store, closed)

    assert findings.clean, findings.listed
    assert findings.compared["ledger rows"] == 9
    assert findings.compared["invoices"] == 2
    assert findings.compared["invoice lines"] == 9


async def test_a_month_that_is_closed_meanwhile_gives_no_false_alarm(
    store: JobStore, database: Database
) -> None:
    await a_past_price(database)
    await used(database, *(entry(account=f"a{number % 50}") for number in range(500)))

    async def close_in_a_moment() -> None:
        findings = await look(store, database)
        assert findings.compared["invoices"] == 0
        await close(database)

    closing = asyncio.create_task(close_in_a_moment())
    while not closing.done():
        findings = await look(store, database)
        assert findings.clean, findings.listed
    await closing
    findings = await look(store, database)
    assert findings.clean, findings.listed
    assert findings.compared["invoices"] == 50


async def test_late_usage_and_credit_notes_leave_both_months_clean(
    store: JobStore, closed: Database
) -> None:
    await used(closed)
    await credit(closed, "INV-2026-10-0001", Decimal("0.00001"), "too slow")

    for month in (MONTH, "2026-11"):
        findings = await look(store, closed, month)
        assert findings.clean, findings.listed


async def test_an_invoice_line_off_by_the_smallest_amount_is_found_and_so_is_its_total(
    store: JobStore, closed: Database
) -> None:
    step = "1" if closed.is_sqlite else "0.000001"
    await plant(
        closed,
        f"UPDATE invoice_lines SET amount = amount + {step}"
        " WHERE model = 'n' AND token_kind = 'output'",
    )

    findings = await look(store, closed)

    assert findings.counts == {FindingKind.INVOICE_LINE: 1, FindingKind.INVOICE: 1}
    total, line = sorted(findings.listed, key=lambda one: one.kind)
    assert (line.subject, line.what) == ("INV-2026-10-0001", "n priority output amount")
    assert Decimal(line.found) - Decimal(line.expected) == Decimal("0.000001")
    assert (total.subject, total.what) == ("INV-2026-10-0001", "total")


async def test_a_total_that_is_not_the_sum_of_its_lines_is_found(
    store: JobStore, closed: Database
) -> None:
    await plant(closed, "UPDATE invoices SET total = total * 2 WHERE account_id = 'other'")

    ((what, _, _),) = about(await look(store, closed), FindingKind.INVOICE)

    assert what == "total"


async def test_a_ledger_row_added_to_a_closed_month_is_found(
    store: JobStore, closed: Database
) -> None:
    await used(closed)
    change = "UPDATE usage_events SET month = :month, late = false WHERE late"
    assert await plant(closed, change, month=MONTH) == 1

    found = about(await look(store, closed), FindingKind.INVOICE_LINE)

    assert ("m default output tokens", "3500", "3000") in found
    assert ("m default input jobs", "7", "6") in found


async def test_usage_that_no_line_bills_is_found(store: JobStore, closed: Database) -> None:
    change = "UPDATE usage_events SET account_id = 'nobody' WHERE account_id = 'other'"
    await plant(closed, change)

    findings = await look(store, closed)

    lines = [one for one in findings.listed if one.kind is FindingKind.INVOICE_LINE]
    found = [(one.what, one.expected, one.found) for one in lines]
    assert ("m default output", "0.00015", "nothing") in found
    assert ("m default output", "nothing", "0.00015") in found
    (invoice,) = [one for one in findings.listed if one.kind is FindingKind.INVOICE]
    assert (invoice.what, invoice.found) == ("account", "other")
    assert {one.subject for one in lines} == {"nobody USD", "INV-2026-10-0002"}


async def test_usage_billed_twice_is_found(store: JobStore, closed: Database) -> None:
    names = (
        "invoice_id, kind, description, model, service_tier, token_kind, price_version_id,"
        " multiplier, per_million, late, jobs, tokens, amount"
    )
    await plant(
        closed,
        f"INSERT INTO invoice_lines (position, {names}) SELECT 99, {names} FROM invoice_lines"
        " WHERE model = 'n' AND token_kind = 'input'",
    )

    findings = await look(store, closed)

    assert findings.counts == {FindingKind.INVOICE_LINE: 1, FindingKind.INVOICE: 1}
    assert any(one.expected == "one line" for one in findings.listed)


async def test_a_changed_or_missing_adjustment_is_found(store: JobStore, closed: Database) -> None:
    await plant(closed, "UPDATE adjustments SET amount = amount * 2")

    findings = await look(store, closed)
    assert findings.counts == {FindingKind.INVOICE_LINE: 1, FindingKind.AUDIT: 1}
    audited, line = sorted(findings.listed, key=lambda one: one.kind)
    assert line.what.startswith("adjustment adj_")
    assert (line.expected, line.found) == ("-0.00002", "-0.00001")
    assert (audited.what, audited.expected, audited.found) == (
        "adjustment amount",
        "-0.00001",
        "-0.00002",
    )


async def test_a_month_whose_mark_is_gone_is_found(store: JobStore, closed: Database) -> None:
    await plant(closed, "DELETE FROM closed_months")

    found = about(await look(store, closed), FindingKind.INVOICE)

    assert found == [("month", "closed", "open")] * 2


#: A change behind the guards' back, and what the reconciliation says of it.
PLANTS = [
    ("UPDATE invoice_lines SET per_million = 9 WHERE model = 'n'", "invoice-line", "per_million"),
    ("UPDATE invoice_lines SET description = 'x' WHERE model = 'n'", "invoice-line", "description"),
    ("UPDATE invoices SET number = 'INV-2026-10-0003' WHERE account_id = 'other'",
     "invoice", "number"),
    ("UPDATE invoices SET seller = replace(seller, 'Sluice', 'Thief') WHERE account_id = 'other'",
     "invoice", "seller"),
    ("UPDATE invoices SET issued_at = '2026-11-09 00:00:00+00:00' WHERE account_id = 'other'",
     "invoice", "issued_at"),
    ("UPDATE invoices SET total = 3 * total WHERE kind = 'credit_note'", "audit", "amount"),
    ("DELETE FROM invoices WHERE kind = 'credit_note'", "audit", "credit note"),
    (("UPDATE invoices SET corrects_id = (SELECT id FROM invoices WHERE account_id = 'other')"
     " WHERE kind = 'credit_note'"), "audit", "credits"),
    ("UPDATE adjustments SET amount = 3 * amount", "audit", "amount"),
    ("DELETE FROM adjustments", "audit", "adjustment"),
    ("DELETE FROM audit_log WHERE action = 'adjusted'", "audit", "adjustment"),
    ("DELETE FROM audit_log WHERE action = 'credited'", "audit", "credit note"),
    ("DELETE FROM audit_log WHERE action = 'month_closed'", "audit", "close"),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "kind", "what"), PLANTS)
async def test_what_was_changed_in_documents_and_their_audit_is_found(
    closed: Database, statement: str, kind: str, what: str
) -> None:
    await credit(closed, "INV-2026-10-0001", Decimal("0.00001"), "too slow")
    findings = Findings(listed_per_kind=20)
    await check_issued(closed, MONTH, findings)
    await check_audited(closed, MONTH, findings)
    assert findings.clean, findings.listed
    if statement.startswith("DELETE FROM invoices"):
        await plant(closed, "DELETE FROM invoice_lines WHERE description = 'too slow'")
    if statement == "DELETE FROM adjustments":
        await plant(closed, "UPDATE invoice_lines SET adjustment_id = NULL")

    assert await plant(closed, statement)

    await check_issued(closed, MONTH, findings)
    await check_audited(closed, MONTH, findings)
    assert any(one.kind == kind and what in one.what for one in findings.listed), findings.listed
    assert {one.kind.value for one in findings.listed} == {kind}
