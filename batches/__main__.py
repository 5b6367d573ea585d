"""The feeder: `python -m batches`. It feeds batches to the queue and sweeps files.

Invariant: any number of these may run; none of them needs the others.
"""

import asyncio
import os
import socket

import structlog

from batches.file_sweeper import keep_swept
from batches.scheduler import BatchScheduler
from core import metrics
from core.exposition import Exposition
from core.ids import new_id
from core.runtime.health_server import HealthServer, only_waits
from core.runtime.process import run_process, until_told
from core.settings.tree import Settings
from intake.factory import open_services

log = structlog.get_logger()


async def run_batches(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; another process goes on with what is under way."""
    name = f"{socket.gethostname()}-{os.getpid()}-{new_id('f')[-6:]}"
    async with open_services(settings, "feeder") as api:
        host, port = settings.batches.health_host, settings.batches.health_port
        exposition = Exposition("feeder", metrics.API, metrics.BATCHES)
        health = HealthServer(host, port, only_waits, only_waits, exposition)
        health.start()
        running = until_told(
            BatchScheduler(api, name).run(),
            keep_swept(api.database, api.objects, settings.files),
        )
        log.info("feeder_started")
        try:
            await running
        except asyncio.CancelledError:
            log.info("feeder_stopped")
        finally:
            health.close()


if __name__ == "__main__":
    run_process("feeder", run_batches)
