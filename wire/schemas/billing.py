"""Responses of the billing routes; money is text, because JSON numbers are not exact."""

from typing import Literal

from pydantic import Field

from wire.schemas.usage import Answer


class Party(Answer):
    """The issuer of an invoice at the time of issue; `|` separates lines."""

    name: str
    address: str
    email: str
    tax_id: str
    payment: str


class InvoiceLineObject(Answer):
    """One invoice line: usage of one model, tier, token kind and price, or an adjustment."""

    position: int
    kind: Literal["usage", "adjustment"]
    description: str
    model: str | None
    service_tier: str | None
    token_kind: Literal["input", "cached_input", "output"] | None
    price_version_id: str | None
    multiplier: str | None
    per_million: str | None
    late: bool = Field(description="usage of an earlier month that was already closed")
    jobs: int
    tokens: int
    amount: str = Field(description="rounded once, to millionths")


class InvoiceObject(Answer):
    """An invoice or a credit note; it never changes."""

    object: Literal["invoice"]
    id: str
    number: str
    kind: Literal["invoice", "credit_note"]
    corrects: str | None = Field(description="number of the invoice that this credit note corrects")
    account_id: str
    month: str
    currency: str
    billing_name: str
    billing_address: str
    tax_id: str
    tax_note: str
    usage_total: str | None = None
    adjustments_total: str | None = None
    total: str = Field(description="sum of the lines")
    due: str = Field(description="amount to pay: the total rounded to the currency's smallest unit")
    issued_at: str
    due_at: str
    seller: Party
    lines: list[InvoiceLineObject] | None = Field(default=None, description="not in lists")


class ModelPrice(Answer):
    """One version of a model's prices, in units of `currency` per million tokens."""

    object: Literal["price"]
    version: str
    model: str
    currency: str
    valid_from: float = Field(description="until the model's next version becomes valid")
    per_million: dict[Literal["input", "cached_input", "output"], str]
    multipliers: dict[Literal["default", "priority", "flex"], str] = Field(
        description="by service tier"
    )


class PriceList(Answer):
    """The prices that are valid now, and those that are announced, by model and time."""

    object: Literal["list"]
    data: list[ModelPrice]


class BudgetObject(Answer):
    """A monthly budget of the account, or of one of its keys, and what was spent of it."""

    object: Literal["budget"]
    id: str
    account: str
    key: str | None = Field(description="null: the budget is for the whole account")
    month: str
    currency: str
    amount: str = Field(description="the budget of the month")
    credited: str = Field(description="credits of the month, which may be spent, too")
    spent: str = Field(description="what the month's jobs have cost so far")
    left: str = Field(description="without regard to jobs that have not ended")
    hard: bool = Field(description="whether jobs that do not fit are refused")
    warn_percents: list[int] = Field(description="at which shares of it the webhook is told")


class BudgetList(Answer):
    """The budgets that cover the account's jobs in the current month."""

    object: Literal["list"]
    data: list[BudgetObject]


class OpenMonth(Answer):
    """What is on no invoice yet, of one month in one currency."""

    month: str
    currency: str
    usage: str
    adjustments: str = Field(description="corrections of the month; credits are negative")
    total: str


class BalanceObject(Answer):
    """What the account owes that is on no invoice yet."""

    object: Literal["balance"]
    account: str
    data: list[OpenMonth]


class InvoicePage(Answer):
    """A page of invoices, newest first."""

    object: Literal["list"]
    data: list[InvoiceObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
