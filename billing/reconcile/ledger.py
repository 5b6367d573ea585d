"""Checks every row of a month's ledger against the rules: charge, price and month.

SQL finds the rows that break a rule, with its own computation, in one pass;
`billing.pricing.rating` then says what they should be. Invariant: memory does not grow with the
month.
"""

from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Select,
    and_,
    case,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
)
from sqlalchemy.orm import aliased

from billing.ledger.ledger import closed_months
from billing.ledger.recording import PRICE_COLUMNS, price_columns
from billing.months import first_open, month_of
from billing.pricing.price_book import PriceBook
from billing.pricing.prices import load_prices
from billing.pricing.rating import ONE, RULES, ChargeRule, TokenCounts, charged_tokens
from billing.reconcile.findings import FindingKind, Findings
from billing.reconcile.jobs import EVENTS
from billing.reconcile.snapshot import snapshot
from core.db.database import Database
from core.db.sql_time import utc_text
from core.db.tables.base import table_of, typed_row
from core.db.tables.prices import MULTIPLIER_DECIMALS, PriceRow, PriceVersion
from core.db.tables.types import Money
from core.db.tables.usage import UsageEventRow
from jobs.fairness import ServiceTier
from jobs.status import Status

CHARGED = ("charged_input_tokens", "charged_cached_tokens", "charged_output_tokens")


async def check_ledger(database: Database, month: str, findings: Findings) -> None:
    """Note each row billed in this month that the rules would make differently."""
    async with snapshot(database) as connection:
        prices, closed = await load_prices(connection), await closed_months(connection)
        rows = select(func.count()).select_from(EVENTS).where(EVENTS.c.month == month)
        findings.count("ledger rows", await connection.scalar(rows) or 0)
        suspects = await connection.stream(_suspects(month, sqlite=database.is_sqlite))
        async for row in suspects:
            _explain(typed_row(UsageEventRow, row), prices, closed, findings)


def _explain(
    row: UsageEventRow, prices: PriceBook, closed: frozenset[str], findings: Findings
) -> None:
    """Compare a row with the row that its usage would give today."""
    before = findings.counts.total()
    _explain_charge(row, findings)
    _explain_month(row, closed, findings)
    _explain_price(row, prices, findings)
    # SQL selects every late row, right or wrong: there are few.
    if findings.counts.total() == before and not row.late:
        findings.add(
            FindingKind.PRICE, row.job_id, "rating", "the same in SQL and Python", "not the same"
        )


def _explain_charge(row: UsageEventRow, findings: Findings) -> None:
    usage = row.input_tokens, row.cached_tokens, row.output_tokens, row.vectors or 0
    try:
        expected = charged_tokens(Status(row.status), *usage)
    except ValueError as error:
        findings.add(FindingKind.CHARGE, row.job_id, "usage", "consistent usage", error)
        return
    for column, tokens in zip(CHARGED, expected, strict=True):
        findings.differ(FindingKind.CHARGE, row.job_id, column, tokens, getattr(row, column))


def _explain_month(row: UsageEventRow, closed: frozenset[str], findings: Findings) -> None:
    finish_month = month_of(row.finished_at)
    first = first_open(finish_month, closed)
    findings.differ(FindingKind.MONTH, row.job_id, "late", row.month != finish_month, row.late)
    if not finish_month <= row.month <= first:
        findings.add(FindingKind.MONTH, row.job_id, "month", first, row.month)


def _explain_price(row: UsageEventRow, prices: PriceBook, findings: Findings) -> None:
    charged = TokenCounts(
        row.charged_input_tokens, row.charged_cached_tokens, row.charged_output_tokens
    )
    price = prices.at(row.model, row.finished_at)
    if row.price_version_id is None:
        if any(charged):
            expected = "a price" if price is None else price.id
            findings.add(FindingKind.UNPRICED, row.job_id, "price_version_id", expected, None)
        return
    columns = price_columns(charged, price, ServiceTier(row.service_tier))
    for name in PRICE_COLUMNS:
        findings.differ(FindingKind.PRICE, row.job_id, name, columns[name], getattr(row, name))


def _suspects(month: str, *, sqlite: bool) -> Select[Any]:
    """Return the rows of a month that break a rule, as SQL computes it."""
    version, row = _versions(), EVENTS.c
    wrong = or_(_wrong_charge(), _wrong_month(sqlite=sqlite), _wrong_price(version, sqlite=sqlite))
    return (
        select(EVENTS)
        .outerjoin_from(EVENTS, version, version.c.id == row.price_version_id)
        .where(row.month == month, wrong)
    )


def _versions() -> CTE:
    """Return each price version in one row, with its three prices and the instant it ends."""
    version = table_of(PriceVersion)
    until = func.lead(version.c.valid_from).over(
        partition_by=version.c.model, order_by=version.c.valid_from
    )
    query = select(version, until.label("valid_until"))
    for kind in ("input", "cached_input", "output"):
        price = aliased(PriceRow)
        query = query.join(price, and_(price.version_id == version.c.id, price.kind == kind))
        query = query.add_columns(price.per_million.label(kind))
    return query.cte("versions")


def _wrong_charge() -> ColumnElement[bool]:
    row = EVENTS.c
    whole = [status.value for status, rule in RULES.items() if rule is ChargeRule.ALL]
    delivered = [status.value for status, rule in RULES.items() if rule is ChargeRule.DELIVERED]
    some = or_(row.output_tokens > 0, func.coalesce(row.vectors, 0) > 0)
    charged = or_(row.status.in_(whole), and_(row.status.in_(delivered), some))
    return or_(
        row.charged_input_tokens != case((charged, row.input_tokens - row.cached_tokens), else_=0),
        row.charged_cached_tokens != case((charged, row.cached_tokens), else_=0),
        row.charged_output_tokens != case((charged, row.output_tokens), else_=0),
    )


def _wrong_month(*, sqlite: bool) -> ColumnElement[bool]:
    """Return whether a row's month is wrong or late; late rows are few, and are all explained."""
    row = EVENTS.c
    own = utc_text(row.finished_at, "month", sqlite=sqlite)
    return or_(row.late, row.month != own)


def _wrong_price(versions: CTE, *, sqlite: bool) -> ColumnElement[bool]:
    version, row = versions.c, EVENTS.c
    charged = row.charged_input_tokens + row.charged_cached_tokens + row.charged_output_tokens
    multiplier = case(
        (row.service_tier == ServiceTier.PRIORITY.value, version.priority_multiplier),
        (row.service_tier == ServiceTier.FLEX.value, version.flex_multiplier),
        else_=literal(ONE, Money(MULTIPLIER_DECIMALS)),
    )
    # On SQLite both sides are scaled integers: tokens x price x multiplier has the amount's scale.
    scale: ColumnElement[Any] = literal_column("1" if sqlite else "1000000")
    amounts = (
        (row.input_amount, row.charged_input_tokens, version.input),
        (row.cached_amount, row.charged_cached_tokens, version.cached_input),
        (row.output_amount, row.charged_output_tokens, version.output),
    )
    wrong = or_(
        version.id.is_(null()),
        version.model != row.model,
        row.finished_at < version.valid_from,
        row.finished_at >= version.valid_until,
        row.currency.is_distinct_from(version.currency),
        row.multiplier.is_distinct_from(multiplier),
        *(
            (amount * scale).is_distinct_from(tokens * price * multiplier)
            for amount, tokens, price in amounts
        ),
    )
    return case((row.price_version_id.is_(null()), charged > 0), else_=wrong)
