"""`penstock budgets`: limits the spending of accounts and keys per UTC month."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from billing.budgets.budget_changes import models_not_covered, remove_budget, set_budget
from billing.budgets.budget_status import BudgetStatus, budget_statuses
from billing.budgets.budgets import WARN_PERCENTS, Budget
from billing.money import plain
from billing.months import month_of
from cli.connect.actor import actor
from cli.connect.database import with_database
from cli.connect.settings import load_settings
from cli.terminal.failures import UsageError
from cli.terminal.options import Json, number
from cli.terminal.output import err, print_json, print_table
from core.db.database import Database
from webhooks.errors import InvalidWebhook
from webhooks.signing import new_secret
from webhooks.url_rules import check_url

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Limit the spending of accounts and keys."
)

COLUMNS = (
    *("account", "key", "amount", "currency", "hard", "when_unknown", "warn_percents"),
    *("spent", "credited", "webhook"),
)

Account = Annotated[str, typer.Argument(help="The account's id.")]
Key = Annotated[
    str, typer.Option("--key", help="The id of a key: the budget is for this key alone.")
]


@app.command("set")
def set_account_budget(
    account: Account,
    amount: Annotated[str, typer.Argument(help="The limit per month.")],
    key: Key = "",
    currency: Annotated[
        str, typer.Option(help="An ISO 4217 code; usage in other currencies does not count.")
    ] = "USD",
    soft: Annotated[
        bool, typer.Option("--soft", help="Warn only; accept jobs beyond the budget.")
    ] = False,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Accept jobs while the spending is unknown.")
    ] = False,
    warn: Annotated[
        list[int] | None,
        typer.Option(help="Warn at this percentage; may be repeated; default: 50, 80, 100."),
    ] = None,
    webhook: Annotated[str | None, typer.Option(help="The URL that receives the warnings.")] = None,
) -> None:
    """Set a monthly budget; it replaces the previous one within seconds."""
    secret = None
    if webhook is not None:
        _check_webhook(webhook)
        secret = new_secret()
    budget = Budget(
        account=account,
        amount=number("AMOUNT", amount),
        key_id=key,
        currency=currency,
        hard=not soft,
        when_unknown="allow" if allow_unknown else "refuse",
        warn_percents=WARN_PERCENTS if warn is None else tuple(warn),
        webhook=webhook,
        webhook_secret=secret,
    )
    created, uncovered = with_database(lambda database: _set(database, budget))
    typer.echo(created.id)
    if uncovered:
        err.print(
            f"Not covered, because their prices are in another currency than {currency}:"
            f" {', '.join(uncovered)}.",
            soft_wrap=True,
        )
    if secret is not None:
        err.print(f"Warnings are signed with {secret}; it is shown only now.")


async def _set(database: Database, budget: Budget) -> tuple[Budget, list[str]]:
    created = await set_budget(database, budget, actor())
    return created, await models_not_covered(database, budget.currency)


def _check_webhook(webhook: str) -> None:
    """Refuse a URL that the deliverer would refuse.

    Raises:
        UsageError: it is not allowed.
    """
    try:
        check_url(webhook, load_settings().webhooks, "--webhook")
    except InvalidWebhook as error:
        raise UsageError(error.message) from None


@app.command("list")
def list_budgets(as_json: Json = False) -> None:
    """List all budgets and this month's spending."""
    rows = [_shown(status) for status in with_database(_read_statuses)]
    if as_json:
        print_json(rows)
    else:
        print_table(
            COLUMNS, ([str(row[c]) for c in COLUMNS] for row in rows), nothing="No budgets."
        )


@app.command("remove")
def remove_account_budget(account: Account, key: Key = "") -> None:
    """Remove a budget."""
    if not with_database(lambda database: remove_budget(database, account, key, actor())):
        raise UsageError(f"{account} has no such budget")


async def _read_statuses(database: Database) -> list[BudgetStatus]:
    async with database.read() as connection:
        return await budget_statuses(connection, month_of(datetime.now(UTC)))


def _shown(status: BudgetStatus) -> dict[str, Any]:
    budget = status.budget
    return {
        "account": budget.account,
        "key": budget.key_id,
        "amount": plain(budget.amount),
        "currency": budget.currency,
        "hard": budget.hard,
        "when_unknown": budget.when_unknown,
        "warn_percents": list(budget.warn_percents),
        "spent": plain(status.spent),
        "credited": plain(budget.credited),
        "webhook": budget.webhook or "",
    }
