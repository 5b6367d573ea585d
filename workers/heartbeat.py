"""The heartbeat: one call per period renews all leases of a worker.

It also learns the queue's mode and finds what only time shows: lost leases, an engine that hangs,
a circuit breaker whose probe is due. Invariant: a lease that Redis reports as lost ends its attempt
unless that attempt is ending already.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from core.errors import EngineDead, StoreUnavailable
from core.redis.client import guarded
from core.settings.tree import Settings
from jobs.model_registry import ModelRegistry, ServedModel
from jobs.store.job_store import JobStore
from jobs.store.queue_control import QueueMode
from workers.runner import Runner
from workers.worker_state import WorkerState

log = structlog.get_logger()

RETRY_SECONDS = 0.1
LEAVE_SECONDS = 0.5
#: A pause that takes longer than it should by so much: the process was stopped, or had no CPU.
FROZEN_SECONDS = 1.0


class Heartbeat:
    """Renews the leases of one worker."""

    def __init__(
        self,
        store: JobStore,
        registry: ModelRegistry,
        runner: Runner,
        state: WorkerState,
        settings: Settings,
        *,
        describe: Callable[[], bytes],
        set_mode: Callable[[QueueMode], None],
        probe_if_due: Callable[[], None],
    ) -> None:
        """Create a heartbeat that does not run yet.

        Args:
            store: The job store.
            registry: Where the served model is kept registered.
            runner: Its attempts hold the leases.
            state: The worker's state; `last_contact` is written.
            settings: The worker's settings.
            describe: Returns the worker's description as JSON, for the status route.
            set_mode: Called with the queue's mode after each heartbeat.
            probe_if_due: Called after each heartbeat; it probes the engine if that is due.
        """
        self._store = store
        self._registry = registry
        self._runner = runner
        self._state = state
        self._settings = settings
        self._describe = describe
        self._set_mode = set_mode
        self._probe_if_due = probe_if_due
        self._wake = asyncio.Event()

    async def run(self, model: ServedModel) -> None:
        """Beat until cancelled; retry soon while Redis does not answer.

        Args:
            model: The served model, which stays registered while this runs.
        """
        while True:
            pause = self._settings.lease.heartbeat_seconds
            try:
                await self._beat(model)
            except StoreUnavailable:
                jobs = len(self._runner.attempts)
                log.warning("heartbeat_failed_store_unavailable", jobs=jobs)
                pause = min(pause, RETRY_SECONDS)
            self._check_hung()
            self._probe_if_due()
            began = time.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            self._wake.clear()
            if time.monotonic() - began - pause > FROZEN_SECONDS:
                # The process did not run meanwhile, so the engine's silence is not its own.
                self._runner.progress()

    def beat_soon(self) -> None:
        """Send the next heartbeat now, because the worker's phase has changed."""
        self._wake.set()

    async def leave(self) -> None:
        """Take this worker off the lists at its end, instead of when its last heartbeat expires."""
        state, keys = self._state, self._store.keys
        try:
            async with (
                asyncio.timeout(LEAVE_SECONDS),
                guarded(),
                self._store.redis.pipeline() as together,
            ):
                together.zrem(keys.part(state.queue, "workers"), state.id)
                together.hdel(keys.part(state.queue, "slots"), state.id)
                together.delete(keys.worker(state.id))
                await together.execute()
        except (StoreUnavailable, TimeoutError):
            log.warning("departure_not_reported_store_unavailable")

    async def _beat(self, model: ServedModel) -> None:
        state = self._state
        fences = {attempt.id: attempt.claimed.fence for attempt in self._runner.attempts}
        slots = state.slots if state.phase == "ready" else 0
        lost, note, _ = await asyncio.gather(
            self._store.renew(state.queue, state.id, slots, self._describe(), list(fences.items())),
            self._store.control.mode(state.queue),
            self._registry.keep(model),
        )
        state.last_contact = time.monotonic()
        self._set_mode(note.mode)
        for job_id in lost:
            attempt = self._runner.attempts.of_job(job_id)
            if attempt is None or attempt.stopping:
                continue
            if attempt.claimed.fence == fences[job_id]:
                self._runner.lose(attempt)

    def _check_hung(self) -> None:
        """Exit if the engine is silent although it has work."""
        silent = self._runner.seconds_silent()
        if silent > self._settings.worker.hang_seconds:
            self._runner.dead(EngineDead(f"no engine step for {silent:.0f} s"))
