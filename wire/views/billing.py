"""Invoices as in the JSON export, with their ids; prices, budgets and balances."""

from collections.abc import Sequence
from typing import Any

from billing.budgets.budget_status import BudgetStatus
from billing.exports.json_format import invoice_object, plain_json
from billing.invoices.invoices import Invoice
from billing.money import plain
from billing.pricing.rating import Price
from billing.reports.balance import OpenBalance
from jobs.fairness import ServiceTier

#: Computed from the lines, which are not read for a list.
LINE_FIELDS = ("lines", "usage_total", "adjustments_total")


def invoice_view(invoice: Invoice, *, lines: bool = True) -> dict[str, Any]:
    """Build the invoice object, with or without its lines."""
    found = {"object": "invoice", "id": invoice.id, **plain_json(invoice_object(invoice))}
    if not lines:
        for name in LINE_FIELDS:
            del found[name]
    return found


def price_view(price: Price) -> dict[str, Any]:
    """Build the object of a price version."""
    kinds = ("input", "cached_input", "output")
    return {
        "object": "price",
        "version": price.id,
        "model": price.model,
        "currency": price.currency,
        "valid_from": price.valid_from.timestamp(),
        "per_million": {kind: plain(getattr(price, kind)) for kind in kinds},
        "multipliers": {tier.value: plain(price.multiplier(tier)) for tier in ServiceTier},
    }


def budget_view(status: BudgetStatus) -> dict[str, Any]:
    """Build the object of a budget; its webhook is not shown."""
    budget = status.budget
    return {
        "object": "budget",
        "id": budget.id,
        "account": budget.account,
        "key": budget.key_id or None,
        "month": status.month,
        "currency": budget.currency,
        "amount": plain(budget.amount),
        "credited": plain(budget.credited),
        "spent": plain(status.spent),
        "left": plain(status.left),
        "hard": budget.hard,
        "warn_percents": list(budget.warn_percents),
    }


def balance_view(account: str, open_months: Sequence[OpenBalance]) -> dict[str, Any]:
    """Build the balance object."""
    months = [
        {
            "month": one.month,
            "currency": one.currency,
            "usage": plain(one.usage),
            "adjustments": plain(one.adjustments),
            "total": plain(one.total),
        }
        for one in open_months
    ]
    return {"object": "balance", "account": account, "data": months}
