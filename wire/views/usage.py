"""Pages of usage totals as JSON and as CSV."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from billing.exports.csv_line import harmless
from billing.money import plain
from billing.reports.usage import UsageQuery, UsageTotal

COUNTS = ("jobs", "input_tokens", "cached_input_tokens", "output_tokens")


def usage_page(query: UsageQuery, totals: Sequence[UsageTotal], following: str | None) -> Any:
    """Build a page as JSON; `following` is the cursor of the next page."""
    return {
        "object": "list",
        "account": query.account,
        "group_by": list(query.by),
        "from": query.since.isoformat(),
        "to": query.until.isoformat(),
        "data": [_row(total) for total in totals],
        "has_more": following is not None,
        "next": following,
    }


def usage_csv(query: UsageQuery, totals: Sequence[UsageTotal]) -> str:
    """Build a page as CSV (RFC 4180) with a header line; null becomes an empty field.

    As in an export, no name is a formula.
    """
    file = io.StringIO()
    columns = (*query.by, *COUNTS, "currency", "amount")
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    for total in totals:
        group = {name: value and harmless(value) for name, value in total.group.items()}
        writer.writerow(_row(total) | group)
    return file.getvalue()


def _row(total: UsageTotal) -> dict[str, Any]:
    return {
        **total.group,
        **{name: getattr(total, name) for name in COUNTS},
        "currency": total.currency,
        "amount": None if total.amount is None else plain(total.amount),
    }
