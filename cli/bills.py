"""`penstock bills`: from the ledger to what an account pays. Each command stands in its own file."""

import typer

from cli.reconcile import reconcile_month

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Close months, correct and export their invoices.",
)


@app.callback()
def bills() -> None:
    """Close months, correct and export their invoices."""


app.command("reconcile")(reconcile_month)
