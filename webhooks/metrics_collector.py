"""Metrics of a deliverer process: attempts that are running, deliveries that are due.

Invariant: a value that cannot be read is absent, never 0.
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
    """Reads a deliverer whose event loop runs in another thread."""

    def __init__(self, deliverer: Deliverer, loop: asyncio.AbstractEventLoop) -> None:
        self._deliverer = deliverer
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Yield the running attempts of this process and, if SQL answers, all due deliveries."""
        running = self._deliverer.running
        yield GaugeMetricFamily(
            "penstock_webhooks_running", "Webhook attempts that are running", value=running
        )
        backlog = self._read()
        up = float(backlog is not None)
        yield GaugeMetricFamily("penstock_database_up", "1 when SQL answered this scrape", value=up)
        if backlog is None:
            return
        count, seconds = backlog
        yield GaugeMetricFamily(
            "penstock_webhooks_due", "Webhook deliveries that are due", value=count
        )
        yield GaugeMetricFamily(
            "penstock_webhooks_due_age_seconds",
            "How long the oldest due webhook delivery has been due",
            value=seconds,
        )

    def _read(self) -> tuple[int, float] | None:
        reading = asyncio.run_coroutine_threadsafe(self._deliverer.backlog(), self._loop)
        try:
            return reading.result(READ_SECONDS)
        except (DatabaseUnavailable, FutureTimeoutError):
            reading.cancel()
            return None
