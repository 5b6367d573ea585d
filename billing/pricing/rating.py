"""What a job costs: a pure function of its usage, its final status and a price.

The rules are the table in docs/billing.md. Invariant: the result is exact; the same usage and price
give the same cost wherever it is computed; a failed job costs nothing.
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
    """Which part of a job's usage is charged."""

    ALL = auto()
    DELIVERED = auto()  # everything if tokens or vectors were delivered, else nothing
    NOTHING = auto()


RULES = {
    Status.COMPLETED: ChargeRule.ALL,
    Status.CANCELLED: ChargeRule.DELIVERED,
    Status.EXPIRED: ChargeRule.DELIVERED,
    Status.FAILED: ChargeRule.NOTHING,
}


class TokenCounts(NamedTuple):
    """Tokens by kind of price; `input` excludes the cached input tokens."""

    input: int
    cached_input: int
    output: int


@dataclass(frozen=True, slots=True)
class Price:
    """One version of a model's prices, in currency units per million tokens.

    It is valid from `valid_from` until the model's next version.
    """

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
        """Return the factor by which a service tier multiplies these prices."""
        if tier is ServiceTier.PRIORITY:
            return self.priority
        return self.flex if tier is ServiceTier.FLEX else ONE


@dataclass(frozen=True, slots=True)
class Cost:
    """The exact amounts charged, in units of `currency`, and the price version that was used."""

    price_id: str
    currency: str
    multiplier: Decimal
    input: Decimal
    cached_input: Decimal
    output: Decimal

    @property
    def total(self) -> Decimal:
        """Return the sum of the amounts, exact."""
        return total(self.input, self.cached_input, self.output)


def charged_tokens(
    status: Status,
    input_tokens: int,
    cached_input_tokens: int,
    output_tokens: int,
    vectors: int = 0,
) -> TokenCounts:
    """Return the tokens that are charged for a job.

    Args:
        status: the job's final status; it selects the rule.
        input_tokens: all tokens of the prompt; of an embedding request, those of the inputs whose
            vectors were delivered.
        cached_input_tokens: those of `input_tokens` that came from the prefix cache.
        output_tokens: tokens that were generated.
        vectors: delivered vectors of an embedding request.

    Raises:
        ValueError: the counts contradict each other, or the job has not ended.
    """
    if not 0 <= cached_input_tokens <= input_tokens or output_tokens < 0 or vectors < 0:
        raise ValueError(
            f"inconsistent usage: {input_tokens} input tokens, {cached_input_tokens} of them"
            f" cached, {output_tokens} output tokens, {vectors} vectors"
        )
    rule = RULES.get(status)
    if rule is None:
        raise ValueError(f"a job has no cost while its status is {status}")
    delivered = output_tokens > 0 or vectors > 0
    if rule is ChargeRule.NOTHING or (rule is ChargeRule.DELIVERED and not delivered):
        return TokenCounts(0, 0, 0)
    return TokenCounts(input_tokens - cached_input_tokens, cached_input_tokens, output_tokens)


def amount(tokens: int, per_million: Decimal, multiplier: Decimal) -> Decimal:
    """Return the exact price of tokens: tokens x price per million x multiplier / 1,000,000."""
    price = EXACT.multiply(per_million, multiplier)
    return EXACT.scaleb(EXACT.multiply(Decimal(tokens), price), -MILLION_DIGITS)


def rate(charged: TokenCounts, price: Price, tier: ServiceTier) -> Cost:
    """Return the exact cost of charged tokens.

    Args:
        charged: tokens by kind, from `charged_tokens`.
        price: the price version valid when the job finished, in currency units per million tokens.
        tier: the job's service tier; its multiplier applies to every kind of token.

    Returns:
        Amounts in units of the price's currency, with up to 14 decimals.
    """
    multiplier = price.multiplier(tier)
    return Cost(
        price_id=price.id,
        currency=price.currency,
        multiplier=multiplier,
        input=amount(charged.input, price.input, multiplier),
        cached_input=amount(charged.cached_input, price.cached_input, multiplier),
        output=amount(charged.output, price.output, multiplier),
    )
