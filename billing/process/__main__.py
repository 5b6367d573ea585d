"""The ledger process, `python -m billing.process`: moves usage from Redis into the ledger in SQL.

It runs two consumers, so that one reads while the other commits. Invariant: any number of these
processes may run, and each works alone.
"""

import asyncio
import os
import socket
from datetime import UTC, datetime, timedelta

import structlog

from billing.ledger.account_metrics import AccountMetrics
from billing.ledger.consumer import OutboxConsumer
from billing.process.metrics_collector import MoneyCollector
from core import metrics
from core.db.database import Database
from core.errors import DatabaseUnavailable
from core.exposition import Exposition
from core.ids import new_id
from core.runtime.health_server import HealthServer, always_live
from core.runtime.process import run_process, run_until_signal
from core.settings.tree import Settings
from jobs.archive.job_archive import purge_archive
from jobs.store.store_factory import open_store

log = structlog.get_logger()

CONSUMERS = 2
PURGE_SECONDS = 600.0


async def keep_archive_short(database: Database, days: int) -> None:
    """Delete archived jobs that finished more than `days` days ago, every PURGE_SECONDS."""
    while True:
        before = datetime.now(UTC) - timedelta(days=days)
        try:
            while await purge_archive(database, before):
                pass
        except DatabaseUnavailable:
            log.warning("archive_not_purged")
        await asyncio.sleep(PURGE_SECONDS)


async def run_ledger(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; another process repeats a batch that was interrupted."""
    store = open_store(settings)
    database = Database(settings.database, "ledger")
    name = f"{socket.gethostname()}-{os.getpid()}-{new_id('c')[-6:]}"
    accounts = AccountMetrics(settings.billing.metric_accounts)
    consumers = [
        OutboxConsumer(store, database, settings.billing, f"{name}-{number}", accounts)
        for number in range(CONSUMERS)
    ]
    loop = asyncio.get_running_loop()
    host, port = settings.billing.health_host, settings.billing.health_port
    exposition = Exposition("ledger", metrics.LEDGER, MoneyCollector(database, loop))

    def readiness() -> str | None:
        return next((each.problem for each in consumers if each.problem), None)

    token = settings.metrics.token
    health = HealthServer(host, port, always_live, readiness, exposition, token)
    health.start()
    running = run_until_signal(
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
