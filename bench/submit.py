"""Submitting: the job store against Celery's `apply_async`, and the route against a no-op one."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from redis.asyncio import Redis

from bench.figures import Figure, interleaved, ratio, rounded
from bench.http_client import Connection
from bench.noop import PATH
from bench.servers import Servers, bench_settings, free_port, pipeline, redis_server
from jobs.ids import new_id
from jobs.model import JobSpec
from jobs.models import ModelRegistry, ServedModel
from jobs.open import open_celery, open_store
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.tickets import TASK_NAME
from jobs.transitions import Submission

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
        route_sides = await _route_against_nothing(servers)
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


async def _route_against_nothing(servers: Servers) -> dict[str, list[float]]:
    """The same bodies to `POST /v1/jobs` and to a route that validates and answers, no more."""
    noop_port = free_port()
    health = f"http://127.0.0.1:{noop_port}/health"
    servers.start("noop", "bench.noop", health, PENSTOCK_API__PORT=str(noop_port))
    job = {
        "url": "/v1/completions",
        "body": {"model": "penstock-tiny", "prompt": "Tell me about the river.", "max_tokens": 64},
    }
    data = orjson.dumps(job)

    async def rate(port: int, path: str) -> float:
        connections = [await Connection(port, servers.key).open() for _ in range(CLIENTS)]
        left = iter(range(REQUESTS))

        async def client(connection: Connection) -> None:
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
            measured = await rate(servers.port, "/v1/jobs")
            await store.redis.delete(store.keys.tickets("penstock-tiny"))
            return measured

        async def noop() -> float:
            return await rate(noop_port, PATH)

        await route()
        await noop()
        return await interleaved(7, route=route, noop=noop)
