"""`penstock accounts`: creates, lists, limits, suspends and deletes accounts."""

from collections import Counter
from typing import Annotated, Any
from urllib.parse import quote

import typer

from accounts.accounts import ID
from accounts.caller import Limits
from accounts.directory_factory import Directory
from cli.connect.accounts import with_directory
from cli.connect.actor import actor
from cli.connect.api_client import Client
from cli.terminal.failures import UsageError
from cli.terminal.options import Json, Key, Url
from cli.terminal.output import ago, err, print_json, print_table
from core.db.database import Database
from wire.views.accounts import account_view

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Create, list, limit, suspend and delete accounts.",
)

MOST = 10_000
Account = Annotated[str, typer.Argument(help="The account's id.")]
Number = Annotated[int | None, typer.Option(min=0, help="0: no limit.")]


@app.command()
def create(
    account: Annotated[str, typer.Argument(help="The new account's id: letters, digits, _ . -")],
    name: Annotated[str, typer.Option(help="The customer's name.")] = "",
    currency: Annotated[str, typer.Option(help="Its currency, as an ISO 4217 code.")] = "USD",
) -> None:
    """Create an account and print its id."""
    if ID.fullmatch(account) is None:
        raise UsageError("ACCOUNT: use only letters, digits, _ . -")
    values = {"name": name, "currency": currency}
    with_directory(lambda directory, _: directory.accounts.create(actor(), account, values))
    typer.echo(account)


@app.command("list")
def list_accounts(as_json: Json = False) -> None:
    """List all accounts."""
    rows = with_directory(lambda directory, _: directory.accounts.list(limit=MOST))
    if as_json:
        print_json([account_view(row) for row in rows])
        return
    print_table(
        ("account", "name", "requests/min", "tokens/min", "running", "queued", "created", ""),
        (
            (
                *(row.id, row.name),
                *(str(getattr(row, name) or "-") for name in Limits.model_fields),
                f"{ago(row.created_at.timestamp())} ago",
                "deleted" if row.deleted_at else "suspended" if row.suspended_at else "",
            )
            for row in rows
        ),
        nothing="No accounts yet: penstock accounts create ACCOUNT",
    )


@app.command()
def limits(
    account: Account,
    requests_per_minute: Number = None,
    tokens_per_minute: Number = None,
    max_running: Number = None,
    max_queued: Number = None,
) -> None:
    """Set limits of a whole account; limits that are not named stay unchanged."""
    options = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "max_running": max_running,
        "max_queued": max_queued,
    }
    values = {name: value for name, value in options.items() if value is not None}
    if not values:
        raise UsageError("name a limit: --requests-per-minute, --tokens-per-minute, ...")
    _change(account, values)


@app.command()
def suspend(account: Account) -> None:
    """Suspend an account: refuse its requests from now on; its running jobs continue."""
    _suspend(account, suspended=True)


@app.command()
def resume(account: Account) -> None:
    """Resume a suspended account: accept its requests again."""
    _suspend(account, suspended=False)


@app.command()
def delete(
    account: Account,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Cancel open jobs, and leave unbilled usage to the next invoice."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Delete an account: keys, users, jobs, files, webhooks. Ledger and invoices stay."""
    if not yes:
        typer.confirm(f"Delete the account {account} for good?", abort=True)
    client = Client.open(url, key)
    removed: Counter[str] = Counter()
    complete = False
    while not complete:
        found = client.delete(f"/v1/accounts/{quote(account)}", force=str(force).lower())
        removed.update(found["removed"])
        complete = found["complete"]
    if as_json:
        print_json({**found, "removed": dict(removed)})
        return
    parts = ", ".join(f"{number} {kind}" for kind, number in removed.items() if number)
    typer.echo(f"{account} was deleted: {parts or 'it had nothing'}")


def _change(account: str, values: dict[str, Any]) -> None:
    with_directory(lambda directory, _: directory.accounts.change(actor(), account, values))
    err.print(f"{account} was changed.", soft_wrap=True)


def _suspend(account: str, *, suspended: bool) -> None:
    async def work(directory: Directory, _: Database) -> None:
        await directory.accounts.suspend(actor(), account, suspended=suspended)

    with_directory(work)
    err.print(f"{account} is {'suspended' if suspended else 'active again'}.", soft_wrap=True)
