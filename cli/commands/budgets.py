"""`penstock budgets`: what an account or one of its keys may spend in a UTC month."""

import getpass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import typer

from billing.budgets.budgets import WARN_PERCENTS, Budget, load_budgets, remove_budget, set_budget
from billing.budgets.spending import spending_since
from billing.money import ZERO, plain
from billing.months import month_of
from cli.connect.database import with_database
from cli.connect.settings import load_settings
from cli.terminal.failures import UsageError
from cli.terminal.options import Json, number
from cli.terminal.output import err, print_json, print_table
from core.db.engine import Database
from jobs.store.budget_reservations import BudgetMonth
from webhooks.errors import InvalidWebhook
from webhooks.signing import new_secret
from webhooks.url_rules import check_url

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Limit what accounts spend.")

COLUMNS = (
    *("account", "key", "amount", "currency", "hard", "when_unknown", "warn_percents"),
    *("spent", "webhook"),
)

Account = Annotated[str, typer.Argument(help="The account.")]
Key = Annotated[str, typer.Option("--key", help="Only this key of the account, by its id.")]


@app.command("set")
def set_account_budget(
    account: Account,
    amount: Annotated[str, typer.Argument(help="The most per month.")],
    key: Key = "",
    currency: Annotated[
        str, typer.Option(help="ISO 4217; usage in others is not covered.")
    ] = "USD",
    soft: Annotated[bool, typer.Option("--soft", help="Only warn.")] = False,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Accept jobs while it cannot be checked.")
    ] = False,
    warn: Annotated[
        list[int] | None, typer.Option(help="Warn at so many percent; else 50, 80 and 100.")
    ] = None,
    webhook: Annotated[str | None, typer.Option(help="Where warnings are sent.")] = None,
) -> None:
    """Set a monthly budget; it replaces the one before and is in force within seconds."""
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
    made = with_database(lambda database: set_budget(database, budget, getpass.getuser()))
    typer.echo(made.id)
    if secret is not None:
        err.print(f"Warnings are signed with {secret}; it is shown only now.")


def _check_webhook(webhook: str) -> None:
    """Refuse a URL that no warning would ever be sent to."""
    try:
        check_url(webhook, load_settings().webhooks, "--webhook")
    except InvalidWebhook as error:
        raise UsageError(error.message) from None


@app.command("list")
def list_budgets(as_json: Json = False) -> None:
    """List all budgets with what was spent of them this month."""
    rows = with_database(_with_spending)
    if as_json:
        print_json(rows)
    else:
        print_table(
            COLUMNS, ([str(row[c]) for c in COLUMNS] for row in rows), nothing="No budgets."
        )


@app.command("remove")
def remove_account_budget(account: Account, key: Key = "") -> None:
    """Remove a budget."""
    actor = getpass.getuser()
    if not with_database(lambda database: remove_budget(database, account, key, actor)):
        raise UsageError(f"{account} has no such budget")


async def _with_spending(database: Database) -> list[dict[str, Any]]:
    month = month_of(datetime.now(UTC))
    async with database.read() as connection:
        budgets = await load_budgets(connection)
        sums = await spending_since(connection, {one.account for one in budgets}, month)
    spent = {(one.bucket, one.scope): one.amount for one in sums}
    return [_shown(one, spent.get((_bucket(one, month), one.scope), ZERO)) for one in budgets]


def _bucket(budget: Budget, month: str) -> BudgetMonth:
    return BudgetMonth(budget.account, month, budget.currency)


def _shown(budget: Budget, spent: Decimal) -> dict[str, Any]:
    return {
        "account": budget.account,
        "key": budget.key_id,
        "amount": plain(budget.amount),
        "currency": budget.currency,
        "hard": budget.hard,
        "when_unknown": budget.when_unknown,
        "warn_percents": list(budget.warn_percents),
        "spent": plain(spent),
        "webhook": budget.webhook or "",
    }
