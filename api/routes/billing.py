"""Invoices and exports: an account sees its own, the operator everybody's."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from accounts.caller import Caller
from accounts.errors import AccountNotFound
from api.cursor import check_list_cursor
from api.deps import AppServices, CurrentCaller
from api.json_responses import json_response
from api.openapi.route_docs import Responses, refusals
from api.routes.jobs import Limit
from api.streaming.download import Download
from billing.exports.content import ExportRequest, open_content
from billing.exports.formats import Format, export_name, print_pdf, writer_of
from billing.exports.zip_stream import zip_export
from billing.invoices.invoices import find_invoice, list_invoices
from core.db.audit import audit
from intake.services import Services
from wire.schemas.billing import InvoiceObject, InvoicePage
from wire.views.billing import invoice_view
from wire.views.page import list_page

router = APIRouter(prefix="/v1/billing", tags=["billing"])

Month = Annotated[str, Query(pattern=r"^\d{4}-(0[1-9]|1[0-2])$", description="a UTC month")]
Account = Annotated[str | None, Query(description="for the operator; else every account's")]
PDF: Responses = {200: {"description": "the invoice", "content": {"application/pdf": {}}}}
ZIP: Responses = {
    200: {"description": "the files and their SHA-256", "content": {"application/zip": {}}}
}


@router.get(
    "/invoices", responses={200: {"model": InvoicePage}, **refusals(400, 401, 404, 422, 503)}
)
async def list_issued(
    caller: CurrentCaller,
    services: AppServices,
    limit: Limit = 20,
    after: Annotated[str | None, Query(description="`last_id` of an earlier page")] = None,
    month: Month | None = None,
    account: Account = None,
) -> Response:
    """List invoices and credit notes, newest first, without their lines."""
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
    "/invoices/{invoice}", responses={200: {"model": InvoiceObject}, **refusals(401, 404, 422, 503)}
)
async def read_invoice(invoice: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Return an invoice, by its id or number, with its lines."""
    async with services.database.read() as connection:
        found = await find_invoice(connection, invoice, _account(caller, None))
    return json_response(invoice_view(found))


@router.get("/invoices/{invoice}/pdf", responses={**PDF, **refusals(401, 404, 422, 503)})
async def print_invoice(invoice: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Return an invoice as a PDF; the same bytes each time."""
    async with services.database.read() as connection:
        found = await find_invoice(connection, invoice, _account(caller, None))
    data = await asyncio.to_thread(print_pdf, found)
    headers = {"Content-Disposition": f'inline; filename="{found.number}.pdf"'}
    return Response(data, headers=headers, media_type="application/pdf")


@router.get("/exports", responses={**ZIP, **refusals(401, 404, 409, 422, 503)})
async def export_month(
    caller: CurrentCaller,
    services: AppServices,
    month: Month,
    as_format: Annotated[Format, Query(alias="format")],
    account: Account = None,
    preliminary: Annotated[bool, Query(description="a month that is not closed")] = False,
) -> Response:
    """Stream a month's bills as a ZIP: summary, lines and usage, or a PDF per invoice."""
    wanted = ExportRequest(month, _account(caller, account), preliminary)
    name = f"{export_name(wanted, as_format, preliminary=preliminary)}.zip"
    seconds = services.settings.stream.send_timeout_seconds
    return await Download.begin(_export(services, caller.id, wanted, as_format), name, seconds)


async def _export(
    services: Services, actor: str, wanted: ExportRequest, as_format: Format
) -> AsyncGenerator[bytes, None]:
    with services.export_limit.take():
        write = await asyncio.to_thread(writer_of, as_format)
        async with services.database.read(long=True) as connection:
            content = await open_content(connection, wanted, services.settings.seller)
            async with services.database.write() as log:
                details = {"account": wanted.account, "format": as_format.value}
                await audit(log, actor, "bills_exported", wanted.month, **details)
            async with aclosing(zip_export(content, write)) as pieces:
                async for piece in pieces:
                    yield piece


def _account(caller: Caller, parsed: str | None) -> str | None:
    """Return whose bills are meant; None is everybody's.

    Raises:
        AccountNotFound: the key does not belong to that account, nor to the operator.
    """
    if caller.admin:
        return parsed
    if parsed not in (None, caller.account):
        raise AccountNotFound(f"no account {parsed!r}", param="account")
    return caller.account
