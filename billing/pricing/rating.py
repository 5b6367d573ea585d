"""What a job costs: a pure function of its usage, how it ended, and a price.

The rules are the table of docs/billing.md. Invariant: exact and total: the same usage and price
give the same cost wherever it is computed, nothing is rounded, and a failure costs nothing.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum, auto
from typing import NamedTuple

from billing.money import EXACT, MILLION_DIGITS, total
from jobs.fairness import ServiceTier
from jobs.status import Status

ONE = Decimal(1)


class ChargeRule(Enum):
    """What of a job's usage is charged."""

    ALL = auto()
    DELIVERED = auto()  # all of it once there was output, else nothing
    NOTHING = auto()


RULES = {
    Status.COMPLETED: ChargeRule.ALL,
    Status.CANCELLED: ChargeRule.DELIVERED,
    Status.EXPIRED: ChargeRule.DELIVERED,
    Status.FAILED: ChargeRule.NOTHING,
}


class TokenCounts(NamedTuple):
    """Tokens by the price they have: `input` are those that were not in the cache."""

    input: int
    cached_input: int
    output: int


@dataclass(frozen=True, slots=True)
class Price:
    """One version of a model's prices per million tokens, valid until the next one is."""

    id: str
    model: str
    currency: str
    valid_from: datetime
    input: Decimal
    cached_input: Decimal
    output: Decimal
    priority: Decimal = ONE
    flex: Decimal = ONE

    def multiplier(self, tier: ServiceTier) -> Decimal:
        """Return what a tier multiplies these prices with."""
        if tier is ServiceTier.PRIORITY:
            return self.priority
        return self.flex if tier is ServiceTier.FLEX else ONE


@dataclass(frozen=True, slots=True)
class Cost:
    """What was charged, exactly, and by which price."""

    price_id: str
    currency: str
    multiplier: Decimal
    input: Decimal
    cached_input: Decimal
    output: Decimal

    @property
    def total(self) -> Decimal:
        """Return the sum, still exact."""
        return total(self.input, self.cached_input, self.output)


def charged_tokens(status: Status, input_tokens: int, cached: int, output: int) -> TokenCounts:
    """Return what is charged; `cached` are those of the input tokens that were in the cache.

    Raises:
        ValueError: usage that cannot be, or a job that has not ended.
    """
    if not 0 <= cached <= input_tokens or output < 0:
        raise ValueError(
            f"impossible usage: input {input_tokens}, cached {cached}, output {output}"
        )
    rule = RULES.get(status)
    if rule is None:
        raise ValueError(f"a job that is {status} has no cost yet")
    if rule is ChargeRule.NOTHING or (rule is ChargeRule.DELIVERED and output == 0):
        return TokenCounts(0, 0, 0)
    return TokenCounts(input_tokens - cached, cached, output)


def amount(tokens: int, per_million: Decimal, multiplier: Decimal) -> Decimal:
    """Return the exact price of some tokens."""
    price = EXACT.multiply(per_million, multiplier)
    return EXACT.scaleb(EXACT.multiply(Decimal(tokens), price), -MILLION_DIGITS)


def rate(charged: TokenCounts, price: Price, tier: ServiceTier) -> Cost:
    """Return what charged tokens cost."""
    multiplier = price.multiplier(tier)
    return Cost(
        price_id=price.id,
        currency=price.currency,
        multiplier=multiplier,
        input=amount(charged.input, price.input, multiplier),
        cached_input=amount(charged.cached_input, price.cached_input, multiplier),
        output=amount(charged.output, price.output, multiplier),
    )
