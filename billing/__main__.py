"""The ledger process: `python -m billing`. Two consumers, so that one reads while one commits.

Invariant: any number of these may run; none of them needs the others.
"""

import asyncio
import os
import socket
from datetime import UTC, datetime, timedelta

import structlog

from billing.errors import DatabaseUnavailable
from billing.ledger.collector import MoneyCollector
from billing.ledger.consumer import OutboxConsumer
from core import metrics
from core.db.engine import Database
from core.exposition import Exposition
from core.ids import new_id
from core.runtime.health_server import HealthServer, only_waits
from core.runtime.process import run_process, until_told
from core.settings.tree import Settings
from jobs.archive.job_archive import purge_archive
from jobs.store.factory import open_store

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
        OutboxConsumer(store, database, settings.billing, f"{name}-{number}")
        for number in range(CONSUMERS)
    ]
    loop = asyncio.get_running_loop()
    host, port = settings.billing.health_host, settings.billing.health_port
    exposition = Exposition("ledger", metrics.LEDGER, MoneyCollector(database, loop))
    health = HealthServer(host, port, only_waits, only_waits, exposition)
    health.start()
    running = until_told(
        *(consumer.run() for consumer in consumers),
        keep_archive_short(database, settings.billing.archive_days),
    )
    log.info("ledger_started")
    try:
        await running
    except asyncio.CancelledError:
        log.info("ledger_stopped")
    finally:
        health.close()
        await database.close()
        await store.close()


if __name__ == "__main__":
    run_process("ledger", run_ledger)
