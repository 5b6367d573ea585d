"""Differences found by a reconciliation: all are counted, the first ones of each kind are listed.

Invariant: memory is bounded by the number of kinds, however many rows differ.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from billing.money import plain

#: Rows between two progress reports: a report costs more than comparing a row.
PROGRESS_EVERY = 100


class FindingKind(StrEnum):
    """The kind of a difference; `docs/billing.md` says what each means and what to do."""

    NOT_RECORDED = "not-recorded"
    NOT_ENDED = "not-ended"
    SET_ASIDE = "set-aside"
    USAGE = "usage"
    LOG = "log"
    CHARGE = "charge"
    PRICE = "price"
    UNPRICED = "unpriced"
    MONTH = "month"
    SPENDING = "spending"
    INVOICE_LINE = "invoice-line"
    INVOICE = "invoice"
    GUARD = "guard"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference; `subject` is a job id or, by kind, another name."""

    kind: FindingKind
    subject: str
    what: str
    expected: str
    found: str


class Findings:
    """Collects differences and counts what was compared."""

    def __init__(self, listed_per_kind: int, progress: Callable[[str], None] | None = None) -> None:
        self._listed_per_kind = listed_per_kind
        self._progress = progress
        self.counts: Counter[FindingKind] = Counter()
        self.listed: list[Difference] = []
        self.compared: Counter[str] = Counter()

    @property
    def clean(self) -> bool:
        """Return whether nothing differs."""
        return not self.counts

    def add(
        self, kind: FindingKind, subject: str, what: str, expected: object, found: object
    ) -> None:
        """Add a difference."""
        self.counts[kind] += 1
        if self.counts[kind] <= self._listed_per_kind:
            self.listed.append(Difference(kind, subject, what, shown(expected), shown(found)))

    def differ(
        self, kind: FindingKind, subject: str, what: str, expected: object, found: object
    ) -> None:
        """Add a difference if the two values are not equal."""
        if expected != found:
            self.add(kind, subject, what, expected, found)

    def count(self, name: str, number: int = 1) -> None:
        """Count what was compared, and report the progress."""
        before = self.compared[name]
        self.compared[name] += number
        if (
            self._progress is not None
            and before // PROGRESS_EVERY < self.compared[name] // PROGRESS_EVERY
        ):
            self._progress(f"{self.compared[name]:,} {name}")


def shown(value: Any) -> str:
    """Write a value for people."""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    return "nothing" if value is None else str(value)
