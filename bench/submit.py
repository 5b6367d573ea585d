"""Submitting: the job store against Celery's `apply_async`, and the route against a no-op one."""

import asyncio
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from bench.figures import Figure, interleaved, ratio, rounded
from bench.http_client import HttpConnection
from bench.noop import PATH
from bench.servers import Servers, bench_settings, free_port, pipeline, redis_server
from core.ids import new_id
from core.settings.tree import Settings
from jobs.broker.tickets import TASK_NAME
from jobs.job import JobSpec
from jobs.model_registry import ModelRegistry, ServedModel
from jobs.store.factory import open_celery, open_store
from jobs.store.job_store import JobStore
from jobs.store.transitions import Submission

JOBS = 4_000
AT_ONCE = 64
REQUESTS = 6_000
CLIENTS = 32


def submission(queue: str) -> Submission:
    """Return one ordinary job."""
    body = {"model": queue, "prompt": "Tell me about the river.", "max_tokens": 64}
    return Submission(new_id("job"), "bench", queue, JobSpec("/v1/completions", body))


async def measure() -> Figure:
    """Measure both comparisons; the figure is the store's, the route's is in the details."""
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as url:
        store_sides = await _store_against_celery(bench_settings(url, Path(name)))
    async with pipeline(worker=False) as servers:
        route_sides, looks = await _route_against_nothing(servers)
    return Figure(
        "submit",
        round(ratio(store_sides["store"], store_sides["celery"]), 2),
        "x",
        must=3,
        aim=3.5,
        higher=True,
        compared_with="Celery's apply_async from one process",
        details={
            "route_over_noop": round(ratio(route_sides["route"], route_sides["noop"]), 3),
            "route_must": 0.6,
            "loop_late_seconds_p99": _late_at_most(looks, 0.99),
            "loop_late_seconds_most": _late_at_most(looks, 1),
            **{f"{k}_per_second": rounded(v, 0) for k, v in (store_sides | route_sides).items()},
        },
    )


async def _store_against_celery(settings: Settings) -> dict[str, list[float]]:
    store = open_store(settings)
    app = open_celery(settings)

    async def through_store() -> float:
        left = iter(range(JOBS))

        async def client() -> None:
            for _ in left:
                await store.submit(submission("store"))

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(AT_ONCE)))
        return JOBS / (time.perf_counter() - began)

    def send() -> float:
        began = time.perf_counter()
        for _ in range(JOBS // 4):
            app.send_task(TASK_NAME, args=[1], queue="celery-side", ignore_result=True)
        return JOBS / 4 / (time.perf_counter() - began)

    async def through_celery() -> float:
        return await asyncio.to_thread(send)

    await through_store()
    await through_celery()
    sides = await interleaved(5, store=through_store, celery=through_celery)
    await store.close()
    return sides


@asynccontextmanager
async def known_model(servers: Servers) -> AsyncIterator[JobStore]:
    """Make a model known that no worker serves."""
    store = open_store(servers.settings)
    redis: Redis = store.redis
    await ModelRegistry(redis, store.keys).register(
        ServedModel("penstock-tiny", 2048, "simulated", int(time.time()))
    )
    yield store
    await store.close()


def _looks(port: int) -> Counter[float]:
    """Return how many looks at an API's event loop found it late by at most so many seconds."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return Counter(
        {
            float(sample.labels["le"]): int(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "penstock_event_loop_lag_seconds_bucket"
        }
    )


def _late_at_most(looks: Counter[float], share: float) -> float:
    """Return what this share of looks was not later than, in seconds."""
    return min(late for late, count in looks.items() if count >= share * max(looks.values()))


async def _route_against_nothing(
    servers: Servers,
) -> tuple[dict[str, list[float]], Counter[float]]:
    """The same bodies to `POST /v1/jobs` and to a route that validates and answers, no more."""
    noop_port = free_port()
    health = f"http://127.0.0.1:{noop_port}/health"
    servers.start("noop", "bench.noop", health, PENSTOCK_API__PORT=str(noop_port))
    job = {
        "url": "/v1/completions",
        "body": {"model": "penstock-tiny", "prompt": "Tell me about the river.", "max_tokens": 64},
    }
    data = orjson.dumps(job)
    looks: Counter[float] = Counter()

    async def rate(port: int, path: str) -> float:
        connections = [await HttpConnection(port, servers.key).open() for _ in range(CLIENTS)]
        left = iter(range(REQUESTS))

        async def client(connection: HttpConnection) -> None:
            for _ in left:
                status = await connection.post(path, data)
                assert status == 202, status

        began = time.perf_counter()
        await asyncio.gather(*(client(connection) for connection in connections))
        seconds = time.perf_counter() - began
        for connection in connections:
            connection.close()
        return REQUESTS / seconds

    async with known_model(servers) as store:

        async def route() -> float:
            before = await asyncio.to_thread(_looks, servers.port)
            measured = await rate(servers.port, "/v1/jobs")
            looks.update(await asyncio.to_thread(_looks, servers.port) - before)
            await store.redis.delete(store.keys.tickets("penstock-tiny"))
            return measured

        async def noop() -> float:
            return await rate(noop_port, PATH)

        await route()
        await noop()
        looks.clear()
        return await interleaved(7, route=route, noop=noop), looks
