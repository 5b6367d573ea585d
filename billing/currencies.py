"""How many decimals a currency's coins have (ISO 4217), and what an exact amount is in coins."""

from decimal import Decimal

from billing.money import ROUNDING

#: Those that do not have two decimals.
DECIMALS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"), 0),
    **dict.fromkeys(("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}
USUAL = 2


def decimals_of(currency: str) -> int:
    """Return how many decimals the smallest coin has."""
    return DECIMALS.get(currency, USUAL)


def payable(amount: Decimal, currency: str) -> Decimal:
    """Round to whole coins, halves away from zero."""
    return amount.quantize(Decimal(1).scaleb(-decimals_of(currency)), context=ROUNDING)
