"""Exact decimal arithmetic on money; the one rounding, to micros, happens on the invoice line.

Invariant: `EXACT` raises an error where a result would be rounded. A micro is a millionth of a
currency's unit.
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

#: 60 digits hold every token count times every price; a result that needs more is an error.
EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow, Clamped])
ROUNDING = Context(prec=60, rounding=ROUND_HALF_UP, traps=[InvalidOperation, Overflow])

MILLION_DIGITS = 6
MICRO = Decimal("0.000001")
ZERO = Decimal(0)


def to_micros(amount: Decimal) -> Decimal:
    """Round an amount to micros of the currency (6 decimals), halves away from zero."""
    return amount.quantize(MICRO, context=ROUNDING)


def total(*amounts: Decimal) -> Decimal:
    """Add amounts exactly."""
    added = ZERO
    for amount in amounts:
        added = EXACT.add(added, amount)
    return added


def plain(amount: Decimal) -> str:
    """Write an amount for JSON: without an exponent and without zeros at the end."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
