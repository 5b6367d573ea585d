"""The ledger process: `python -m billing`. Two consumers, so that one reads while one commits.

Invariant: any number of these may run; none of them needs the others.
"""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from billing.archive import purge_archive
from billing.consumer import GROUP, Consumer
from billing.database import Database
from billing.errors import DatabaseUnavailable
from billing.warnings import deliver_warnings
from jobs import metrics
from jobs.errors import StoreUnavailable
from jobs.health import HealthServer
from jobs.ids import new_id
from jobs.logs import configure_logs
from jobs.open import open_store
from jobs.outbox import Outbox
from jobs.settings import Settings, get_settings
from jobs.store import JobStore

log = structlog.get_logger()

CONSUMERS = 2
GAUGE_SECONDS = 2.0
PURGE_SECONDS = 600.0


async def watch_backlog(store: JobStore) -> None:
    """Keep the gauges of the outbox; they are absent while it cannot be read."""
    outbox = Outbox(store.redis, store.keys, GROUP, "")
    gauges = (metrics.outbox_entries, metrics.outbox_age)
    while True:
        try:
            waiting, oldest = await outbox.backlog(), await outbox.oldest()
        except StoreUnavailable:
            for gauge in gauges:
                with suppress(KeyError):
                    gauge.remove(GROUP)
        else:
            age = 0.0 if oldest is None else max(0.0, time.time() - oldest / 1000)
            metrics.outbox_entries.labels(GROUP).set(waiting)
            metrics.outbox_age.labels(GROUP).set(age)
        await asyncio.sleep(GAUGE_SECONDS)


async def keep_archive_short(database: Database, days: int) -> None:
    """Delete archived jobs that are older than so many days."""
    while True:
        before = datetime.now(UTC) - timedelta(days=days)
        try:
            while await purge_archive(database, before):
                pass
        except DatabaseUnavailable:
            log.warning("archive_not_purged")
        await asyncio.sleep(PURGE_SECONDS)


async def run_ledger(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; a batch under way is given up and repeated by another."""
    store = open_store(settings)
    database = Database(settings.database, "ledger")
    name = f"{socket.gethostname()}-{os.getpid()}-{new_id('c')[-6:]}"
    consumers = [
        Consumer(store, database, settings.billing, f"{name}-{number}")
        for number in range(CONSUMERS)
    ]
    work = (
        *(consumer.run() for consumer in consumers),
        watch_backlog(store),
        deliver_warnings(database),
        keep_archive_short(database, settings.billing.archive_days),
    )
    running = asyncio.create_task(_all(work))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    log.info("ledger_started")
    try:
        await running
    except asyncio.CancelledError:
        log.info("ledger_stopped")
    finally:
        await database.close()
        await store.close()


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run everything until one fails; unlike a gather, this ends when the last of them has.

    A second cancellation while a connection to SQLite is closing would leave it waiting for ever.
    """
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)


def main() -> None:
    """Entry point."""
    settings = get_settings()
    configure_logs(settings.log, "ledger")
    billing = settings.billing
    health = HealthServer(billing.health_host, billing.health_port, _fine, _fine)
    health.start()
    asyncio.run(run_ledger(settings))


def _fine() -> None:
    """Alive is all it can be: when SQL or Redis is away it waits, and a restart mends nothing."""


if __name__ == "__main__":
    main()
