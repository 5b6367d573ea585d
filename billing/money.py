"""Arithmetic on money: exact until it is rounded, once, on an invoice line.

Invariant: `EXACT` raises rather than rounds; `to_micros` is the only place that rounds.
"""

from decimal import (
    ROUND_HALF_UP,
    Clamped,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)

#: Digits enough for every token count times every price; a result that needs more is an error.
EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow, Clamped])
ROUNDING = Context(prec=60, rounding=ROUND_HALF_UP, traps=[InvalidOperation, Overflow])

MILLION_DIGITS = 6
MICRO = Decimal("0.000001")
ZERO = Decimal(0)


def to_micros(amount: Decimal) -> Decimal:
    """Round to micros of the currency, halves away from zero."""
    return amount.quantize(MICRO, context=ROUNDING)


def total(*amounts: Decimal) -> Decimal:
    """Add exactly."""
    added = ZERO
    for amount in amounts:
        added = EXACT.add(added, amount)
    return added


def plain(amount: Decimal) -> str:
    """Write an amount for JSON: no exponent, no zeros at the end."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
