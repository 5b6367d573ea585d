"""Costs of jobs from prices kept in this process, so that no request waits for SQL.

Invariant: a cost that is shown equals the ledger's. A change of price is stored LEAD before it
becomes valid, so prices read now are right for every job that finishes within VALID_FOR; for later
jobs no cost is shown until prices have been read again.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from billing.pricing.price_book import PriceBook
from billing.pricing.prices import LEAD, load_prices
from billing.pricing.rating import Cost, charged_tokens, rate
from billing.unix_time import from_unix_ms
from core.db.database import Database
from core.errors import DatabaseUnavailable
from jobs.events import Usage
from jobs.fairness import ServiceTier
from jobs.job import Job
from jobs.result import JobResult
from jobs.status import Status

log = structlog.get_logger()

REFRESH_SECONDS = 3.0

#: How long prices are valid after they were read; the other half of LEAD allows for clock skew.
VALID_FOR = LEAD / 2

PRICES_UNAVAILABLE = "Prices are temporarily unavailable"
NO_PRICE = "The model had no price when the job finished"
INCONSISTENT_USAGE = "Recorded usage is inconsistent and is under review"


@dataclass(frozen=True, slots=True)
class JobCost:
    """A job's cost, or a note that says why there is none; both None until the job has ended."""

    cost: Cost | None = None
    note: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Return the response header that names the price version."""
        return {} if self.cost is None else {"X-Penstock-Price-Version": self.cost.price_id}


NOT_ENDED = JobCost()


class CostCache:
    """The prices known to this process, refreshed every REFRESH_SECONDS."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.prices = PriceBook()
        self._valid_until: datetime | None = None
        self._unavailable = False

    async def keep_fresh(self) -> None:
        """Refresh the prices every REFRESH_SECONDS until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    async def refresh(self) -> None:
        """Read the prices; if SQL does not answer, the prices known so far stay."""
        started = datetime.now(UTC)
        try:
            async with self._database.read() as connection:
                self.prices = await load_prices(connection)
        except DatabaseUnavailable as error:
            if not self._unavailable:
                log.warning("prices_not_read", cause=str(error.__cause__).partition("\n")[0])
            self._unavailable = True
        else:
            self._valid_until = started + VALID_FOR
            self._unavailable = False

    def of(self, job: Job) -> JobCost:
        """Return the cost of a job from its record.

        Returns:
            The exact cost in the price's currency, or a note that says why there is none; an empty
            `JobCost` while the job has not ended.
        """
        usage = Usage(
            input_tokens=job.input_tokens,
            cached_input_tokens=job.cached_input_tokens,
            output_tokens=job.output_tokens,
            vectors=job.vectors,
        )
        return self._cost(job, job.status, usage, job.finished)

    def at_end(self, job: Job, finished: Mapping[str, Any]) -> JobCost:
        """Return the cost of a job from the data of its `finished` event (times in seconds)."""
        return self._cost(
            job, Status(finished["status"]), finished["usage"], _ms(finished["finished_at"])
        )

    def of_result(self, job: Job, result: JobResult) -> JobCost:
        """Return the cost of a job from the result folded from its event log."""
        if result.status is None or result.usage is None or result.finished_at is None:
            return NOT_ENDED
        return self._cost(job, Status(result.status), result.usage, _ms(result.finished_at))

    def _cost(self, job: Job, status: Status, usage: Usage, finished: int) -> JobCost:
        if not status.is_terminal:
            return NOT_ENDED
        ended = from_unix_ms(finished)
        if self._valid_until is None or ended >= self._valid_until:
            return JobCost(note=PRICES_UNAVAILABLE)
        price = self.prices.at(job.queue, ended)
        if price is None:
            return JobCost(note=NO_PRICE)
        counts = usage["input_tokens"], usage["cached_input_tokens"], usage["output_tokens"]
        try:
            charged = charged_tokens(status, *counts, usage.get("vectors", 0))
        except ValueError:
            return JobCost(note=INCONSISTENT_USAGE)
        return JobCost(rate(charged, price, ServiceTier(job.spec.service_tier)))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
