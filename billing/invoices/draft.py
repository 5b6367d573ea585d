"""Makes invoices from a month's sums. Pure: usage, adjustments, prices and accounts are given.

Invariant: every group and adjustment stands on exactly one invoice of its account and currency;
each line is rounded once, and the total is the sum of the lines.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.invoices.close_sums import UsageGroup
from billing.invoices.invoices import Invoice, InvoiceLine
from billing.money import plain, to_micros, total
from billing.pricing.rating import ONE, Price, TokenCounts
from core.ids import new_id
from core.settings.billing import SellerSettings
from jobs.fairness import ServiceTier

KIND_WORDS = {"input": "Input", "cached_input": "Cached input", "output": "Output"}
TIERS = [tier.value for tier in ServiceTier]


@dataclass(frozen=True, slots=True)
class Customer:
    """Who is billed, as it stands on the invoice."""

    name: str = ""
    address: str = ""
    tax_id: str = ""
    tax_note: str = ""


@dataclass(frozen=True, slots=True)
class MonthBooks:
    """All that a month's invoices are made of."""

    month: str
    groups: Sequence[UsageGroup]
    adjustments: Sequence[Any]
    customers: Mapping[str, Customer]
    prices: Mapping[str, Price]
    seller: SellerSettings


def draft_invoices(books: MonthBooks) -> Iterator[Invoice]:
    """Yield the month's invoices by account and currency, numbered, not issued yet."""
    lines: dict[tuple[str, str], list[InvoiceLine]] = {}
    for group in sorted(books.groups, key=lambda group: _place(group, books.prices)):
        price = books.prices[group.price_version_id]
        found = lines.setdefault((group.account_id, group.currency), [])
        found.extend(_usage_lines(group, price))
    for row in books.adjustments:
        lines.setdefault((row.account_id, row.currency), []).append(_adjustment_line(row))
    invoiced = sorted((key, found) for key, found in lines.items() if found)
    for serial, ((account, currency), found) in enumerate(invoiced, 1):
        customer = books.customers.get(account, Customer())
        yield Invoice(
            id=new_id("inv"),
            number=f"INV-{books.month}-{serial:04}",
            kind="invoice",
            corrects=None,
            account_id=account,
            month=books.month,
            currency=currency,
            billing_name=customer.name or account,
            billing_address=customer.address,
            tax_id=customer.tax_id,
            tax_note=customer.tax_note,
            seller=books.seller,
            total=total(*(line.amount for line in found)),
            issued_at=None,
            lines=tuple(found),
        )


def _place(group: UsageGroup, prices: Mapping[str, Price]) -> tuple[Any, ...]:
    """Order lines by model, tier, age of the price; late usage comes last."""
    price = prices[group.price_version_id]
    tier = TIERS.index(group.service_tier)
    return group.late, group.model, tier, price.valid_from, price.id


def _usage_lines(group: UsageGroup, price: Price) -> Iterator[InvoiceLine]:
    for kind in TokenCounts._fields:
        found = group.sums[kind]
        if found.tokens:
            yield InvoiceLine(
                kind="usage",
                description=_describe(kind, group, price),
                amount=to_micros(found.amount),
                model=group.model,
                service_tier=group.service_tier,
                token_kind=kind,
                price_version_id=group.price_version_id,
                multiplier=group.multiplier,
                per_million=getattr(price, kind),
                late=group.late,
                jobs=found.jobs,
                tokens=found.tokens,
            )


def _describe(kind: str, group: UsageGroup, price: Price) -> str:
    words = [KIND_WORDS[kind]]
    if group.service_tier != ServiceTier.DEFAULT:
        times = f" x {plain(group.multiplier)}" if group.multiplier != ONE else ""
        words.append(f"{group.service_tier} tier{times}")
    words.append(f"price of {price.valid_from:%Y-%m-%d}")
    if group.late:
        words.append("late usage")
    return ", ".join(words)


def _adjustment_line(row: Any) -> InvoiceLine:
    text = f"{row.reason} (job {row.job_id})" if row.job_id else row.reason
    return InvoiceLine("adjustment", text, Decimal(row.amount), adjustment_id=row.id)
