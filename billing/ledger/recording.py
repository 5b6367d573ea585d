"""Converts an outbox entry to a row of the ledger. Pure: prices and closed months are arguments."""

from collections.abc import Collection
from datetime import datetime

from billing.months import first_open, month_of
from billing.pricing.price_book import PriceBook
from billing.pricing.rating import Price, TokenCounts, charged_tokens, rate
from billing.unix_time import from_unix_ms
from core.db.bulk_insert import Row
from jobs.fairness import ServiceTier
from jobs.store.usage_outbox import UsageEntry

#: The columns that stay null until the event has a price.
PRICE_COLUMNS = (
    *("price_version_id", "currency", "multiplier"),
    *("input_amount", "cached_amount", "output_amount"),
)


def usage_row(entry: UsageEntry, prices: PriceBook, closed: Collection[str], now: datetime) -> Row:
    """Return the usage event of an entry; its amounts are None if there was no price.

    Args:
        entry: usage of a finished job; times in Unix milliseconds.
        prices: all price versions; the one valid when the job finished applies.
        closed: closed months; usage of one of them is late and billed in the first open month.
        now: when it is recorded.

    Raises:
        ValueError, OverflowError: the usage is inconsistent.
    """
    finished = from_unix_ms(entry.finished)
    own_month = month_of(finished)
    month = first_open(own_month, closed)
    charged = charged_tokens(
        entry.status,
        entry.input_tokens,
        entry.cached_input_tokens,
        entry.output_tokens,
        entry.vectors,
    )
    return {
        "job_id": entry.job_id,
        "account_id": entry.account,
        "key_id": entry.key_id,
        "model": entry.model,
        "service_tier": entry.service_tier,
        "status": entry.status,
        "attempt": entry.attempt,
        "last_seq": entry.last_seq,
        "input_tokens": entry.input_tokens,
        "cached_tokens": entry.cached_input_tokens,
        "output_tokens": entry.output_tokens,
        "run_ms": entry.run_ms,
        "created_at": from_unix_ms(entry.created),
        "started_at": from_unix_ms(entry.started) if entry.started else None,
        "finished_at": finished,
        "recorded_at": now,
        "month": month,
        "late": month != own_month,
        "weights": entry.weights,
        "vectors": entry.vectors,
        "charged_input_tokens": charged.input,
        "charged_cached_tokens": charged.cached_input,
        "charged_output_tokens": charged.output,
        **price_columns(charged, prices.at(entry.model, finished), entry.service_tier),
    }


def price_columns(charged: TokenCounts, price: Price | None, tier: ServiceTier) -> Row:
    """Return the values of PRICE_COLUMNS, all None without a price."""
    if price is None:
        return dict.fromkeys(PRICE_COLUMNS)
    cost = rate(charged, price, tier)
    amounts = (cost.input, cost.cached_input, cost.output)
    values = (cost.price_id, cost.currency, cost.multiplier, *amounts)
    return dict(zip(PRICE_COLUMNS, values, strict=True))
