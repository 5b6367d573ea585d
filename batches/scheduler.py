"""Claims open batches and runs them; each batch is run by one process at a time.

Invariant: any number of processes may run. A lock in Redis says which process has a batch and
expires when that process dies; a fence in SQL stops a process that has lost its lock unnoticed.
"""

import asyncio
import time
import traceback
from contextlib import suppress

import structlog

from batches import claims, ids
from batches.claims import Superseded
from batches.state_machine import OUTAGES, BatchStateMachine
from core import metrics
from core.errors import StoreUnavailable
from intake.services import Services
from jobs.store.transitions import Lock

log = structlog.get_logger()

#: After an unexpected error, a batch is not run again for so long.
ERROR_PAUSE_SECONDS = 15.0


class BatchScheduler:
    """The batches that this process runs."""

    def __init__(self, services: Services, name: str) -> None:
        """Create a scheduler; `name` identifies this process as the holder of locks."""
        self._services = services
        self._name = name
        self._settings = services.settings.batches
        #: Why no batch can be started now; None if all is well.
        self.problem: str | None = "has not looked for batches yet"
        self._running: dict[str, asyncio.Task[None]] = {}
        self._paused_until: dict[str, float] = {}

    async def run(self) -> None:
        """Start open batches until cancelled; then stop all of them and release their locks."""
        try:
            while True:
                try:
                    await self._services.store.check_writable()
                    await self._start_due()
                    self.problem = None
                except OUTAGES as error:
                    self.problem = f"waits: {error.code}"
                    log.warning("feeder_waits", missing=error.code)
                metrics.batches_held.set(len(self._running))
                await asyncio.sleep(self._settings.poll_seconds)
        finally:
            running = list(self._running.values())
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _start_due(self) -> None:
        """Start the due batches that no process runs."""
        per_account = self._settings.concurrency_per_account
        for batch_id in await claims.due_batches(self._services.database, per_account):
            if len(self._running) >= self._settings.concurrency:
                return
            paused = self._paused_until.get(batch_id, 0.0) > time.monotonic()
            if batch_id not in self._running and not paused and await self._lock(batch_id):
                task = asyncio.create_task(self._run_batch(batch_id), name=batch_id)
                self._running[batch_id] = task

    async def _lock(self, batch_id: str) -> bool:
        """Take or renew a batch's lock; returns whether this process holds it."""
        seconds = self._settings.lease_seconds
        return await self._services.store.lock(ids.lock_name(batch_id), self._name, seconds)

    async def _run_batch(self, batch_id: str) -> None:
        """Claim and run a batch whose lock this process holds; release the lock at the end."""
        self._paused_until.pop(batch_id, None)
        try:
            batch = await claims.claim_batch(self._services.database, batch_id)
            if batch is not None:
                log.info("batch_taken", batch_id=batch_id, fence=batch.fence, status=batch.status)
                lock = Lock(ids.lock_name(batch_id), self._name)
                await self._run_locked(BatchStateMachine(self._services, batch, lock), batch_id)
        except Superseded:
            log.warning("batch_lost", batch_id=batch_id)
        except OUTAGES as error:
            log.warning("batch_not_taken", batch_id=batch_id, missing=error.code)
        except Exception as error:  # noqa: BLE001 - the other batches go on
            # The error's text may quote a client's data; the trace does not.
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("batch_failed", batch_id=batch_id, error=type(error).__name__, where=where)  # noqa: TRY400
            metrics.batch_errors.inc()
            self._paused_until[batch_id] = time.monotonic() + ERROR_PAUSE_SECONDS
        finally:
            del self._running[batch_id]
            with suppress(StoreUnavailable):
                await self._services.store.lock(ids.lock_name(batch_id), self._name, 0)

    async def _run_locked(self, machine: BatchStateMachine, batch_id: str) -> None:
        """Run a batch, and renew its lock meanwhile."""
        tasks = [asyncio.create_task(machine.run()), asyncio.create_task(self._renew(batch_id))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew(self, batch_id: str) -> None:
        """Renew the lock until another process holds it."""
        while True:
            await asyncio.sleep(self._settings.lease_seconds / 3)
            try:
                if not await self._lock(batch_id):
                    raise Superseded(batch_id)
            except StoreUnavailable:
                log.warning("batch_lock_not_renewed", batch_id=batch_id)
