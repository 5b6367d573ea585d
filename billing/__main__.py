"""The ledger process: `python -m billing`. Two consumers, so that one reads while one commits.

Invariant: any number of these may run; none of them needs the others.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from billing.archive import purge_archive
from billing.consumer import Consumer
from billing.database import Database
from billing.errors import DatabaseUnavailable
from billing.gauges import MoneyCollector
from jobs import metrics
from jobs.exposition import Exposition
from jobs.health import HealthServer
from jobs.ids import new_id
from jobs.logs import configure_logs
from jobs.open import open_store
from jobs.settings import Settings, get_settings
from jobs.tracing import close_tracing, configure_tracing

log = structlog.get_logger()

CONSUMERS = 2
PURGE_SECONDS = 600.0


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
        keep_archive_short(database, settings.billing.archive_days),
    )
    loop = asyncio.get_running_loop()
    host, port = settings.billing.health_host, settings.billing.health_port
    exposition = Exposition("ledger", metrics.LEDGER, MoneyCollector(database, loop))
    health = HealthServer(host, port, _fine, _fine, exposition)
    health.start()
    running = asyncio.create_task(_all(work))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    log.info("ledger_started")
    try:
        await running
    except asyncio.CancelledError:
        log.info("ledger_stopped")
    finally:
        health.close()
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
    configure_tracing(settings.trace, "ledger")
    asyncio.run(run_ledger(settings))
    close_tracing()


def _fine() -> None:
    """Alive is all it can be: when SQL or Redis is away it waits, and a restart mends nothing."""


if __name__ == "__main__":
    main()
