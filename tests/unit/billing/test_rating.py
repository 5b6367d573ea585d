"""Rating is exact, total and fair, whatever the usage and the prices."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.money import plain, to_micros
from billing.pricing.price_book import PriceBook
from billing.pricing.rating import Price, TokenCounts, charged_tokens, rate
from jobs.fairness import ServiceTier
from jobs.status import Status

NOW = datetime(2026, 11, 22, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)

money = st.decimals(0, 1_000_000, places=6)
multipliers = st.decimals(0, 100, places=2)
counts = st.integers(0, 10**9)
tiers = st.sampled_from(ServiceTier)
ended = st.sampled_from([status for status in Status if status.is_terminal])
prices = st.builds(
    Price,
    st.just("price_1"),
    st.just("m"),
    st.just("USD"),
    st.just(NOW),
    *(money, money, money, multipliers, multipliers),
)


def a_price(since: datetime = NOW, price_id: str = "price_1", model: str = "m") -> Price:
    return Price(
        *(price_id, model, "USD", since),
        *(Decimal("0.2"), Decimal("0.05"), Decimal("0.3"), Decimal("1.5"), Decimal("0.5")),
    )


def test_a_known_job_costs_what_a_person_would_compute() -> None:
    charged = charged_tokens(Status.COMPLETED, 1_000_000, 400_000, 2_000_000)
    cost = rate(charged, a_price(), ServiceTier.PRIORITY)

    assert cost.input == Decimal("0.18")  # 0.6 million at 0.20, times 1.5
    assert cost.cached_input == Decimal("0.03")
    assert cost.output == Decimal("0.9")
    assert plain(cost.total) == "1.11"


@given(prices, tiers, ended, counts, st.data())
def test_rating_is_exact_and_never_negative(
    price: Price, tier: ServiceTier, status: Status, input_tokens: int, data: st.DataObject
) -> None:
    cached = data.draw(st.integers(0, input_tokens))
    output = data.draw(counts)
    charged = charged_tokens(status, input_tokens, cached, output)
    cost = rate(charged, price, tier)

    tokens = zip(charged, (price.input, price.cached_input, price.output), strict=True)
    expected = sum(
        (Fraction(count) * Fraction(per_million) / 10**6 for count, per_million in tokens),
        Fraction(0),
    ) * Fraction(price.multiplier(tier))
    assert Fraction(cost.total) == expected
    assert cost.total >= 0
    assert abs(Fraction(to_micros(cost.total)) - expected) <= Fraction(1, 2 * 10**6)


@given(prices, tiers, st.lists(st.builds(TokenCounts, counts, counts, counts), max_size=20))
def test_a_sum_of_costs_is_the_cost_of_the_sum(
    price: Price, tier: ServiceTier, jobs: list[TokenCounts]
) -> None:
    together = (
        rate(TokenCounts(*(sum(kind) for kind in zip(*jobs, strict=True))), price, tier)
        if jobs
        else None
    )
    costs = [rate(tokens, price, tier) for tokens in jobs]

    assert sum((Fraction(cost.total) for cost in costs), Fraction(0)) == Fraction(
        together.total if together else 0
    )


@pytest.mark.parametrize(
    ("status", "output", "expected"),
    [
        (Status.COMPLETED, 7, TokenCounts(3, 2, 7)),
        (Status.COMPLETED, 0, TokenCounts(3, 2, 0)),
        (Status.CANCELLED, 7, TokenCounts(3, 2, 7)),
        (Status.CANCELLED, 0, TokenCounts(0, 0, 0)),
        (Status.EXPIRED, 7, TokenCounts(3, 2, 7)),
        (Status.EXPIRED, 0, TokenCounts(0, 0, 0)),
        (Status.FAILED, 7, TokenCounts(0, 0, 0)),
    ],
)
def test_each_end_is_charged_by_the_table(
    status: Status, output: int, expected: TokenCounts
) -> None:
    assert charged_tokens(status, 5, 2, output) == expected


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.EXPIRED])
def test_delivered_vectors_are_charged_like_delivered_output(status: Status) -> None:
    assert charged_tokens(status, 5, 2, 0, vectors=1) == TokenCounts(3, 2, 0)
    assert charged_tokens(Status.FAILED, 5, 2, 0, vectors=1) == TokenCounts(0, 0, 0)


@pytest.mark.parametrize(
    ("status", "usage"),
    [
        (Status.COMPLETED, (5, 6, 1)),
        (Status.COMPLETED, (5, -1, 1)),
        (Status.FAILED, (5, 0, -1)),
        (Status.QUEUED, (0, 0, 0)),
        (Status.IN_PROGRESS, (5, 0, 1)),
    ],
)
def test_impossible_usage_has_no_cost(status: Status, usage: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"inconsistent usage|has no cost while"):
        charged_tokens(status, *usage)


@given(st.lists(st.integers(0, 1000), unique=True), st.integers(-5, 1005))
def test_the_youngest_valid_price_counts_to_the_microsecond(starts: list[int], at: int) -> None:
    book = PriceBook(a_price(NOW + start * MOMENT, f"price_{start}") for start in starts)
    found = book.at("m", NOW + at * MOMENT)
    valid = [start for start in starts if start <= at]

    assert (found.id if found else None) == (f"price_{max(valid)}" if valid else None)
    assert book.at("other", NOW) is None


@pytest.mark.parametrize(
    ("amount", "rounded"),
    [
        ("0.0000005", "0.000001"),
        ("0.0000004999", "0"),
        ("-0.0000005", "-0.000001"),
        ("12.5", "12.5"),
    ],
)
def test_halves_are_rounded_away_from_zero(amount: str, rounded: str) -> None:
    assert plain(to_micros(Decimal(amount))) == rounded
