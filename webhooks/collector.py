"""What is due and what is under way, at the moment of a scrape.

Invariant: what cannot be read is absent, never 0.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError

from prometheus_client.core import GaugeMetricFamily, Metric

from core.errors import DatabaseUnavailable
from core.exposition import ScrapeCollector
from webhooks.deliverer import Deliverer

READ_SECONDS = 3.0


class DueCollector(ScrapeCollector):
    """Asks a deliverer that lives on another thread's loop."""

    def __init__(self, deliverer: Deliverer, loop: asyncio.AbstractEventLoop) -> None:
        self._deliverer = deliverer
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Return what is under way here, and what is due anywhere if SQL answers."""
        running = self._deliverer.running
        yield GaugeMetricFamily("penstock_webhooks_running", "Attempts under way", value=running)
        found = self._read()
        up = float(found is not None)
        yield GaugeMetricFamily("penstock_database_up", "1 when SQL answered this scrape", value=up)
        if found is None:
            return
        count, seconds = found
        yield GaugeMetricFamily("penstock_webhooks_due", "Deliveries that are due", value=count)
        yield GaugeMetricFamily(
            "penstock_webhooks_due_age_seconds",
            "How long the oldest of them has been due",
            value=seconds,
        )

    def _read(self) -> tuple[int, float] | None:
        reading = asyncio.run_coroutine_threadsafe(self._deliverer.backlog(), self._loop)
        try:
            return reading.result(READ_SECONDS)
        except (DatabaseUnavailable, FutureTimeoutError):
            reading.cancel()
            return None
