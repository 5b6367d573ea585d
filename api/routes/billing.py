"""Routes for invoices, exports, prices, budgets and the balance: an account's own.

The operator sees those of all accounts.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from accounts.caller import Caller
from accounts.errors import AccountNotFound
from api.http.cursor import check_list_cursor
from api.http.deps import AppServices, CurrentCaller
from api.http.json_responses import json_response
from api.openapi.route_docs import Responses, error_responses
from api.routes.jobs import Limit
from api.streaming.download import Download
from billing.budgets.budget_status import budget_statuses
from billing.exports.content import ExportRequest, open_content
from billing.exports.formats import Format, export_name, render_pdf, writer_of
from billing.exports.zip_stream import zip_export
from billing.invoices.invoices import find_invoice, list_invoices
from billing.months import month_of
from billing.pricing.prices import load_prices
from billing.reports.balance import open_balances
from core.db.audit import audit
from core.ids import can_exist
from intake.services import Services
from wire.schemas.billing import BalanceObject, BudgetList, InvoiceObject, InvoicePage, PriceList
from wire.views.billing import balance_view, budget_view, invoice_view, price_view
from wire.views.page import list_page

router = APIRouter(prefix="/v1/billing", tags=["billing"])

Month = Annotated[
    str, Query(pattern=r"^\d{4}-(0[1-9]|1[0-2])$", description="UTC month, as 2026-11")
]
Account = Annotated[str | None, Query(description="operator only; without it, all accounts")]
OneAccount = Annotated[str | None, Query(description="operator only; by default the caller's own")]
PDF: Responses = {200: {"description": "the invoice", "content": {"application/pdf": {}}}}
ZIP: Responses = {
    200: {"description": "the files, with their SHA-256 hashes", "content": {"application/zip": {}}}
}


@router.get(
    "/invoices", responses={200: {"model": InvoicePage}, **error_responses(400, 401, 404, 422, 503)}
)
async def list_issued(
    caller: CurrentCaller,
    services: AppServices,
    limit: Limit = 20,
    after: Annotated[str | None, Query(description="`last_id` of the previous page")] = None,
    month: Month | None = None,
    account: Account = None,
) -> Response:
    """List invoices and credit notes, newest first, without lines."""
    async with services.database.read() as connection:
        found = await list_invoices(
            connection,
            account=_account(caller, account),
            month=month,
            before=None if after is None else check_list_cursor(after, "inv"),
            limit=limit + 1,
        )
    return json_response(list_page(found, limit, partial(invoice_view, lines=False)))


@router.get(
    "/invoices/{invoice}",
    responses={200: {"model": InvoiceObject}, **error_responses(401, 404, 422, 503)},
)
async def read_invoice(invoice: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Return an invoice by id or number, with its lines."""
    async with services.database.read() as connection:
        found = await find_invoice(connection, invoice, _account(caller, None))
    return json_response(invoice_view(found))


@router.get("/invoices/{invoice}/pdf", responses={**PDF, **error_responses(401, 404, 422, 503)})
async def print_invoice(invoice: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Return an invoice as PDF. Repeating the request returns the same bytes."""
    async with services.database.read() as connection:
        found = await find_invoice(connection, invoice, _account(caller, None))
    data = await asyncio.to_thread(render_pdf, found)
    headers = {"Content-Disposition": f'inline; filename="{found.number}.pdf"'}
    return Response(data, headers=headers, media_type="application/pdf")


@router.get("/exports", responses={**ZIP, **error_responses(401, 404, 409, 422, 503)})
async def export_month(
    caller: CurrentCaller,
    services: AppServices,
    month: Month,
    as_format: Annotated[Format, Query(alias="format")],
    account: Account = None,
    preliminary: Annotated[bool, Query(description="allow a month that is not closed yet")] = False,
) -> Response:
    """Stream a month's bills as ZIP: summary, lines and usage, or one PDF per invoice."""
    export = ExportRequest(month, _account(caller, account), preliminary)
    name = f"{export_name(export, as_format, preliminary=preliminary)}.zip"
    seconds = services.settings.stream.send_timeout_seconds
    return await Download.begin(_export(services, caller, export, as_format), name, seconds)


@router.get("/prices", responses={200: {"model": PriceList}, **error_responses(401, 403, 422, 503)})
async def list_prices(caller: CurrentCaller, services: AppServices) -> Response:
    """Return the prices that are valid now, and announced ones, of the models that may be used."""
    async with services.database.read() as connection:
        prices = await load_prices(connection)
    now = datetime.now(UTC)
    shown = [
        price_view(price)
        for price in prices.versions()
        if (caller.models is None or price.model in caller.models)
        and (price.valid_from > now or price == prices.at(price.model, now))
    ]
    return json_response({"object": "list", "data": shown})


@router.get(
    "/budgets", responses={200: {"model": BudgetList}, **error_responses(401, 403, 404, 422, 503)}
)
async def list_budgets(
    caller: CurrentCaller, services: AppServices, account: OneAccount = None
) -> Response:
    """Return the account's budgets with what was spent of them in this month."""
    wanted = _one_account(caller, account)
    async with services.database.read() as connection:
        found = await budget_statuses(connection, month_of(datetime.now(UTC)), [wanted])
    return json_response({"object": "list", "data": [budget_view(one) for one in found]})


@router.get(
    "/balance",
    responses={200: {"model": BalanceObject}, **error_responses(401, 403, 404, 422, 503)},
)
async def read_balance(
    caller: CurrentCaller, services: AppServices, account: OneAccount = None
) -> Response:
    """Return what the account owes that is on no invoice yet, by month and currency."""
    wanted = _one_account(caller, account)
    async with services.database.read() as connection:
        found = await open_balances(connection, wanted)
    return json_response(balance_view(wanted, found))


async def _export(
    services: Services, caller: Caller, export: ExportRequest, as_format: Format
) -> AsyncGenerator[bytes, None]:
    with services.export_limit.take(caller.account):
        write = await asyncio.to_thread(writer_of, as_format)
        async with services.database.read(long=True) as connection:
            content = await open_content(connection, export, services.settings.seller)
            async with services.database.write() as log:
                details = {"account": export.account, "format": as_format.value}
                await audit(log, caller.id, "bills_exported", export.month, **details)
            async with aclosing(zip_export(content, write)) as pieces:
                async for piece in pieces:
                    yield piece


def _one_account(caller: Caller, parsed: str | None) -> str:
    """Return the account whose budgets or balance to show; by default the caller's.

    Raises:
        AccountNotFound: As `_account`.
    """
    return _account(caller, parsed or caller.account) or caller.account


def _account(caller: Caller, parsed: str | None) -> str | None:
    """Return the account whose bills to show; None means all accounts.

    Raises:
        AccountNotFound: The account is not the caller's, and the caller is not the operator.
    """
    if caller.operator and (parsed is None or can_exist(parsed)):
        return parsed
    if parsed not in (None, caller.account):
        raise AccountNotFound(f"no account {parsed!r}", param="account")
    return caller.account
