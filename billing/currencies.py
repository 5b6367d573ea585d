"""Decimals of each currency's smallest unit (ISO 4217), and rounding to that unit."""

from decimal import Decimal

from billing.money import ROUNDING

#: The currencies that do not have two decimals.
DECIMALS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"), 0),
    **dict.fromkeys(("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}
DEFAULT_DECIMALS = 2


def decimals_of(currency: str) -> int:
    """Return how many decimals the currency's smallest unit has, such as 2 for USD."""
    return DECIMALS.get(currency, DEFAULT_DECIMALS)


def payable(amount: Decimal, currency: str) -> Decimal:
    """Round an amount to the currency's smallest unit, halves away from zero."""
    return amount.quantize(Decimal(1).scaleb(-decimals_of(currency)), context=ROUNDING)
