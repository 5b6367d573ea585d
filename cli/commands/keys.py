"""`penstock keys`: API keys."""

import getpass
from datetime import timedelta
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from sqlalchemy import Row

from accounts.account_rows import ensure_account
from accounts.api_keys import EVERYBODY, KeyFilter, MadeKey, NewKey
from accounts.caller import Limits, Role
from accounts.directory import Directory
from cli.connect.accounts import with_directory
from cli.terminal.failures import UsageError
from cli.terminal.options import Json, instant
from cli.terminal.output import ago, err, print_json, print_table
from core.db.engine import Database
from core.settings.errors import describe
from wire.schemas.accounts import NewKeyRequest
from wire.views.accounts import key_view

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Make, list, rotate and revoke API keys.",
)

KeyId = Annotated[str, typer.Argument(help="The key's id, key_...")]
MOST = 10_000


@app.command()
def create(
    account: Annotated[str, typer.Argument(help="The account the key belongs to.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    role: Annotated[Role, typer.Option(help="What it may do.")] = Role.MEMBER,
    model: Annotated[list[str] | None, typer.Option(help="Only this model; repeat it.")] = None,
    route: Annotated[list[str] | None, typer.Option(help="Only these routes: jobs, chat.")] = None,
    network: Annotated[list[str] | None, typer.Option(help="Only from here: 10.0.0.0/8.")] = None,
    weight: Annotated[float, typer.Option(help="Fair share, relative to other accounts.")] = 1.0,
    requests_per_minute: Annotated[int, typer.Option(help="0: no limit.")] = 0,
    tokens_per_minute: Annotated[int, typer.Option(help="0: no limit.")] = 0,
    max_running: Annotated[int, typer.Option(help="Jobs running at once; 0: no cap.")] = 0,
    max_queued: Annotated[int, typer.Option(help="Jobs waiting at once; 0: no cap.")] = 0,
    expires: Annotated[str | None, typer.Option(help="When it ends: 2027-01-01T00:00Z.")] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="The operator: sees and does everything.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a key and print it; only its hash is kept."""
    limits = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "max_running": max_running,
        "max_queued": max_queued,
    }
    scopes = {"models": model or None, "routes": route or None, "networks": network or None}
    try:
        asked = NewKeyRequest.model_validate(
            {
                "account": account,
                "name": name,
                "role": role,
                "weight": weight,
                "limits": limits,
                **scopes,
            }
        )
    except ValidationError as error:
        raise UsageError("there can be no such key", *describe(error)) from None
    new = NewKey(
        account=account,
        name=name,
        role=role,
        models=asked.models,
        routes=asked.routes,
        networks=asked.networks,
        weight=weight,
        limits=Limits(**limits),
        expires_at=None if expires is None else instant("--expires", expires),
        operator=admin,
    )

    async def make(directory: Directory, database: Database) -> MadeKey:
        await ensure_account(database, account)
        return await directory.keys.create(getpass.getuser(), new)

    _print_made(with_directory(make), as_json=as_json)


@app.command("list")
def list_keys(
    account: Annotated[str | None, typer.Option(help="Only this account's.")] = None,
    prefix: Annotated[str, typer.Option(help="Only those that begin so.")] = "",
    as_json: Json = False,
) -> None:
    """List the keys there are, without the keys themselves, newest first."""
    rows = with_directory(
        lambda directory, _: directory.keys.list(
            KeyFilter(account, operators=True), prefix=prefix, limit=MOST
        )
    )
    if as_json:
        print_json([key_view(row) for row in rows])
        return
    print_table(
        ("id", "key", "account", "name", "role", "scopes", "weight", "max running", "made", ""),
        [_row(row) for row in rows],
        nothing="No keys yet: penstock keys create ACCOUNT",
    )


@app.command()
def rotate(
    key_id: KeyId,
    overlap: Annotated[int, typer.Option(min=0, help="Seconds the old one goes on.")] = 86_400,
    as_json: Json = False,
) -> None:
    """Make a key like this one and print it; the old one ends after the overlap."""
    made = with_directory(
        lambda directory, _: directory.keys.rotate(
            getpass.getuser(), key_id, EVERYBODY, timedelta(seconds=overlap)
        )
    )
    _print_made(made, as_json=as_json)


@app.command()
def revoke(key_id: KeyId) -> None:
    """End a key for good; it is refused within a second."""
    with_directory(lambda directory, _: directory.keys.revoke(getpass.getuser(), key_id, EVERYBODY))
    err.print(f"{key_id} is revoked.", soft_wrap=True)


def _print_made(made: MadeKey, *, as_json: bool) -> None:
    if as_json:
        print_json({**key_view(made.row), "key": made.secret})
    else:
        typer.echo(made.secret)
        err.print(
            f"{made.row.id}: only its hash is kept, this is the one time the key is shown.",
            soft_wrap=True,
        )


def _row(row: Row[Any]) -> tuple[str, ...]:
    scopes = [
        f"{name} {','.join(values)}"
        for name in ("models", "routes", "networks")
        if (values := getattr(row, name)) is not None
    ]
    state = "revoked" if row.revoked_at else f"ends {row.expires_at}" if row.expires_at else ""
    return (
        row.id,
        f"{row.prefix}...",
        row.account_id,
        row.name,
        "operator" if row.admin else row.role,
        "; ".join(scopes),
        f"{row.weight:g}",
        str(row.max_running or "no cap"),
        f"{ago(row.created_at.timestamp())} ago",
        state,
    )
