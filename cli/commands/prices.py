"""`penstock prices`: what tokens cost. A price is never changed; a new one follows it."""

import getpass
from typing import Annotated

import typer

from billing.ledger.ledger import Ledger
from billing.money import plain
from billing.pricing.prices import NewPrice, load_prices, set_price
from billing.pricing.rating import Price
from cli.connect.database import with_database
from cli.connect.settings import load_settings
from cli.terminal.options import Json, instant, number
from cli.terminal.output import err, print_json, print_table
from core.db.engine import Database

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Set and list what models cost.")

FORMAT = "%Y-%m-%d %H:%M:%S UTC"


@app.command("set")
def set_model_price(
    model: Annotated[str, typer.Argument(help="The model's served name.")],
    price_input: Annotated[str, typer.Option("--input", help="Per million input tokens.")],
    price_output: Annotated[str, typer.Option("--output", help="Per million output tokens.")],
    cached: Annotated[
        str | None, typer.Option("--cached-input", help="Per million cached ones; else as input.")
    ] = None,
    currency: Annotated[str, typer.Option(help="ISO 4217.")] = "USD",
    since: Annotated[
        str | None, typer.Option("--from", help="First instant, as 2026-12-01T00:00Z; else soon.")
    ] = None,
    priority: Annotated[str | None, typer.Option(help="Multiplier of the priority tier.")] = None,
    flex: Annotated[str | None, typer.Option(help="Multiplier of the flex tier.")] = None,
) -> None:
    """Set a model's price from an instant on; a change must lie a minute ahead."""
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
    price = with_database(lambda database: set_price(database, new, getpass.getuser()))
    typer.echo(price.id)
    err.print(f"{price.model} costs this from {price.valid_from:{FORMAT}} on.")


@app.command("list")
def list_prices(model: str | None = None, as_json: Json = False) -> None:
    """List all prices there were, are and will be."""

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
    """Rate recorded usage that had no price, where there is one now; 1 if some is left."""
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
