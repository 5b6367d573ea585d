"""`penstock bills`: closes months and exports, corrects and checks invoices; one file per part."""

import typer

from cli.commands.bills.close import adjust, close, credit, list_issued
from cli.commands.bills.export import export
from cli.commands.bills.margin import show_margins
from cli.commands.bills.reconcile import reconcile_month

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Close months, and correct, export and check their invoices.",
)


@app.callback()
def bills() -> None:
    """Close months, and correct, export and check their invoices."""


app.command("close")(close)
app.command("list")(list_issued)
app.command("export")(export)
app.command("adjust")(adjust)
app.command("credit")(credit)
app.command("reconcile")(reconcile_month)
app.command("margin")(show_margins)
