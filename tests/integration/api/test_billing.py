"""Invoices and exports over HTTP: an account sees its own, the operator sees all."""

import io
import json
import zipfile
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from accounts.caller import Role
from billing.budgets.budget_changes import set_budget
from billing.budgets.budgets import Budget
from billing.exports.content import Content
from billing.invoices.credits import NewAdjustment, adjust
from billing.months import month_of
from core.db.database import Database
from core.settings.tree import Settings
from tests.integration.api.conftest import RunningApi, connect
from tests.support.keys import make_key
from tests.support.months import MONTH, a_past_price, an_account, close, usage_entry, used
from tests.support.waiting import eventually
from wire.schemas.billing import BalanceObject, BudgetObject, ModelPrice

EXPORTS = "/v1/billing/exports"
INVOICES = "/v1/billing/invoices"


@pytest.fixture
async def numbers(database: Database) -> list[str]:
    """Close a month of both accounts; returns the numbers, acme's first."""
    await an_account(database)
    await a_past_price(database)
    entries = [usage_entry(), usage_entry(account="other")]
    await used(database, *entries)
    return [invoice.number for invoice in (await close(database)).invoices]


async def test_an_account_lists_its_own_and_the_operator_all(
    numbers: list[str], client: httpx2.AsyncClient, operator: httpx2.AsyncClient
) -> None:
    own = (await client.get(INVOICES)).json()
    assert [invoice["number"] for invoice in own["data"]] == numbers[:1]
    assert "lines" not in own["data"][0]
    every = (await operator.get(INVOICES, params={"month": MONTH})).json()
    assert sorted(invoice["number"] for invoice in every["data"]) == numbers
    one = (await operator.get(INVOICES, params={"account": "other"})).json()
    assert [invoice["number"] for invoice in one["data"]] == numbers[1:]
    assert (await operator.get(INVOICES, params={"month": "2026-09"})).json()["data"] == []


async def test_invoices_are_paged_by_cursor(
    numbers: list[str], operator: httpx2.AsyncClient
) -> None:
    first = (await operator.get(INVOICES, params={"limit": 1})).json()
    rest = (await operator.get(INVOICES, params={"limit": 1, "after": first["last_id"]})).json()

    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert sorted([first["data"][0]["number"], rest["data"][0]["number"]]) == numbers
    for cursor in ("nonsense", "job_" + "0" * 32):
        wrong = await operator.get(INVOICES, params={"after": cursor})
        assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid-cursor")


async def test_an_invoice_shows_its_lines_exactly(
    numbers: list[str], client: httpx2.AsyncClient
) -> None:
    listed = (await client.get(INVOICES)).json()["data"][0]
    shown = (await client.get(f"{INVOICES}/{listed['id']}")).json()

    assert shown == (await client.get(f"{INVOICES}/{numbers[0]}")).json()
    assert (shown["total"], shown["due"], shown["currency"]) == ("0.00032", "0.00", "USD")
    assert shown["seller"]["name"] == "Sluice GmbH"
    assert sum(Decimal(line["amount"]) for line in shown["lines"]) == Decimal(shown["total"])


async def test_a_foreign_invoice_looks_unknown(
    numbers: list[str], client: httpx2.AsyncClient
) -> None:
    answers = [
        await client.get(f"{INVOICES}/{number}{tail}")
        for number in (numbers[1], "inv_unknown")
        for tail in ("", "/pdf")
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert {answer.json()["code"] for answer in answers} == {"invoice-not-found"}
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
    for path in (EXPORTS, INVOICES):
        foreign = {"month": MONTH, "format": "csv", "account": "other"}
        refused = await client.get(path, params=foreign)
        assert (refused.status_code, refused.json()["code"]) == (404, "account-not-found")


async def test_a_pdf_is_the_same_bytes_each_time(
    numbers: list[str], client: httpx2.AsyncClient
) -> None:
    both = [await client.get(f"{INVOICES}/{numbers[0]}/pdf") for _ in range(2)]
    assert both[0].headers["content-type"] == "application/pdf"
    assert both[0].content.startswith(b"%PDF")
    assert both[0].content == both[1].content


@pytest.mark.parametrize("as_format", ["csv", "json", "parquet", "pdf"])
async def test_an_export_is_a_zip_of_the_callers_own(
    numbers: list[str], client: httpx2.AsyncClient, operator: httpx2.AsyncClient, as_format: str
) -> None:
    asked = {"month": MONTH, "format": as_format}
    both = [await client.get(EXPORTS, params=asked) for _ in range(2)]
    assert both[0].status_code == 200, both[0].text
    assert both[0].content == both[1].content
    assert f"{MONTH}-acme-{as_format}.zip" in both[0].headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(both[0].content)) as archive:
        names = archive.namelist()
        assert names[-1] == "SHA256SUMS"
        if as_format == "json":
            usage = archive.read("usage.jsonl").splitlines()
            assert [json.loads(line)["account_id"] for line in usage] == ["acme"]
    everybodys = await operator.get(EXPORTS, params=asked)
    with zipfile.ZipFile(io.BytesIO(everybodys.content)) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == len(names) + (as_format == "pdf")


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"month": "2026-09", "format": "csv"}, 409, "month-not-closed"),
        ({"month": "2026-9", "format": "csv"}, 422, "invalid-job"),
        ({"month": MONTH, "format": "xlsx"}, 422, "invalid-job"),
        ({"format": "csv"}, 422, "invalid-job"),
    ],
)
async def test_what_cannot_be_exported_is_a_problem(
    numbers: list[str], client: httpx2.AsyncClient, asked: dict[str, str], status: int, code: str
) -> None:
    refused = await client.get(EXPORTS, params=asked)
    assert (refused.status_code, refused.json()["code"]) == (status, code)


async def test_who_leaves_an_export_makes_room_for_the_next(
    client: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Content, "rows_at_once", 1)
    await a_past_price(database)
    await used(database, *(usage_entry() for _ in range(20_000)))
    await close(database)
    asked = {"month": MONTH, "format": "csv"}
    for _ in range(4):
        async with client.stream("GET", EXPORTS, params=asked) as answer:
            assert answer.status_code == 200

    async def free() -> bool:
        async with client.stream("GET", EXPORTS, params=asked) as answer:
            return answer.status_code == 200

    await eventually(free, 20)


async def test_too_many_exports_at_once_are_told_to_come_back(
    numbers: list[str], client: httpx2.AsyncClient, api: RunningApi
) -> None:
    app: Any = api.server.config.app
    slots = app.state.services.export_limit
    with slots.take("one"), slots.take("one"), slots.take("two"):
        busy = await client.get(EXPORTS, params={"month": MONTH, "format": "csv"})
    assert (busy.status_code, busy.json()["code"]) == (503, "overloaded")
    assert int(busy.headers["retry-after"]) > 0
    again = await client.get(EXPORTS, params={"month": MONTH, "format": "csv"})
    assert again.status_code == 200


async def test_an_account_sees_its_prices_budgets_and_balance_and_no_other_accounts(
    api: RunningApi,
    settings: Settings,
    client: httpx2.AsyncClient,
    operator: httpx2.AsyncClient,
    database: Database,
) -> None:
    month = month_of(datetime.now(UTC))
    await a_past_price(database)
    for account in ("acme", "other"):
        await used(database, usage_entry(account=account, finished=datetime.now(UTC)))
        await set_budget(database, Budget(account, Decimal(5), webhook="https://example.com/x"))
        await adjust(database, NewAdjustment(account, Decimal("-0.25"), "outage", currency="USD"))
    (row,) = (await client.get("/v1/usage")).json()["data"]
    viewer = make_key(settings, "acme", role=Role.VIEWER)
    async with connect(api, viewer) as reader:
        (budget,) = (await reader.get("/v1/billing/budgets")).json()["data"]
        balance = (await reader.get("/v1/billing/balance")).json()
        (price,) = (await reader.get("/v1/billing/prices")).json()["data"]
    spent = Decimal(row["amount"])
    assert spent > 0
    BudgetObject.model_validate(budget)
    assert (budget["account"], budget["month"], budget["key"]) == ("acme", month, None)
    assert (budget["amount"], budget["credited"]) == ("5", "0.25")
    assert Decimal(budget["spent"]) == spent
    assert Decimal(budget["left"]) == Decimal("5.25") - spent
    assert "example.com" not in json.dumps(budget)
    BalanceObject.model_validate(balance)
    (open_month,) = balance["data"]
    assert (open_month["month"], open_month["adjustments"]) == (month, "-0.25")
    assert Decimal(open_month["total"]) == spent - Decimal("0.25")
    ModelPrice.model_validate(price)
    assert (price["model"], price["currency"]) == (row.get("model", price["model"]), "USD")
    assert Decimal(price["per_million"]["input"]) > 0
    for path in ("/v1/billing/budgets", "/v1/billing/balance"):
        refused = await client.get(path, params={"account": "other"})
        assert (refused.status_code, refused.json()["code"]) == (404, "account-not-found")
        assert "other" in (await operator.get(path, params={"account": "other"})).text


async def test_a_closed_month_leaves_the_balance(
    numbers: list[str], client: httpx2.AsyncClient
) -> None:
    assert len(numbers) == 2
    assert (await client.get("/v1/billing/balance")).json()["data"] == []


async def test_a_suspended_account_still_gets_its_invoices_and_nothing_else(
    numbers: list[str], api: RunningApi, settings: Settings, operator: httpx2.AsyncClient
) -> None:
    async with connect(api, make_key(settings, "acme", role=Role.BILLING)) as payer:
        assert (await payer.get("/v1/billing/balance")).status_code == 200
        await operator.patch("/v1/accounts/acme", json={"suspended": True})

        async def refused() -> bool:
            return (await payer.get("/v1/billing/balance")).status_code == 403

        await eventually(refused)
        assert (await payer.get("/v1/me")).json()["code"] == "account-suspended"
        own = (await payer.get(INVOICES)).json()
        assert [invoice["number"] for invoice in own["data"]] == numbers[:1]
        for path in (f"{INVOICES}/{numbers[0]}", f"{INVOICES}/{numbers[0]}/pdf"):
            assert (await payer.get(path)).status_code == 200
        assert (await payer.get(f"{INVOICES}/{numbers[1]}")).status_code == 404
        query = {"month": MONTH, "format": "csv"}
        assert (await payer.get(EXPORTS, params=query)).status_code == 200
