"""`penstock bills margin`: shows the revenue of each model and the cost of its GPUs."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated

import typer

from billing.money import plain
from billing.reports.margin import Margin, margins
from cli.connect.database import with_database
from cli.terminal.failures import UsageError
from cli.terminal.options import Json, number
from cli.terminal.output import err, print_json, print_table

COLUMNS = (
    *("model", "jobs", "tokens", "revenue", "gpu_hours", "mean_jobs", "cost", "margin"),
    "cost_per_million",
)


def show_margins(
    month: Annotated[str, typer.Option(help="A UTC month, such as 2026-11.")],
    gpu_hours: Annotated[
        list[str] | None,
        typer.Option(help="MODEL=HOURS: paid hours, with idle time; default: busy hours."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show revenue, GPU time, cost and margin per model; docs/billing.md explains the estimate."""
    paid = dict(_paid(text) for text in gpu_hours or ())
    found = with_database(lambda database: margins(database, month, paid))
    if as_json:
        print_json({"month": month, "models": [_as_json(margin) for margin in found]})
        return
    print_table(COLUMNS, [_row(margin) for margin in found], nothing=f"{month}: no jobs.")
    for margin in found:
        for note in margin.notes:
            err.print(f"{margin.model}: {note}")


def _paid(text: str) -> tuple[str, Decimal]:
    model, equals, hours = text.rpartition("=")
    if not equals or not model:
        raise UsageError(f"--gpu-hours: {text!r} is not MODEL=HOURS")
    value = number("--gpu-hours", hours)
    if not value.is_finite() or value < 0:
        raise UsageError(f"--gpu-hours: {hours!r} is not a number of hours")
    return model, value


def _as_json(margin: Margin) -> dict[str, object]:
    return {
        "model": margin.model,
        "jobs": margin.jobs,
        "tokens": margin.tokens,
        "job_seconds": plain(margin.job_seconds),
        "gpu_seconds": plain(margin.gpu_seconds),
        "paid_seconds": _text(margin.paid_seconds),
        "mean_jobs": _text(margin.mean_jobs),
        "most_jobs": margin.most_jobs,
        "revenue": {name: plain(amount) for name, amount in margin.revenue.items()},
        "currency": margin.currency,
        "cost": _text(margin.cost),
        "margin": _text(margin.margin),
        "cost_per_million": _text(margin.cost_per_million),
        "notes": margin.notes,
    }


def _row(margin: Margin) -> Sequence[str]:
    seconds = margin.gpu_seconds if margin.paid_seconds is None else margin.paid_seconds
    revenue = [f"{plain(amount)} {name}" for name, amount in margin.revenue.items()]
    amounts = (margin.cost, margin.margin, margin.cost_per_million)
    return (
        *(margin.model, f"{margin.jobs:,}", f"{margin.tokens:,}", ", ".join(revenue) or "-"),
        *(f"{seconds / 3600:.3f}", _text(margin.mean_jobs) or "-"),
        *("-" if value is None else f"{plain(value)} {margin.currency}" for value in amounts),
    )


def _text(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)
