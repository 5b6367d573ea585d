"""The control process: the sweeper, one at a time by lock.

`python -m workers.control`. Invariant: any number may run; the holder of the lock sweeps, and
if it dies another takes over when the lock runs out.
"""

import asyncio
import os
import signal
import socket
from dataclasses import asdict

import structlog

from jobs import metrics
from jobs.errors import StoreUnavailable
from jobs.logs import configure_logs
from jobs.open import open_store
from jobs.settings import Settings, get_settings
from jobs.store import JobStore

log = structlog.get_logger()

LOCK_SECONDS = 3
RETRY_SECONDS = 0.5


class Sweeper:
    """Sweeps every queue each `lease.sweep_seconds` while it holds the lock."""

    def __init__(self, store: JobStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._name = f"{socket.gethostname()}-{os.getpid()}"

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                if await self._store.lock_sweeper(self._name, LOCK_SECONDS):
                    await self.sweep_once()
            except StoreUnavailable:
                log.warning("sweep_failed_store_unavailable")
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(self._settings.lease.sweep_seconds)

    async def sweep_once(self) -> None:
        """Sweep every queue and forget what is past its retention."""
        for queue in await self._store.queues():
            swept = asdict(await self._store.sweep(queue))
            for kind, count in swept.items():
                if count:
                    metrics.swept.labels(queue, kind).inc(count)
            if any(swept.values()):
                log.info("queue_swept", queue=queue, **swept)
        released = await self._store.holds.sweep()
        if released:
            metrics.holds_swept.inc(released)
            log.warning("holds_swept", count=released)
        await self._store.purge()


async def run_control(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    store = open_store(settings)
    sweeping = asyncio.create_task(Sweeper(store, settings).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, sweeping.cancel)
    log.info("control_started")
    try:
        await sweeping
    except asyncio.CancelledError:
        log.info("control_stopped")
    finally:
        await store.close()


def main() -> None:
    """Entry point of `python -m workers.control`."""
    settings = get_settings()
    configure_logs(settings.log, "control")
    asyncio.run(run_control(settings))


if __name__ == "__main__":
    main()
