"""What jobs cost, from a price book remembered in this process; no request waits for SQL.

Invariant: a cost that is shown equals the ledger's. Changes of price are known a minute ahead, so
a remembered book is right for every job that finished until shortly after it was read; for later
ones no cost is shown until it has been read again.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from billing.ledger.recording import instant
from billing.pricing.price_book import PriceBook
from billing.pricing.prices import LEAD, load_prices
from billing.pricing.rating import Cost, charged_tokens, rate
from core.db.engine import Database
from core.errors import DatabaseUnavailable
from jobs.events import Usage
from jobs.fairness import ServiceTier
from jobs.job import Job
from jobs.result import JobResult
from jobs.status import Status

log = structlog.get_logger()

REFRESH_SECONDS = 3.0

#: Half the lead is left for clocks that differ.
CERTAIN = LEAD / 2

UNKNOWN = "the prices cannot be read at the moment"
NO_PRICE = "the model had no price when the job finished"
IMPOSSIBLE = "the counted usage cannot be; a person will look at it"


@dataclass(frozen=True, slots=True)
class JobCost:
    """A job's cost, or why there is none to show; both None while it has not ended."""

    cost: Cost | None = None
    note: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Return the header that names the price."""
        return {} if self.cost is None else {"X-Penstock-Price-Version": self.cost.price_id}


OPEN = JobCost()


class CostCache:
    """The price book of this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.prices = PriceBook()
        self._certain_until: datetime | None = None
        self._away = False

    async def keep_fresh(self) -> None:
        """Read the book again and again until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    async def refresh(self) -> None:
        """Read the book; when it cannot be read, the old one stays."""
        began = datetime.now(UTC)
        try:
            async with self._database.read() as connection:
                self.prices = await load_prices(connection)
        except DatabaseUnavailable as error:
            if not self._away:
                log.warning("prices_not_read", cause=str(error.__cause__).partition("\n")[0])
            self._away = True
        else:
            self._certain_until = began + CERTAIN
            self._away = False

    def of(self, job: Job) -> JobCost:
        """Return the bill of a job as its record stands."""
        usage = Usage(
            input_tokens=job.input_tokens,
            cached_input_tokens=job.cached_tokens,
            output_tokens=job.output_tokens,
        )
        return self._bill(job, job.status, usage, job.finished)

    def at_end(self, job: Job, finished: Mapping[str, Any]) -> JobCost:
        """Return the bill of a job from the data of its `finished` event."""
        return self._bill(
            job, Status(finished["status"]), finished["usage"], _ms(finished["finished_at"])
        )

    def of_result(self, job: Job, result: JobResult) -> JobCost:
        """Return the bill of a job from its folded log."""
        if result.status is None or result.usage is None or result.finished_at is None:
            return OPEN
        return self._bill(job, Status(result.status), result.usage, _ms(result.finished_at))

    def _bill(self, job: Job, status: Status, usage: Usage, finished: int) -> JobCost:
        if not status.is_terminal:
            return OPEN
        ended = instant(finished)
        if self._certain_until is None or ended >= self._certain_until:
            return JobCost(note=UNKNOWN)
        price = self.prices.at(job.queue, ended)
        if price is None:
            return JobCost(note=NO_PRICE)
        counts = usage["input_tokens"], usage["cached_input_tokens"], usage["output_tokens"]
        try:
            charged = charged_tokens(status, *counts)
        except ValueError:
            return JobCost(note=IMPOSSIBLE)
        return JobCost(rate(charged, price, ServiceTier(job.spec.service_tier)))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
