"""Currencies (ISO 4217): which there are, the decimals of their smallest units, and rounding."""

from decimal import Decimal

from billing.money import ROUNDING

#: The currencies that can be paid with; funds, metals and test codes are left out.
CODES = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN "
    "BZD CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP "
    "GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS "
    "KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR "
    "MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD "
    "RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP "
    "TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAD XAF XCD XCG XOF XPF YER ZAR "
    "ZMW ZWG"
)
CURRENCIES = frozenset(CODES.split())

#: The currencies that do not have two decimals.
DECIMALS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"), 0),
    **dict.fromkeys(("RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}
DEFAULT_DECIMALS = 2


def wrong_currency(code: str) -> str | None:
    """Return what is wrong with a currency's code; None if it is one of CURRENCIES."""
    if code in CURRENCIES:
        return None
    return (
        f"currency: expected an ISO 4217 code of three capital letters, such as USD, not {code!r}"
    )


def decimals_of(currency: str) -> int:
    """Return how many decimals the currency's smallest unit has, such as 2 for USD."""
    return DECIMALS.get(currency, DEFAULT_DECIMALS)


def payable(amount: Decimal, currency: str) -> Decimal:
    """Round an amount to the currency's smallest unit, halves away from zero."""
    return amount.quantize(Decimal(1).scaleb(-decimals_of(currency)), context=ROUNDING)
