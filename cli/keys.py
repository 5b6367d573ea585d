"""`penstock keys`: API keys in the keys file of this machine."""

from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from cli.failures import Usage
from cli.options import Json
from cli.output import ago, err, print_json, print_table
from cli.settings import describe, load_settings
from jobs.accounts import ApiKey, KeyFile

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Make and list API keys (PENSTOCK_API__KEYS_FILE).",
)


@app.command()
def create(
    account: Annotated[str, typer.Argument(help="The account the key belongs to.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    weight: Annotated[float, typer.Option(help="Fair share, relative to other accounts.")] = 1.0,
    max_running: Annotated[int, typer.Option(help="Jobs running at once; 0: no cap.")] = 0,
    admin: Annotated[bool, typer.Option("--admin", help="May see every account's jobs.")] = False,
    as_json: Json = False,
) -> None:
    """Make a key and print it; only its hash is kept."""
    path = load_settings().api.keys_file
    try:
        key, record = KeyFile(path).create(
            account, name, weight=weight, max_running=max_running, admin=admin
        )
    except ValidationError as error:
        raise Usage("there can be no such key", *describe(error)) from None
    if as_json:
        print_json({**record.model_dump(exclude={"sha256"}), "key": key})
    else:
        typer.echo(key)
        err.print(f"Only its hash is kept, in {path}: this is the one time the key is shown.")


@app.command("list")
def list_keys(as_json: Json = False) -> None:
    """List the keys there are, without the keys themselves."""
    path = load_settings().api.keys_file
    raw = path.read_bytes() if path.exists() else b"[]"
    records = TypeAdapter(list[ApiKey]).validate_json(raw)
    if as_json:
        print_json([record.model_dump(exclude={"sha256"}) for record in records])
        return
    print_table(
        ("id", "account", "name", "weight", "max running", "admin", "made"),
        (
            (
                record.id,
                record.account,
                record.name,
                f"{record.weight:g}",
                str(record.max_running or "no cap"),
                "yes" if record.admin else "",
                f"{ago(record.created)} ago",
            )
            for record in records
        ),
        nothing=f"No keys in {path} yet: penstock keys create ACCOUNT",
    )
