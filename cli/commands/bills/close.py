"""`penstock bills close`, `adjust`, `credit`, `list`: closes months and corrects invoices."""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from billing.invoices.close import ClosedMonth, close_month
from billing.invoices.credits import NewAdjustment
from billing.invoices.credits import adjust as add_adjustment
from billing.invoices.credits import credit as credit_invoice
from billing.invoices.invoices import Invoice, list_invoices
from billing.invoices.outbox_check import check_recorded
from billing.ledger.consumer import GROUP
from billing.money import plain
from cli.connect.actor import actor
from cli.connect.database import with_database
from cli.connect.settings import load_local_settings, load_settings
from cli.terminal.failures import Unreachable, UsageError
from cli.terminal.options import Json
from cli.terminal.output import err, print_json, print_table
from core.db.database import Database
from core.errors import StoreUnavailable
from jobs.store.store_factory import open_store
from jobs.store.usage_outbox import Outbox

Month = Annotated[str, typer.Argument(help="A UTC month, such as 2026-10.")]
Amount = Annotated[str, typer.Option(help="In the account's currency, such as 12.50.")]
Reason = Annotated[str, typer.Option(help="The text on the invoice.")]
LISTED = 1_000


def close(
    month: Month,
    force: Annotated[
        bool, typer.Option("--force", help="Do not check whether usage of the month still waits.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Issue a month's invoices and close it to further usage; a repeat changes nothing."""
    seller = load_settings().seller

    async def run(database: Database) -> ClosedMonth:
        if not force:
            await _check_recorded(database, month)
        return await close_month(database, month, seller, actor())

    closed = with_database(run)
    if closed.already:
        err.print(f"{month} was already closed; nothing was changed.")
    if not seller.name and not closed.already and closed.invoices:
        err.print("The invoices have no seller: set PENSTOCK_SELLER__NAME before the next month.")
    _print_invoices(closed.invoices, as_json, nothing=f"{month} is closed: it had no usage.")


async def _check_recorded(database: Database, month: str) -> None:
    """Refuse while the month's usage waits in Redis, or when Redis cannot be asked."""
    store = open_store(load_local_settings())
    try:
        await check_recorded(database, Outbox(store.redis, store.keys, GROUP, ""), month)
    except StoreUnavailable as error:
        advice = "PENSTOCK_REDIS__URL names it; --force closes without asking it for waiting usage"
        raise Unreachable("Redis does not answer", error.message, advice) from None
    finally:
        await store.close()


def list_issued(
    month: Annotated[str | None, typer.Option(help="A UTC month, such as 2026-10.")] = None,
    account: str | None = None,
    as_json: Json = False,
) -> None:
    """List invoices and credit notes, newest first."""

    async def read(database: Database) -> list[Invoice]:
        async with database.read() as connection:
            return await list_invoices(connection, account=account, month=month, limit=LISTED + 1)

    found = with_database(read)
    _print_invoices(found[:LISTED], as_json, nothing="No invoices.")
    if len(found) > LISTED:
        err.print(f"Only the newest {LISTED:,} are listed: give --month or --account for others.")


def adjust(
    account: Annotated[str, typer.Argument(help="The account whose invoice it is added to.")],
    amount: Annotated[str, typer.Option(help="Negative: a credit, such as -12.50.")],
    reason: Reason,
    month: Annotated[str | None, typer.Option(help="An open month; default: this month.")] = None,
    job: Annotated[str | None, typer.Option(help="The job that it is for.")] = None,
    currency: Annotated[
        str | None,
        typer.Option(help="An ISO 4217 code; default: that of the job, or of the month's usage."),
    ] = None,
) -> None:
    """Add a credit or a charge to an open month."""
    new = NewAdjustment(account, _amount(amount), reason, month, job, currency)
    found, to_month = with_database(lambda database: add_adjustment(database, new, actor()))
    typer.echo(found)
    err.print(f"It will be on the invoice of {to_month}.")


def credit(
    invoice: Annotated[str, typer.Argument(help="The invoice's number or id.")],
    amount: Amount,
    reason: Reason,
) -> None:
    """Issue a credit note for an invoice; the invoice does not change."""
    value = _amount(amount)
    note = with_database(lambda database: credit_invoice(database, invoice, value, reason, actor()))
    typer.echo(note.number)
    err.print(f"{note.currency} {plain(-note.total)} of {note.corrects} were credited.")


def _print_invoices(invoices: Sequence[Invoice], as_json: bool, *, nothing: str) -> None:
    rows = [_shown(invoice) for invoice in invoices]
    if as_json:
        print_json(rows)
    else:
        columns = ("number", "account", "month", "currency", "total", "due", "corrects")
        cells = ([str(row[name] or "") for name in columns] for row in rows)
        print_table(columns, cells, nothing=nothing)


def _shown(invoice: Invoice) -> dict[str, Any]:
    return {
        "number": invoice.number,
        "id": invoice.id,
        "account": invoice.account_id,
        "month": invoice.month,
        "currency": invoice.currency,
        "total": plain(invoice.total),
        "due": f"{invoice.due:f}",
        "corrects": invoice.corrects,
    }


def _amount(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise UsageError(f"--amount: {text!r} is not a number") from None
