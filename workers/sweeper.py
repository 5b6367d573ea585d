"""The control process: sweeps expired leases and retention, and exports metrics about Redis.

Run it with `python -m workers.sweeper`. Each process also registers the declared models.
Invariant: any number may run; only the holder of the lock sweeps, and if it dies another one takes
over when the lock expires. A sweeper that hangs is not live.
"""

import asyncio
import os
import socket
import time
from collections.abc import Iterator

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric

from core import metrics
from core.errors import StoreUnavailable
from core.exposition import Exposition, ScrapeCollector
from core.runtime.health_server import HealthServer
from core.runtime.process import run_process, run_until_signal
from core.settings.tree import Settings
from core.spans import Attributes
from core.tracing import active, joined
from jobs.model_registry import DECLARED, ModelRegistry, ServedModel
from jobs.store.job_store import JobStore
from jobs.store.metrics_collector import StoreCollector
from jobs.store.store_factory import open_store
from jobs.store.transitions import AbandonedAttempt

log = structlog.get_logger()

#: How long one sweep fails waiting jobs of each model that is being retired.
RETIRE_SECONDS = 0.5

LOCK_SECONDS = 3
RETRY_SECONDS = 0.5
#: The sweeper is not live if one turn takes longer, whether Redis answers or not.
HUNG_SECONDS = 60.0


class Sweeper:
    """Sweeps every queue each `lease.sweep_seconds` while it holds the lock."""

    def __init__(self, store: JobStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._models = ModelRegistry(store.redis, store.keys)
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._turn_began = time.monotonic()
        self._last_answer: float | None = None
        self.swept_at: float | None = None

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            self._turn_began = time.monotonic()
            try:
                if await self._store.lock_sweeper(self._name, LOCK_SECONDS):
                    with metrics.sweep_seconds.time():
                        await self.sweep_once()
                    self.swept_at = time.time()
                self._last_answer = time.monotonic()
                await self._declare()
            except StoreUnavailable:
                log.warning("sweep_failed_store_unavailable")
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(self._settings.lease.sweep_seconds)

    def liveness(self) -> str | None:
        """Return why a restart would help; None while the sweeper is live."""
        silent = time.monotonic() - self._turn_began
        return f"no turn for {silent:.0f} s" if silent > HUNG_SECONDS else None

    def readiness(self) -> str | None:
        """Return why the sweeper is not ready; None if Redis answered recently."""
        if self._last_answer is None or time.monotonic() - self._last_answer > 2 * LOCK_SECONDS:
            return "no answer from Redis"
        return None

    async def sweep_once(self) -> None:
        """Sweep every queue, release stale reservations, end retirements, delete expired jobs."""
        for queue in await self._store.queues():
            found = await self._store.sweep(queue)
            swept = found.counts
            for kind, count in swept.items():
                # Count zeros too: a series that starts at its first count shows no increase.
                metrics.swept.labels(queue, kind).inc(count)
            if any(swept.values()):
                log.info("queue_swept", queue=queue, **swept)
            for abandoned in found.abandoned:
                _report_abandoned(queue, abandoned)
        released = await self._store.reservations.sweep()
        if released:
            metrics.holds_swept.inc(released)
            log.warning("holds_swept", count=released)
        await self._store.retirement.retired(RETIRE_SECONDS)
        await self._store.purge()

    async def _declare(self) -> None:
        """Register the declared models, so that they are known without a running worker."""
        for name, declared in self._settings.control.models.items():
            model = ServedModel(
                name,
                declared.max_model_len,
                DECLARED,
                int(time.time()),
                declared.task,
                frozenset(declared.modalities),
            )
            try:
                await self._models.keep(model)
            except StoreUnavailable:
                log.warning("model_not_declared_store_unavailable", model=name)


def _report_abandoned(queue: str, attempt: AbandonedAttempt) -> None:
    """Log an attempt whose worker vanished, and write its trace span in place of that worker."""
    ids = {
        "job_id": attempt.id,
        "account_id": attempt.account,
        "request_id": attempt.spec.request_id,
    }
    context = joined(attempt.spec.traceparent)
    if context is not None:
        ids["trace_id"] = context.trace
    log.warning("attempt_abandoned", **ids, attempt=attempt.attempt, worker=attempt.worker)
    tracer = active()
    if context is None or tracer is None:
        return
    attributes: Attributes = {
        "gen_ai.request.model": queue,
        "penstock.job.id": attempt.id,
        "penstock.attempt": attempt.attempt,
        "penstock.worker": attempt.worker,
        "penstock.outcome": "lost",
    }
    times = (attempt.claimed * 1_000_000, attempt.now * 1_000_000)
    own = context.attempt(attempt.id, attempt.fence)
    tracer.writer.write("attempt", own, context, times, attributes, "consumer", error="lease-lost")


class SweepCollector(ScrapeCollector):
    """Exports when this process swept last; absent if it never did."""

    def __init__(self, sweeper: Sweeper) -> None:
        self._sweeper = sweeper

    def collect(self) -> Iterator[Metric]:
        """Return the gauge."""
        name, text = "penstock_last_sweep_timestamp_seconds", "When this process swept last"
        if self._sweeper.swept_at is not None:
            yield GaugeMetricFamily(name, text, value=self._sweeper.swept_at)


async def run_control(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    store = open_store(settings)
    sweeper = Sweeper(store, settings)
    loop = asyncio.get_running_loop()
    control = settings.control
    collectors = StoreCollector(store, loop), SweepCollector(sweeper)
    health = HealthServer(
        control.health_host,
        control.health_port,
        sweeper.liveness,
        sweeper.readiness,
        Exposition("control", metrics.CONTROL, *collectors),
        settings.metrics.token,
    )
    health.start()
    sweeping = run_until_signal(sweeper.run())
    log.info("control_started")
    try:
        await sweeping
    except asyncio.CancelledError:
        log.info("control_stopped")
    finally:
        health.close()
        await store.close()


if __name__ == "__main__":
    run_process("control", run_control)
