"""`penstock keys`: creates, lists, rotates and revokes API keys."""

from datetime import timedelta
from typing import Annotated

import typer
from pydantic import ValidationError

from accounts.account_rows import ensure_account
from accounts.api_keys import EVERYBODY, KeyFilter, MadeKey, NewKey
from accounts.bounds import Rank
from accounts.caller import Limits, Role
from accounts.directory_factory import Directory
from cli.connect.accounts import with_directory
from cli.connect.actor import actor
from cli.terminal.failures import UsageError
from cli.terminal.key_table import print_keys, print_new_key
from cli.terminal.options import Json, instant
from cli.terminal.output import err, print_json
from core.db.database import Database
from core.settings.invalid_settings import describe
from wire.schemas.accounts import NewKeyRequest
from wire.views.accounts import key_view

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Create, list, rotate and revoke API keys.",
)

KeyId = Annotated[str, typer.Argument(help="The key's id, such as key_...")]
MOST = 10_000


@app.command()
def create(
    account: Annotated[str, typer.Argument(help="The account that owns the key.")],
    name: Annotated[str, typer.Option(help="A name, for people.")] = "",
    role: Annotated[Role, typer.Option(help="The role: what the key may do.")] = Role.MEMBER,
    model: Annotated[
        list[str] | None, typer.Option(help="Allow only this model; may be repeated.")
    ] = None,
    route: Annotated[
        list[str] | None, typer.Option(help="Allow only these routes: jobs, chat.")
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(help="Allow only clients in this network, such as 10.0.0.0/8."),
    ] = None,
    weight: Annotated[
        float, typer.Option(help="Its fair share, relative to other accounts.")
    ] = 1.0,
    requests_per_minute: Annotated[int, typer.Option(help="0: no limit.")] = 0,
    tokens_per_minute: Annotated[int, typer.Option(help="0: no limit.")] = 0,
    max_running: Annotated[int, typer.Option(help="Limit of running jobs; 0: no limit.")] = 0,
    max_queued: Annotated[int, typer.Option(help="Limit of queued jobs; 0: no limit.")] = 0,
    expires: Annotated[
        str | None, typer.Option(help="When it expires, such as 2027-01-01T00:00Z.")
    ] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="An operator's key: it may see and do everything.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Create a key and print it; only its hash is stored."""
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
        raise UsageError("the key is not valid", *describe(error)) from None
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
        rank=Rank.OPERATOR,
    )

    async def make(directory: Directory, database: Database) -> MadeKey:
        await ensure_account(database, account)
        return await directory.keys.create(actor(), new)

    print_new_key(with_directory(make), as_json=as_json)


@app.command("list")
def list_keys(
    account: Annotated[str | None, typer.Option(help="Only keys of this account.")] = None,
    prefix: Annotated[str, typer.Option(help="Only keys that begin with this.")] = "",
    as_json: Json = False,
) -> None:
    """List all keys without their secrets, newest first."""
    rows = with_directory(
        lambda directory, _: directory.keys.list(
            KeyFilter(account, operators=True), prefix=prefix, limit=MOST
        )
    )
    if as_json:
        print_json([key_view(row) for row in rows])
        return
    print_keys(rows)


@app.command()
def rotate(
    key_id: KeyId,
    overlap: Annotated[int, typer.Option(min=0, help="Seconds until the old key ends.")] = 86_400,
    as_json: Json = False,
) -> None:
    """Replace a key: print a new one with the same rights; the old one ends after the overlap."""
    created = with_directory(
        lambda directory, _: directory.keys.rotate(
            actor(), key_id, EVERYBODY, timedelta(seconds=overlap)
        )
    )
    print_new_key(created, as_json=as_json)


@app.command()
def revoke(key_id: KeyId) -> None:
    """Revoke a key for good; it is refused within a second."""
    with_directory(lambda directory, _: directory.keys.revoke(actor(), key_id, EVERYBODY))
    err.print(f"{key_id} is revoked.", soft_wrap=True)
