"""Pages of usage, as JSON and as CSV."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from billing.money import plain
from billing.reports.usage import UsageQuery, UsageTotal

COUNTS = ("jobs", "input_tokens", "cached_input_tokens", "output_tokens")


def page_object(query: UsageQuery, totals: Sequence[UsageTotal], following: str | None) -> Any:
    """Return a page as JSON."""
    return {
        "object": "list",
        "account": query.account,
        "group_by": list(query.by),
        "from": query.since.isoformat(),
        "to": query.until.isoformat(),
        "data": [_row(one) for one in totals],
        "has_more": following is not None,
        "next": following,
    }


def page_csv(query: UsageQuery, totals: Sequence[UsageTotal]) -> str:
    """Return a page as CSV (RFC 4180) with a header line; null is an empty field."""
    file = io.StringIO()
    columns = (*query.by, *COUNTS, "currency", "amount")
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    writer.writerows(_row(one) for one in totals)
    return file.getvalue()


def _row(one: UsageTotal) -> dict[str, Any]:
    return {
        **one.group,
        **{name: getattr(one, name) for name in COUNTS},
        "currency": one.currency,
        "amount": None if one.amount is None else plain(one.amount),
    }
