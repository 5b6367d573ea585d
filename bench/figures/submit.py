"""Submission: the job store against Celery's `apply_async`, the route against a no-op route."""

import asyncio
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

import orjson
from prometheus_client.parser import text_string_to_metric_families

from bench.baselines.noop_route import PATH
from bench.figure import Figure, interleaved, ratio, rounded
from bench.loads.http_client import HttpConnection
from bench.loads.submissions import CONCURRENCY, known_model, submission
from bench.servers.pipeline_servers import Servers, bench_settings, pipeline, redis_server
from core.runtime.child_process import free_port
from core.settings.tree import Settings
from jobs.broker.tickets import TASK_NAME
from jobs.store.store_factory import open_celery, open_store

JOBS = 4_000
REQUESTS = 6_000
CLIENTS = 32


async def measure() -> Figure:
    """Measure both comparisons; the figure is the job store's, the route's is in the details."""
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as url:
        store_sides = await _store_against_celery(bench_settings(url, Path(name)))
    async with pipeline(worker=False) as servers:
        route_sides, lags = await _route_against_noop(servers)
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
            "loop_late_seconds_p99": _lag_quantile(lags, 0.99),
            "loop_late_seconds_most": _lag_quantile(lags, 1),
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
        await asyncio.gather(*(client() for _ in range(CONCURRENCY)))
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


def _loop_lags(port: int) -> Counter[float]:
    """Return the API's event-loop lag histogram: bucket bound in seconds to cumulative count."""
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


def _lag_quantile(lags: Counter[float], share: float) -> float:
    """Return a quantile of the lag, in seconds: the first bucket bound that holds this share."""
    return min(lag for lag, count in lags.items() if count >= share * max(lags.values()))


async def _route_against_noop(
    servers: Servers,
) -> tuple[dict[str, list[float]], Counter[float]]:
    """Send the same bodies to `POST /v1/jobs` and to a route that only validates and answers."""
    noop_port = free_port()
    health = f"http://127.0.0.1:{noop_port}/health"
    servers.start("noop", "bench.baselines.noop_route", health, PENSTOCK_API__PORT=str(noop_port))
    job = {
        "url": "/v1/completions",
        "body": {"model": "penstock-tiny", "prompt": "Tell me about the river.", "max_tokens": 64},
    }
    data = orjson.dumps(job)
    lags: Counter[float] = Counter()

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
            before = await asyncio.to_thread(_loop_lags, servers.port)
            measured = await rate(servers.port, "/v1/jobs")
            lags.update(await asyncio.to_thread(_loop_lags, servers.port) - before)
            await store.redis.delete(store.keys.tickets("penstock-tiny"))
            return measured

        async def noop() -> float:
            return await rate(noop_port, PATH)

        await route()
        await noop()
        lags.clear()
        return await interleaved(7, route=route, noop=noop), lags
