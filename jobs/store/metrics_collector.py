"""Metrics read from Redis at each scrape: queues, workers, outbox, dead letters, Redis itself.

Invariant: a figure that cannot be read is absent. Several processes may export the same figures;
queries take the largest, never the sum.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from core.errors import StoreUnavailable
from core.exposition import ScrapeCollector
from core.redis.client import guarded
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.queue_control import QueueMode
from jobs.store.queue_state import QueueState

READ_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class StoreState:
    """Everything one scrape reads."""

    queues: dict[str, QueueState]
    weights: dict[str, int]
    dead: int
    dead_tickets: int
    outbox: int
    outbox_oldest_ms: int | None
    ended: dict[str, int]
    info: dict[str, Any]


async def read_store(store: JobStore) -> StoreState:
    """Read all figures.

    Raises:
        StoreUnavailable: Redis is away.
    """
    redis: Any = store.redis
    queues = await store.queues()
    states = await asyncio.gather(*(store.observe(queue) for queue in queues))
    pipe = redis.pipeline(transaction=False)
    pipe.zcard(store.keys.dead)
    pipe.llen(store.keys.dead_tickets)
    pipe.xlen(store.keys.outbox)
    pipe.xrange(store.keys.outbox, count=1)
    pipe.hgetall(store.keys.totals)
    pipe.info()
    async with guarded():
        dead, tickets, outbox, first, totals, info = await pipe.execute()
    return StoreState(
        queues=dict(zip(queues, states, strict=True)),
        weights={queue: len(await store.worker_weights(queue)) for queue in queues},
        dead=dead,
        dead_tickets=tickets,
        outbox=outbox,
        outbox_oldest_ms=int(first[0][0].partition(b"-")[0]) if first else None,
        ended={name.decode(): int(count) for name, count in totals.items()},
        info=info,
    )


class StoreCollector(ScrapeCollector):
    """Reads Redis through a store on another thread's event loop."""

    def __init__(self, store: JobStore, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Yield the figures; only `penstock_redis_up` when Redis is away."""
        state = self._read()
        yield _gauge("penstock_redis_up", "1 when Redis answered this scrape", state is not None)
        if state is not None:
            yield from _queues(state)
            yield from _rest(state)
            yield from _redis(state.info)

    def _read(self) -> StoreState | None:
        reading = asyncio.run_coroutine_threadsafe(read_store(self._store), self._loop)
        try:
            return reading.result(READ_SECONDS)
        except (StoreUnavailable, FutureTimeoutError):
            reading.cancel()
            return None


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _labelled(name: str, text: str, labels: Sequence[str], values: dict[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key if isinstance(key, tuple) else (key,), value)
    return family


def _queues(state: StoreState) -> Iterator[Metric]:
    queues = state.queues
    yield _labelled(
        "penstock_model_weights",
        "How many different weights the live workers of a model have; more than 1 is a mistake",
        ("model",),
        dict(state.weights),
    )
    jobs: dict[Any, float] = {}
    for model, queue in queues.items():
        jobs |= {(model, "running"): queue.running, (model, "delayed"): queue.delayed}
        jobs |= {(model, "parked"): queue.parked, (model, "ready"): sum(queue.ready.values())}
        jobs[model, "apart"] = queue.apart
    text = (
        "Jobs by where they are: ready, delayed (a retry), parked (account's cap), apart, running"
    )
    yield _labelled("penstock_queue_jobs", text, ("model", "state"), jobs)
    yield _labelled(
        "penstock_queue_ready_jobs",
        "Jobs ready to start, by tier",
        ("model", "tier"),
        {(m, tier): n for m, queue in queues.items() for tier, n in queue.ready.items()},
    )
    yield _labelled(
        "penstock_queue_oldest_seconds",
        "How long the job that is ready to start longest has waited; 0 when none is",
        ("model",),
        {m: max(queue.oldest_seconds.values(), default=0.0) for m, queue in queues.items()},
    )
    yield _labelled(
        "penstock_workers",
        "Workers whose heartbeat is fresh",
        ("model",),
        {m: queue.workers for m, queue in queues.items()},
    )
    yield _labelled(
        "penstock_loading_workers",
        "Workers that load their model",
        ("model",),
        {m: queue.loading for m, queue in queues.items()},
    )
    yield _labelled(
        "penstock_slots",
        "Jobs that all ready workers of a model can run at once",
        ("model",),
        {m: queue.slots for m, queue in queues.items()},
    )
    yield _labelled(
        "penstock_queue_mode",
        "1 for the mode that the queue is in: open, paused, draining or closed",
        ("model", "mode"),
        {(m, mode): queue.mode is mode for m, queue in queues.items() for mode in QueueMode},
    )
    yield _labelled(
        "penstock_queue_tickets",
        "Celery messages no worker has fetched",
        ("model",),
        {m: queue.tickets for m, queue in queues.items()},
    )


def _rest(state: StoreState) -> Iterator[Metric]:
    yield _gauge("penstock_dead_letter_jobs", "Jobs in the dead-letter list", state.dead)
    yield _gauge(
        "penstock_dead_ticket_messages", "Messages kept that were no tickets", state.dead_tickets
    )
    yield _gauge("penstock_outbox_entries", "Usage not yet in the ledger", state.outbox)
    oldest = state.outbox_oldest_ms
    age = 0.0 if oldest is None else max(0.0, time.time() - oldest / 1000)
    yield _gauge("penstock_outbox_age_seconds", "How long the oldest of it has waited", age)
    ended = CounterMetricFamily(
        "penstock_jobs_finished_total", "Jobs that ever ended, by status", labels=["status"]
    )
    for status in filter(lambda status: status.is_terminal, Status):
        ended.add_metric([status], state.ended.get(status, 0))
    yield ended
    yield CounterMetricFamily(
        "penstock_jobs_given_back_total",
        "Jobs given back after their worker stopped; no attempt is counted",
        value=state.ended.get("given_back", 0),
    )
    yield CounterMetricFamily(
        "penstock_jobs_suspected_total",
        "Times that a job was suspected of having stopped its worker",
        value=state.ended.get("suspected", 0),
    )
    yield CounterMetricFamily(
        "penstock_poison_jobs_total",
        "Jobs failed as poison-job because they stopped their workers",
        value=state.ended.get("poisoned", 0),
    )


def _redis(info: dict[str, Any]) -> Iterator[Metric]:
    used, limit = info.get("used_memory"), info.get("maxmemory")
    if used is not None:
        yield _gauge("penstock_redis_memory_bytes", "Memory that Redis uses", used)
    if limit:
        yield _gauge("penstock_redis_memory_limit_bytes", "Redis's maxmemory, where set", limit)
    if info.get("aof_enabled"):
        fine = info.get("aof_last_write_status") == "ok"
        yield _gauge(
            "penstock_redis_append_only_ok", "1 when the last write to the file was good", fine
        )
