"""Builds invoices from a month's sums. Pure: usage, adjustments, prices and accounts are arguments.

Invariant: every group and adjustment is on exactly one invoice of its account and currency. Each
line is rounded once, to micros; the total is the sum of the lines. The same month gives the same
numbers and texts for ever: reconciliation drafts issued invoices again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from billing.invoices.close_sums import Adjustment, UsageGroup
from billing.invoices.invoices import Invoice, InvoiceLine
from billing.money import plain, to_micros, total
from billing.pricing.rating import ONE, Price, TokenCounts
from core.ids import new_id
from core.settings.billing import SellerSettings
from jobs.fairness import ServiceTier

KIND_NAMES = {"input": "Input", "cached_input": "Cached input", "output": "Output"}
TIERS = [tier.value for tier in ServiceTier]


@dataclass(frozen=True, slots=True)
class BillingDetails:
    """Whom an invoice is addressed to."""

    name: str = ""
    address: str = ""
    tax_id: str = ""
    tax_note: str = ""


@dataclass(frozen=True, slots=True)
class MonthContent:
    """Everything that a month's invoices are made of."""

    month: str
    groups: Sequence[UsageGroup]
    adjustments: Sequence[Adjustment]
    accounts: Mapping[str, BillingDetails]
    prices: Mapping[str, Price]
    seller: SellerSettings


def draft_invoices(content: MonthContent) -> Iterator[Invoice]:
    """Yield the month's invoices by account and currency, numbered and not issued yet."""
    lines: dict[tuple[str, str], list[InvoiceLine]] = {}
    for group in sorted(content.groups, key=lambda group: _sort_key(group, content.prices)):
        price = content.prices[group.price_version_id]
        own = lines.setdefault((group.account_id, group.currency), [])
        own.extend(_usage_lines(group, price))
    for adjustment in content.adjustments:
        own = lines.setdefault((adjustment.account_id, adjustment.currency), [])
        own.append(_adjustment_line(adjustment))
    invoiced = sorted((key, own) for key, own in lines.items() if own)
    for serial, ((account, currency), own) in enumerate(invoiced, 1):
        details = content.accounts.get(account, BillingDetails())
        yield Invoice(
            id=new_id("inv"),
            number=f"INV-{content.month}-{serial:04}",
            kind="invoice",
            corrects=None,
            account_id=account,
            month=content.month,
            currency=currency,
            billing_name=details.name or account,
            billing_address=details.address,
            tax_id=details.tax_id,
            tax_note=details.tax_note,
            seller=content.seller,
            total=total(*(line.amount for line in own)),
            issued_at=None,
            lines=tuple(own),
        )


def _sort_key(group: UsageGroup, prices: Mapping[str, Price]) -> tuple[Any, ...]:
    """Order lines by model, tier and start of the price; late usage comes last."""
    price = prices[group.price_version_id]
    tier = TIERS.index(group.service_tier)
    return group.late, group.model, tier, price.valid_from, price.id


def _usage_lines(group: UsageGroup, price: Price) -> Iterator[InvoiceLine]:
    for kind in TokenCounts._fields:
        kind_sum = group.sums[kind]
        if kind_sum.tokens:
            yield InvoiceLine(
                kind="usage",
                description=_describe(kind, group, price),
                amount=to_micros(kind_sum.amount),
                model=group.model,
                service_tier=group.service_tier,
                token_kind=kind,
                price_version_id=group.price_version_id,
                multiplier=group.multiplier,
                per_million=getattr(price, kind),
                late=group.late,
                jobs=kind_sum.jobs,
                tokens=kind_sum.tokens,
            )


def _describe(kind: str, group: UsageGroup, price: Price) -> str:
    words = [KIND_NAMES[kind]]
    if group.service_tier != ServiceTier.DEFAULT:
        times = f" x {plain(group.multiplier)}" if group.multiplier != ONE else ""
        words.append(f"{group.service_tier} tier{times}")
    words.append(f"price of {price.valid_from:%Y-%m-%d}")
    if group.late:
        words.append("late usage")
    return ", ".join(words)


def _adjustment_line(adjustment: Adjustment) -> InvoiceLine:
    text = adjustment.reason
    if adjustment.job_id:
        text = f"{text} (job {adjustment.job_id})"
    return InvoiceLine("adjustment", text, adjustment.amount, adjustment_id=adjustment.id)
