"""The batch process, `python -m batches`: submits the requests of batches and sweeps files.

Invariant: any number of these processes may run, and none depends on another.
"""

import asyncio
import os
import socket

import structlog

from batches.file_references import FILE_REFERENCES
from batches.scheduler import BatchScheduler
from core import metrics
from core.exposition import Exposition
from core.ids import new_id
from core.runtime.health_server import HealthServer, always_live
from core.runtime.process import run_process, run_until_signal
from core.settings.tree import Settings
from files.object_cleanup import FileSweeper
from intake.services_factory import open_services

log = structlog.get_logger()


async def run_batches(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; another process then continues the open batches."""
    name = f"{socket.gethostname()}-{os.getpid()}-{new_id('f')[-6:]}"
    async with open_services(settings, "feeder") as services:
        host, port = settings.batches.health_host, settings.batches.health_port
        exposition = Exposition("feeder", metrics.API, metrics.BATCHES)
        sweeper = FileSweeper(services.database, services.object_store, FILE_REFERENCES)
        scheduler = BatchScheduler(services, name)
        token = settings.metrics.token
        health = HealthServer(host, port, always_live, lambda: scheduler.problem, exposition, token)
        health.start()
        running = run_until_signal(scheduler.run(), sweeper.run(settings.files))
        log.info("feeder_started")
        try:
            await running
        except asyncio.CancelledError:
            log.info("feeder_stopped")
        finally:
            health.close()


if __name__ == "__main__":
    run_process("feeder", run_batches)
