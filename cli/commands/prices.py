"""`penstock prices`: sets and lists prices of tokens; a price never changes, a new one follows."""

from typing import Annotated

import typer

from billing.ledger.ledger import Ledger
from billing.money import plain
from billing.pricing.prices import NewPrice, load_prices, set_price
from billing.pricing.rating import Price
from cli.connect.actor import actor
from cli.connect.database import with_database
from cli.connect.settings import load_settings
from cli.terminal.options import Json, instant, number
from cli.terminal.output import err, print_json, print_table
from core.db.database import Database

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Set and list the prices of models."
)

FORMAT = "%Y-%m-%d %H:%M:%S UTC"


@app.command("set")
def set_model_price(
    model: Annotated[str, typer.Argument(help="The model's served name.")],
    price_input: Annotated[str, typer.Option("--input", help="Price of a million input tokens.")],
    price_output: Annotated[
        str, typer.Option("--output", help="Price of a million output tokens.")
    ],
    cached: Annotated[
        str | None,
        typer.Option(
            "--cached-input", help="Price of a million cached input tokens; default: as --input."
        ),
    ] = None,
    currency: Annotated[str, typer.Option(help="An ISO 4217 code.")] = "USD",
    since: Annotated[
        str | None,
        typer.Option("--from", help="When it starts, such as 2026-12-01T00:00Z; default: soon."),
    ] = None,
    priority: Annotated[
        str | None, typer.Option(help="The multiplier of the priority tier.")
    ] = None,
    flex: Annotated[str | None, typer.Option(help="The multiplier of the flex tier.")] = None,
) -> None:
    """Set a model's price from a time on; a change must start at least a minute from now."""
    billing = load_settings().billing
    new = NewPrice(
        model,
        number("--input", price_input),
        number("--cached-input", cached or price_input),
        number("--output", price_output),
        billing.priority_multiplier if priority is None else number("--priority", priority),
        billing.flex_multiplier if flex is None else number("--flex", flex),
        currency,
        None if since is None else instant("--from", since),
    )
    price = with_database(lambda database: set_price(database, new, actor()))
    typer.echo(price.id)
    err.print(f"{price.model} costs this from {price.valid_from:{FORMAT}} on.")


@app.command("list")
def list_prices(model: str | None = None, as_json: Json = False) -> None:
    """List all prices: past, present and future."""

    async def read(database: Database) -> list[Price]:
        async with database.read() as connection:
            return (await load_prices(connection)).versions(model)

    rows = [_shown(price) for price in with_database(read)]
    if as_json:
        print_json(rows)
    else:
        columns = ("id", "model", "currency", "valid_from", *KINDS, "priority", "flex")
        print_table(
            columns, ([row[name] for name in columns] for row in rows), nothing="No prices yet."
        )


@app.command("rate")
def rate_unpriced() -> None:
    """Rate recorded usage whose model had no price then. Exit code 1: some still has none."""
    done, left = with_database(lambda database: Ledger(database).rate_unpriced())
    typer.echo(f"{done} rated, {left} still without a price")
    if left:
        raise typer.Exit(1)


KINDS = ("input", "cached_input", "output")


def _shown(price: Price) -> dict[str, str]:
    return {
        "id": price.id,
        "model": price.model,
        "currency": price.currency,
        "valid_from": price.valid_from.isoformat(),
        **{name: plain(getattr(price, name)) for name in (*KINDS, "priority", "flex")},
    }
