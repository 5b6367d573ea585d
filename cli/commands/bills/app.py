"""`penstock bills`: from the ledger to what an account pays; commands have files of their own."""

import typer

from cli.commands.bills.close import adjust, close, credit, list_issued
from cli.commands.bills.export import export
from cli.commands.bills.margin import show_margins
from cli.commands.bills.reconcile import reconcile_month

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Close months, correct and export their invoices.",
)


@app.callback()
def bills() -> None:
    """Close months, correct and export their invoices."""


app.command("close")(close)
app.command("list")(list_issued)
app.command("export")(export)
app.command("adjust")(adjust)
app.command("credit")(credit)
app.command("reconcile")(reconcile_month)
app.command("margin")(show_margins)
