"""Everything that lives on a worker's loop: engine, batcher, runner, heartbeat, control, probes.

Invariant: a background task that ends with an error ends the worker, loudly; the leases hand
its jobs on.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import structlog
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from core import metrics
from core.errors import EngineDead, EngineError, StoreUnavailable
from core.exposition import Exposition
from core.ids import new_id
from core.redis.client import messages
from core.runtime.health_server import HealthServer
from core.settings import Settings
from jobs.model_registry import ModelRegistry, ServedModel
from jobs.store.factory import open_store
from jobs.store.queue_control import QueueMode
from workers.batcher import Acknowledgeable, Batcher
from workers.circuit_breaker import CircuitBreaker
from workers.engines.base import EngineInfo, EngineLoad
from workers.engines.factory import create_engine
from workers.gpu_metrics import open_gpus
from workers.runner import Runner
from workers.worker_metrics import WorkerCollector

log = structlog.get_logger()

RECONNECT_SECONDS = 0.5
HEARTBEAT_RETRY_SECONDS = 0.1


class WorkerService:
    """One worker: one engine, one queue."""

    def __init__(self, settings: Settings, fatal: Callable[[BaseException], None]) -> None:
        self._settings = settings
        self._fatal = fatal
        self.id = f"{socket.gethostname()}-{os.getpid()}-{new_id('w')[-6:]}"
        self._queue = settings.engine.served_name
        self._state = "loading"
        self._info: EngineInfo | None = None
        self._last_contact = time.monotonic()
        self._mode = QueueMode.OPEN
        self._tasks: set[asyncio.Task[None]] = set()
        self._claiming: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the engine, then begin to claim. Raises EngineDead when it does not load."""
        settings = self._settings
        self._store = open_store(settings)
        self._registry = ModelRegistry(self._store.redis, self._store.keys)
        self._engine = create_engine(settings.engine)
        self._breaker = CircuitBreaker(settings.breaker, time.monotonic)
        self._runner = Runner(
            self._store,
            self._engine,
            self._breaker,
            settings,
            self.id,
            room_changed=self._room_changed,
            fatal=self._fatal,
        )
        self._batcher = Batcher(
            self._store,
            settings.queue,
            self._queue,
            self.id,
            room=self._room,
            busy=lambda: bool(self._runner.runs),
            start=self._runner.start,
        )
        host, port = settings.worker.health_host, settings.worker.health_port
        self._health = HealthServer(
            host, port, self._liveness, self._readiness, Exposition("worker", *self._collectors())
        )
        self._health.start()
        began = time.monotonic()
        log.info(
            "engine_loading",
            phase="loading",
            kind=settings.engine.kind,
            model=settings.engine.model,
            core=settings.engine.core,
        )
        self._info = await self._engine.start(self._runner)
        self._model = _described(self._info)
        await self._register()
        log.info(
            "engine_ready",
            phase="ready",
            seconds=round(time.monotonic() - began, 1),
            slots=self._info.slots,
        )
        if self._state == "draining":
            return  # told to stop meanwhile
        self._state = "ready"
        self._claiming = self._supervise(self._batcher.run())
        self._supervise(self._runner.writer.run())
        self._supervise(self._beat())
        self._supervise(self._listen())

    async def _register(self) -> None:
        while True:
            try:
                await self._registry.register(self._model)
            except (RedisError, OSError) as error:
                log.warning("model_register_failed", error=type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)
            else:
                return

    def _supervise(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self._fatal(error)

        task.add_done_callback(ended)
        self._tasks.add(task)
        return task

    # --- tickets ----------------------------------------------------------------------

    def offer(self, ticket: Acknowledgeable) -> None:
        """Take a ticket from the consumer."""
        if self._state == "draining":
            ticket.done()
        else:
            self._batcher.offer(ticket)

    def bury(self, raw: Any, reason: str, ticket: Acknowledgeable | None) -> None:
        """Put a message that is no ticket aside, then acknowledge it."""
        metrics.dead_tickets.inc()
        log.error("ticket_unreadable", reason=reason)
        self._supervise(self._bury(raw, ticket))

    async def _bury(self, raw: Any, ticket: Acknowledgeable | None) -> None:
        try:
            await self._store.dead_letter_ticket(raw if isinstance(raw, bytes | str) else repr(raw))
        except StoreUnavailable:
            log.exception("ticket_not_buried", size=len(str(raw)))
        if ticket is not None:
            ticket.done()

    def _room(self) -> int:
        """How many more jobs fit: free slots, none while admitted ones still wait for memory.

        While the queue is paused there is none either, so that tickets are kept, not used up.
        """
        if self._state != "ready" or not self._breaker.allows_claims or self._info is None:
            return 0
        if self._mode is QueueMode.PAUSED:
            return 0
        if self._engine.load().waiting:
            return 0
        return self._info.slots - len(self._runner.runs)

    def _room_changed(self) -> None:
        self._batcher.room_changed()

    # --- background tasks -------------------------------------------------------------

    def describe(self) -> bytes:
        """Return what `/circuit-breaker/status` shows of this worker."""
        breaker = self._breaker
        return orjson.dumps(
            {
                "id": self.id,
                "queue": self._queue,
                "state": self._state,
                "engine": self._settings.engine.kind,
                "slots": self._info.slots if self._info else 0,
                "running": len(self._runner.runs),
                "breaker": {
                    "state": breaker.state,
                    "failures": breaker.failures,
                    "seconds_to_probe": round(breaker.seconds_to_probe, 1),
                },
            }
        )

    async def _beat(self) -> None:
        """Renew every lease; notice the lost ones, a hung engine and a lost Redis."""
        while True:
            held = [(run.id, run.claimed.fence) for run in self._runner.runs.values()]
            slots = self._info.slots if self._info and self._state == "ready" else 0
            pause = self._settings.lease.heartbeat_seconds
            try:
                lost, note, _ = await asyncio.gather(
                    self._store.renew(self._queue, self.id, slots, self.describe(), held),
                    self._store.control.mode(self._queue),
                    self._registry.keep(self._model),
                )
            except StoreUnavailable:
                log.warning("heartbeat_failed_store_unavailable", jobs=len(held))
                pause = min(pause, HEARTBEAT_RETRY_SECONDS)
            else:
                self._last_contact = time.monotonic()
                self._set_mode(note.mode)
                fences = dict(held)
                for job_id in lost:
                    run = self._runner.runs.get(job_id)
                    if run is not None and run.claimed.fence == fences[job_id] and not run.stopping:
                        self._runner.lose(run)
            self._check_hung()
            if self._breaker.begin_probe():
                self._supervise(self._probe())
            await asyncio.sleep(pause)

    def _check_hung(self) -> None:
        oldest = min((run.claimed_at for run in self._runner.runs.values()), default=None)
        if oldest is None:
            return
        silent = time.monotonic() - max(self._runner.last_step_at, oldest)
        if silent > self._settings.worker.hang_seconds:
            self._runner.dead(EngineDead(f"no engine step for {silent:.0f} s"))

    async def _listen(self) -> None:
        """Hear cancels and watch notes at once; the appends' answers are the net below."""
        while True:
            try:
                async with self._store.redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(self._store.keys.control(self.id))
                    async for message in messages(pubsub):
                        if message["type"] == "message":
                            self._obey(message["data"].decode())
            except (RedisError, OSError) as error:
                log.warning("control_channel_disconnected", error=type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)

    def _obey(self, note: str) -> None:
        verb, _, about = note.partition(" ")
        if verb == "cancel":
            self._runner.cancel(about)
        elif verb == "watch":
            self._runner.watched(about)
        elif verb == "mode":
            self._set_mode(QueueMode(about))

    def _set_mode(self, mode: QueueMode) -> None:
        """Stop or go on claiming; a note says so at once, the heartbeat if the note was lost."""
        if mode is not self._mode:
            log.info("queue_mode_changed", queue=self._queue, mode=mode)
            self._mode = mode
            self._room_changed()

    async def _probe(self) -> None:
        """Find out whether a broken engine has mended."""
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

    # --- stopping ---------------------------------------------------------------------

    async def drain(self) -> None:
        """Stop claiming, let short jobs end, hand the rest over."""
        self._state = "draining"
        if self._claiming is None:
            return
        log.info("drain_started", jobs=len(self._runner.runs))
        self._batcher.stop()
        await self._claiming
        await self._runner.drain(self._settings.worker.drain_seconds)
        log.info("drain_ended")

    async def close(self) -> None:
        """Stop the background tasks and free the device."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._engine.close()
        self._health.close()
        await self._store.close()

    # --- probes -----------------------------------------------------------------------

    def _collectors(self) -> list[Collector]:
        own = WorkerCollector(
            self._queue,
            ready=lambda: self._readiness() is None,
            breaker=lambda: self._breaker.state,
            load=self._load,
        )
        gpus = open_gpus(self._queue)
        shown: list[Collector] = [metrics.WORKER, own]
        return shown if gpus is None else [*shown, gpus]

    def _load(self) -> tuple[EngineLoad, int, int] | None:
        """Return the engine's load, the jobs that run and the slots; None until it is loaded."""
        if self._info is None:
            return None
        return self._engine.load(), len(self._runner.runs), self._info.slots

    def _liveness(self) -> str | None:
        silent = time.monotonic() - self._last_contact
        if self._info is not None and silent > self._settings.worker.deaf_seconds:
            return f"no answer from Redis for {silent:.0f} s"
        return None

    def _readiness(self) -> str | None:
        if self._state != "ready":
            return self._state
        if not self._breaker.allows_claims:
            return f"breaker {self._breaker.state}"
        return self._liveness()


def _described(info: EngineInfo) -> ServedModel:
    return ServedModel(
        info.served_name,
        info.max_model_len,
        info.kind,
        int(time.time()),
        info.task,
        frozenset(info.modalities),
    )
