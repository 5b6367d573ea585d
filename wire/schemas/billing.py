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


class InvoicePage(Answer):
    """A page of invoices, newest first."""

    object: Literal["list"]
    data: list[InvoiceObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
