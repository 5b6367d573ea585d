"""`penstock gpu-rates`: sets and lists the cost of GPUs, for `penstock bills margin`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from billing.money import plain
from billing.pricing.gpu_rates import GpuRate, load_gpu_rates, set_gpu_rate
from cli.connect.actor import actor
from cli.connect.database import with_database
from cli.terminal.options import Json, instant, number
from cli.terminal.output import print_json, print_table
from core.db.database import Database

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Set and list the cost of the models' GPUs."
)

COLUMNS = ("model", "gpu", "per_hour", "slots", "currency", "valid_from")


@app.command("set")
def set_rate(
    model: Annotated[str, typer.Argument(help="The model's served name.")],
    per_hour: Annotated[str, typer.Option(help="The cost of one worker's GPUs for an hour.")],
    slots: Annotated[int, typer.Option(help="Jobs it runs in parallel (PENSTOCK_ENGINE__SLOTS).")],
    gpu: Annotated[str, typer.Option(help="The GPU's name, for people.")] = "",
    currency: Annotated[str, typer.Option(help="An ISO 4217 code.")] = "USD",
    since: Annotated[
        str | None,
        typer.Option("--from", help="When it starts, such as 2026-12-01T00:00Z; default: now."),
    ] = None,
) -> None:
    """Set a rate from a time on; the time may be in the past."""
    start = datetime.now(UTC) if since is None else instant("--from", since)
    rate = GpuRate(model, gpu, number("--per-hour", per_hour), slots, currency, start)
    with_database(lambda database: set_gpu_rate(database, rate, actor()))


@app.command("list")
def list_rates(model: str | None = None, as_json: Json = False) -> None:
    """List all rates."""

    async def read(database: Database) -> Sequence[GpuRate]:
        async with database.read() as connection:
            return await load_gpu_rates(connection, model)

    rows = [_shown(rate) for rate in with_database(read)]
    if as_json:
        print_json(rows)
    else:
        table = ([str(row[name]) for name in COLUMNS] for row in rows)
        print_table(COLUMNS, table, nothing="No GPU rates yet.")


def _shown(rate: GpuRate) -> dict[str, str | int]:
    return {
        "model": rate.model,
        "gpu": rate.gpu,
        "per_hour": plain(rate.per_hour),
        "slots": rate.slots,
        "currency": rate.currency,
        "valid_from": rate.valid_from.isoformat(),
    }
