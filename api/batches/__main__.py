"""The feeder: `python -m api.batches`. It feeds batches to the queue and sweeps files.

Invariant: any number of these may run; none of them needs the others.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Coroutine, Iterable
from typing import Any

import structlog

from api.batches.feeder import Feeder
from api.files.sweeping import keep_swept
from api.opening import open_services
from jobs import metrics
from jobs.exposition import Exposition
from jobs.health import HealthServer
from jobs.ids import new_id
from jobs.logs import configure_logs
from jobs.settings import Settings, get_settings
from jobs.tracing import close_tracing, configure_tracing

log = structlog.get_logger()


async def run_batches(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; another process goes on with what is under way."""
    name = f"{socket.gethostname()}-{os.getpid()}-{new_id('f')[-6:]}"
    async with open_services(settings, "feeder") as api:
        host, port = settings.batches.health_host, settings.batches.health_port
        exposition = Exposition("feeder", metrics.API, metrics.BATCHES)
        health = HealthServer(host, port, _fine, _fine, exposition)
        health.start()
        work = (
            Feeder(api, name).run(),
            keep_swept(api.database, api.objects, settings.files),
        )
        running = asyncio.create_task(_all(work))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        log.info("feeder_started")
        try:
            await running
        except asyncio.CancelledError:
            log.info("feeder_stopped")
        finally:
            health.close()


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run everything until one fails."""
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)


def main() -> None:
    """Entry point."""
    settings = get_settings()
    configure_logs(settings.log, "feeder")
    configure_tracing(settings.trace, "feeder")
    asyncio.run(run_batches(settings))
    close_tracing()


def _fine() -> None:
    """Alive is all it can be: when something is away it waits, and a restart mends nothing."""


if __name__ == "__main__":
    main()
