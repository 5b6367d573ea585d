"""One worker's parts on one event loop: engine, batcher, runner, heartbeat, control channel.

Invariant: a background task that ends with an error ends the worker, and the error is logged; its
jobs continue elsewhere when their leases expire. On SIGTERM `drain` stops claiming, and
`runner.py` lets short jobs finish and hands the others over.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import structlog
from redis.exceptions import RedisError

from core import metrics
from core.errors import EngineDead, EngineError, StoreUnavailable
from core.exposition import Exposition
from core.ids import new_id
from core.runtime.health_server import HealthServer
from core.settings.engine import EngineSettings
from core.settings.tree import Settings
from jobs.model_registry import ModelRegistry, ServedModel
from jobs.store.queue_control import QueueMode
from jobs.store.store_factory import open_store
from workers.background_tasks import BackgroundTasks
from workers.batcher import Acknowledgeable, Batcher
from workers.circuit_breaker import CircuitBreaker
from workers.control_channel import ControlChannel
from workers.engine_factory import create_engine
from workers.engines.base import EngineInfo
from workers.engines.tokeniser_service import TokeniserService
from workers.engines.weights_digest import weights_digest
from workers.heartbeat import Heartbeat
from workers.loading import LoadingReport
from workers.runner import Runner
from workers.worker_health import WorkerHealth
from workers.worker_state import WorkerState

log = structlog.get_logger()

RECONNECT_SECONDS = 0.5


class WorkerService:
    """One worker: one engine that serves one queue. Use it from its event loop's thread only."""

    def __init__(self, settings: Settings, fatal: Callable[[BaseException], None]) -> None:
        """Create a worker that is not started.

        Args:
            settings: The worker's settings.
            fatal: Called with the error after which the process must exit.
        """
        self._settings = settings
        self._fatal = fatal
        name = f"{socket.gethostname()}-{os.getpid()}-{new_id('w')[-6:]}"
        self._state = WorkerState(name, settings.engine.served_name)
        self._tasks = BackgroundTasks(fatal)
        self._claiming: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the engine, then begin to claim jobs.

        Raises:
            EngineDead: the engine could not be loaded.
        """
        self._create_parts()
        settings = self._settings.engine
        began = time.monotonic()
        log.info(
            "engine_loading",
            phase="loading",
            kind=settings.kind,
            model=settings.model,
            core=settings.core,
        )
        async with LoadingReport(self._store, self._state, self._tasks).during():
            info = self._state.engine = await self._engine.start(self._runner)
        digest = await asyncio.to_thread(_digest, settings)
        self._state.weights = self._runner.weights = self._batcher.weights = digest
        model = _served_model(info)
        await self._register(model)
        log.info(
            "engine_ready",
            phase="ready",
            seconds=round(time.monotonic() - began, 1),
            slots=info.slots,
            weights=digest,
        )
        if self._state.phase == "draining":
            return  # SIGTERM came while the model loaded
        self._state.phase = "ready"
        self._claiming = self._tasks.spawn(self._batcher.run())
        self._tasks.spawn(self._runner.writer.run())
        self._tasks.spawn(self._heartbeat.run(model))
        self._tasks.spawn(self._control.run())
        self._tokeniser.start(self._tasks.spawn)

    def _create_parts(self) -> None:
        settings, state = self._settings, self._state
        self._store = open_store(settings)
        self._registry = ModelRegistry(self._store.redis, self._store.keys)
        self._engine = create_engine(settings.engine)
        self._breaker = CircuitBreaker(settings.breaker, time.monotonic)
        self._runner = Runner(
            self._store,
            self._engine,
            self._breaker,
            settings,
            state.id,
            room_changed=self._room_changed,
            fatal=self._fatal,
        )
        self._batcher = Batcher(
            self._store,
            settings.queue,
            state.queue,
            state.id,
            room=self._free_slots,
            occupancy=lambda: self._runner.occupancy,
            held=self._make_way,
            start=self._runner.start,
        )
        health = WorkerHealth(state, settings, self._engine, self._runner, self._breaker)
        self._heartbeat = Heartbeat(
            self._store,
            self._registry,
            self._runner,
            state,
            settings,
            describe=health.describe,
            set_mode=self._set_mode,
            probe_if_due=self._probe_if_due,
        )
        self._control = ControlChannel(self._store, state.id, self._runner, self._set_mode)
        self._tokeniser = TokeniserService(self._store, self._engine, settings)
        self._health = HealthServer(
            settings.worker.health_host,
            settings.worker.health_port,
            health.liveness,
            health.readiness,
            Exposition("worker", *health.collectors()),
            settings.metrics.token,
        )
        self._health.start()

    async def _register(self, model: ServedModel) -> None:
        while True:
            try:
                await self._registry.register(model)
            except (RedisError, OSError) as error:
                log.warning("model_register_failed", error=type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)
            else:
                return

    def offer(self, ticket: Acknowledgeable) -> None:
        """Take a ticket from the consumer.

        Args:
            ticket: Acknowledged when its job ended, or when there was no job for it.
        """
        if self._state.phase == "draining":
            ticket.done()
        else:
            self._batcher.offer(ticket)

    def dead_letter(self, raw: Any, reason: str, ticket: Acknowledgeable | None) -> None:
        """Keep a message that is no ticket in the dead-letter list, then acknowledge it.

        Args:
            raw: The message's body.
            reason: Why it cannot be read, for the log.
            ticket: What to acknowledge; None if Celery has rejected the message already.
        """
        metrics.dead_tickets.inc()
        log.error("ticket_unreadable", reason=reason)
        self._tasks.spawn(self._keep_dead_letter(raw, ticket))

    async def _keep_dead_letter(self, raw: Any, ticket: Acknowledgeable | None) -> None:
        try:
            await self._store.dead_letter_ticket(raw if isinstance(raw, bytes | str) else repr(raw))
        except StoreUnavailable:
            log.exception("dead_ticket_not_kept", size=len(str(raw)))
        if ticket is not None:
            ticket.done()

    def _free_slots(self) -> int:
        """Return how many jobs may be claimed now.

        It is 0 once the engine is dead, while the queue starts nothing, so that tickets are kept
        and not used up, while the engine still has waiting sequences, because these need its free
        memory, and while a job runs that must be alone.
        """
        if self._state.phase != "ready" or self._runner.dying:
            return 0
        if not self._breaker.allows_claims:
            return 0
        if not self._state.mode.runs or self._engine.load().waiting:
            return 0
        attempts = self._runner.attempts
        return 0 if attempts.closed else self._state.slots - len(attempts)

    def _room_changed(self) -> None:
        self._batcher.room_changed()

    def _make_way(self, waited: float) -> None:
        """Give short jobs time to end, then hand the rest over, as in a drain."""
        if waited >= self._settings.worker.drain_seconds:
            self._runner.make_way()

    def _set_mode(self, mode: QueueMode) -> None:
        """Pause or resume claiming."""
        if mode is not self._state.mode:
            log.info("queue_mode_changed", queue=self._state.queue, mode=mode)
            self._state.mode = mode
            self._room_changed()

    def _probe_if_due(self) -> None:
        if self._breaker.begin_probe():
            self._tasks.spawn(self._probe())

    async def _probe(self) -> None:
        """Generate one token to see whether a failing engine works again."""
        log.info("breaker_probes")
        healthy = False
        try:
            async with asyncio.timeout(self._settings.breaker.probe_timeout_seconds):
                await self._engine.probe()
            healthy = True
        except (EngineError, TimeoutError) as error:
            log.warning("breaker_probe_failed", error=repr(error))
        except EngineDead as error:
            self._runner.dead(error)
        self._breaker.end_probe(healthy=healthy)
        self._room_changed()

    async def drain(self) -> None:
        """Stop claiming, wait for short jobs to end, hand the rest over to other workers."""
        self._state.phase = "draining"
        if self._claiming is None:
            return
        self._heartbeat.beat_soon()
        self._tokeniser.stop()
        log.info("drain_started", jobs=len(self._runner.attempts))
        self._batcher.stop()
        await self._claiming
        await self._runner.drain(self._settings.worker.drain_seconds)
        log.info("drain_ended")

    async def close(self) -> None:
        """Stop the background tasks and free the device."""
        await self._tasks.cancel()
        await self._heartbeat.leave()
        await self._engine.close()
        self._health.close()
        await self._store.close()


def _digest(settings: EngineSettings) -> str:
    """Return the digest of the weights; empty if the model's files cannot be found."""
    try:
        return weights_digest(settings)
    except (OSError, ValueError) as error:
        log.warning("weights_digest_unknown", model=settings.model, error=repr(error))
        return ""


def _served_model(info: EngineInfo) -> ServedModel:
    return ServedModel(
        info.served_name,
        info.max_model_len,
        info.kind,
        int(time.time()),
        info.task,
        frozenset(info.modalities),
    )
