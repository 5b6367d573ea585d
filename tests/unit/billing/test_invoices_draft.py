"""Invoices are the sum of the ledger, each line rounded once, whatever the ledger holds."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from billing.currencies import payable
from billing.invoices.close_sums import KindSum, UsageGroup
from billing.invoices.draft import Customer, MonthBooks, draft_invoices
from billing.invoices.invoices import Invoice
from billing.money import to_micros
from billing.pricing.rating import Price, TokenCounts, rate
from core.settings.billing import SellerSettings
from jobs.fairness import ServiceTier

NOW = datetime(2026, 10, 1, tzinfo=UTC)
MICRO = Decimal("0.000001")

prices = st.decimals(0, 1_000, places=6)
counts = st.integers(0, 10**7)
events = st.tuples(
    st.sampled_from(["acme", "zeta"]),
    st.sampled_from([0, 1, 2]),  # which price
    st.sampled_from(ServiceTier),
    st.booleans(),  # late
    st.builds(TokenCounts, counts, counts, counts),
)
adjustments = st.tuples(
    st.sampled_from(["acme", "zeta", "none"]),
    st.sampled_from(["USD", "EUR"]),
    st.decimals(-1_000, 1_000, places=6).filter(bool),
)


def a_price(number: int, amounts: tuple[Decimal, Decimal, Decimal]) -> Price:
    currency = "EUR" if number == 2 else "USD"
    multipliers = Decimal("1.5"), Decimal("0.5")
    return Price(f"price_{number}", f"m{number}", currency, NOW, *amounts, *multipliers)


def grouped(usage: list[Any], book: list[Price]) -> list[UsageGroup]:
    """Add usage up as the database does."""
    found: dict[tuple[Any, ...], list[tuple[TokenCounts, Any]]] = {}
    for account, number, tier, late, tokens in usage:
        found.setdefault((account, number, tier, late), []).append(
            (tokens, rate(tokens, book[number], tier))
        )
    groups = []
    for (account, number, tier, late), jobs in found.items():
        price = book[number]
        sums = {
            kind: KindSum(
                sum(getattr(tokens, kind) > 0 for tokens, _ in jobs),
                sum(getattr(tokens, kind) for tokens, _ in jobs),
                sum((getattr(cost, kind) for _, cost in jobs), Decimal(0)),
            )
            for kind in TokenCounts._fields
        }
        times = price.multiplier(tier)
        groups.append(
            UsageGroup(account, price.currency, price.model, tier, price.id, times, late, sums)
        )
    return groups


def drafted(groups: list[UsageGroup], rows: list[Any], book: list[Price]) -> list[Invoice]:
    adjusted = [
        SimpleNamespace(id=f"adj_{number}", account_id=account, currency=currency, amount=amount,
                        reason="a reason", job_id=None)
        for number, (account, currency, amount) in enumerate(rows)
    ]  # fmt: skip
    customers = {"acme": Customer("Acme Ltd")}
    by_id = {price.id: price for price in book}
    return list(
        draft_invoices(MonthBooks("2026-10", groups, adjusted, customers, by_id, SellerSettings()))
    )


@given(
    st.lists(st.tuples(prices, prices, prices), min_size=3, max_size=3),
    st.lists(events, max_size=30),
    st.lists(adjustments, max_size=5),
)
def test_an_invoice_is_the_sum_of_its_ledger_rounded_once_a_line(
    amounts: list[Any], usage: list[Any], rows: list[Any]
) -> None:
    book = [a_price(number, one) for number, one in enumerate(amounts)]
    groups = grouped(usage, book)
    invoices = drafted(groups, rows, book)

    owed: Counter[tuple[str, str]] = Counter()
    lines: Counter[tuple[str, str]] = Counter()
    for group in groups:
        key = group.account_id, group.currency
        owed[key] += sum(to_micros(one.amount) for one in group.sums.values() if one.tokens)  # type: ignore[assignment]
        lines[key] += sum(one.tokens > 0 for one in group.sums.values())
    for account, currency, amount in rows:
        owed[account, currency] += amount  # type: ignore[assignment]
        lines[account, currency] += 1
    found = {(invoice.account_id, invoice.currency): invoice for invoice in invoices}
    assert len(found) == len(invoices)
    assert {key: len(invoice.lines) for key, invoice in found.items()} == {
        key: count for key, count in lines.items() if count
    }
    for key, invoice in found.items():
        assert invoice.total == owed[key] == sum(line.amount for line in invoice.lines)
        assert abs(invoice.due - invoice.total) <= Decimal("0.005")
    exact = sum((one.amount for group in groups for one in group.sums.values()), Decimal(0))
    billed = [line for one in invoices for line in one.lines if line.kind == "usage"]
    assert abs(sum(line.amount for line in billed) - exact) <= MICRO / 2 * len(billed)
    tokens = sum(one.tokens for group in groups for one in group.sums.values())
    assert sum(line.tokens for line in billed) == tokens


def test_numbers_follow_the_accounts_without_gaps() -> None:
    book = [a_price(0, (Decimal(1),) * 3)]
    usage = [
        (account, 0, ServiceTier.DEFAULT, False, TokenCounts(1, 0, 0)) for account in ("b", "a")
    ]
    invoices = drafted(grouped(usage, book), [("c", "USD", Decimal(-1))], book)

    assert [(one.number, one.account_id) for one in invoices] == [
        ("INV-2026-10-0001", "a"),
        ("INV-2026-10-0002", "b"),
        ("INV-2026-10-0003", "c"),
    ]


def test_what_is_paid_is_whole_coins_of_the_currency() -> None:
    amount = Decimal("1234.565")
    assert payable(amount, "USD") == Decimal("1234.57")
    assert payable(amount, "JPY") == Decimal(1235)
    assert payable(amount, "KWD") == Decimal("1234.565")
    assert payable(-amount, "EUR") == Decimal("-1234.57")
