"""Finds open batches and works on them, each in the hands of one process at a time.

Invariant: any number of processes may run. A lock in Redis says who has a batch and runs out when
its holder dies; a fence in SQL keeps out a holder that was only thought to be dead.
"""

import asyncio
import time
import traceback
from contextlib import suppress

import structlog

from batches import ids, repository
from batches.state_machine import AWAY, BatchStateMachine
from core import metrics
from core.errors import StoreUnavailable
from intake.services import Services
from jobs.store.transitions import Lock

log = structlog.get_logger()

#: A batch whose work ended with an error nobody expected is tried again after so long.
REST_SECONDS = 15.0


class BatchScheduler:
    """The batches this process has."""

    def __init__(self, api: Services, name: str) -> None:
        self._api = api
        self._name = name
        self._settings = api.settings.batches
        self._held: dict[str, asyncio.Task[None]] = {}
        self._rest_until: dict[str, float] = {}

    async def run(self) -> None:
        """Take what is open until cancelled; then let go of everything."""
        try:
            while True:
                try:
                    await self._look()
                except AWAY as error:
                    log.warning("feeder_waits", missing=error.code)
                metrics.batches_held.set(len(self._held))
                await asyncio.sleep(self._settings.poll_seconds)
        finally:
            held = list(self._held.values())
            for task in held:
                task.cancel()
            await asyncio.gather(*held, return_exceptions=True)

    async def _look(self) -> None:
        """Take what nobody has of the batches whose turn it is."""
        most = self._settings.concurrency_per_account
        for batch_id in await repository.open_batches(self._api.database, most):
            if len(self._held) >= self._settings.concurrency:
                return
            rests = self._rest_until.get(batch_id, 0.0) > time.monotonic()
            if batch_id not in self._held and not rests and await self._lock(batch_id):
                task = asyncio.create_task(self._hold(batch_id), name=batch_id)
                self._held[batch_id] = task

    async def _lock(self, batch_id: str) -> bool:
        seconds = self._settings.lease_seconds
        return await self._api.store.lock(ids.lock_name(batch_id), self._name, seconds)

    async def _hold(self, batch_id: str) -> None:
        """Work on a batch for as long as it is ours."""
        self._rest_until.pop(batch_id, None)
        try:
            row = await repository.take(self._api.database, batch_id)
            if row is not None:
                log.info("batch_taken", batch_id=batch_id, fence=row.fence, status=row.status)
                lock = Lock(ids.lock_name(batch_id), self._name)
                await self._work(BatchStateMachine(self._api, row, lock), batch_id)
        except repository.Superseded:
            log.warning("batch_lost", batch_id=batch_id)
        except AWAY as error:
            log.warning("batch_not_taken", batch_id=batch_id, missing=error.code)
        except Exception as error:  # noqa: BLE001 - others go on
            # Its text may quote what a client wrote; where it happened does not.
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("batch_failed", batch_id=batch_id, error=type(error).__name__, where=where)  # noqa: TRY400
            metrics.batch_errors.inc()
            self._rest_until[batch_id] = time.monotonic() + REST_SECONDS
        finally:
            del self._held[batch_id]
            with suppress(StoreUnavailable):
                await self._api.store.lock(ids.lock_name(batch_id), self._name, 0)

    async def _work(self, work: BatchStateMachine, batch_id: str) -> None:
        """Work, and keep the lock meanwhile."""
        tasks = [asyncio.create_task(work.run()), asyncio.create_task(self._keep(batch_id))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, batch_id: str) -> None:
        """Renew the lock until another has it."""
        while True:
            await asyncio.sleep(self._settings.lease_seconds / 3)
            try:
                if not await self._lock(batch_id):
                    raise repository.Superseded(batch_id)
            except StoreUnavailable:
                log.warning("batch_lock_not_renewed", batch_id=batch_id)
