"""Redis is killed under load: how many accepted jobs are lost, and how long the outage lasts.

Measured for `everysec` and `always`, with 100,000 jobs queued. A power cut is simulated as well: a
copy of the append-only file is truncated to what was certainly on the disk (with `everysec` all but
the last second, with `always` all of it), and a second server reads the copy.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
from pydantic import SecretStr

from bench.figure import Figure
from bench.loads.submissions import CONCURRENCY, submission
from bench.servers.aof_sizes import FileSizes
from bench.servers.local_redis import Fsync, LocalRedis, some_binary
from bench.servers.pipeline_servers import Servers, bench_settings, make_key
from jobs.model_registry import ModelRegistry, ServedModel
from jobs.store.store_factory import open_store

MODEL = "penstock-tiny"
QUEUED = 100_000
CLIENTS = 16
LOAD_SECONDS = 4.0
PROMISED_SECONDS: dict[Fsync, float] = {"everysec": 1.0, "always": 0.0}
GIVE_UP_SECONDS = 120.0


async def measure() -> Figure:
    """Kill Redis once per mode; the figure is the longest time in which no job was accepted."""
    details: dict[str, Any] = {}
    for fsync in PROMISED_SECONDS:
        with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
            details |= await _kill(Path(name), fsync)
    return Figure(
        "redis_loss",
        max(details[f"{fsync}_seconds_without_service"] for fsync in PROMISED_SECONDS),
        "s",
        must=60,
        aim=10,
        higher=False,
        compared_with=f"an RTO of 30 minutes; {QUEUED} jobs queued",
        details=details,
    )


async def _kill(directory: Path, fsync: Fsync) -> dict[str, Any]:
    (directory / "redis").mkdir()
    server = LocalRedis(directory / "redis", binary=some_binary(), fsync=fsync)
    try:
        await asyncio.to_thread(server.start)
        async with _api(server, directory) as servers:
            return await _under_load(server, servers, fsync)
    finally:
        server.kill()


@asynccontextmanager
async def _api(server: LocalRedis, directory: Path) -> AsyncIterator[Servers]:
    """Run the API and the control process on this Redis, and fill the queue."""
    settings = bench_settings(server.url, directory)
    key = await make_key(settings)
    servers = Servers(settings, directory, key)
    store = open_store(settings)
    served = ServedModel(MODEL, 2048, "simulated", int(time.time()))
    await ModelRegistry(store.redis, store.keys).register(served)
    left = iter(range(QUEUED))

    async def client() -> None:
        for _ in left:
            await store.submit(submission(MODEL))

    try:
        ready = f"http://127.0.0.1:{settings.api.port}/ready"
        await asyncio.to_thread(
            servers.start, "control", "workers.sweeper", PENSTOCK_CONTROL__HEALTH_PORT="0"
        )
        await asyncio.to_thread(servers.start, "api", "api", ready)
        await asyncio.gather(*(client() for _ in range(CONCURRENCY)))
        yield servers
    finally:
        await store.close()
        await asyncio.to_thread(servers.stop)


async def _under_load(server: LocalRedis, servers: Servers, fsync: Fsync) -> dict[str, Any]:
    accepted: dict[str, float] = {}
    over = asyncio.Event()
    sizes = FileSizes(server.directory / "appendonlydir")
    with sizes.watched():
        clients = [asyncio.create_task(_submit(servers, accepted, over)) for _ in range(CLIENTS)]
        began = await _first_after(accepted, 0.0)
        await asyncio.sleep(LOAD_SECONDS)
        before = len(accepted) / (time.perf_counter() - began)
        killed = time.perf_counter()
        await asyncio.to_thread(server.kill)
    by_then = [job for job, at in list(accepted.items()) if at <= killed + 0.001]
    copy = server.directory.parent / "copy"
    shutil.copytree(server.directory, copy)
    reading = await _started(server)
    back = await _first_after(accepted, killed + reading) - killed
    over.set()
    await asyncio.gather(*clients)
    lost = await _missing(server, servers, by_then)
    cut = LocalRedis(copy, binary=some_binary(), fsync=fsync)
    sizes.cut(copy / "appendonlydir", PROMISED_SECONDS[fsync])
    await _started(cut)
    lost_by_cut = await _missing(cut, servers, by_then)
    cut.kill()
    return {
        f"{fsync}_accepted_per_second": round(before),
        f"{fsync}_accepted_before_the_kill": len(by_then),
        f"{fsync}_lost_by_kill": lost,
        f"{fsync}_lost_by_power_cut": lost_by_cut,
        f"{fsync}_seconds_to_read_the_file": round(reading, 2),
        f"{fsync}_seconds_without_service": round(back, 2),
    }


async def _started(server: LocalRedis) -> float:
    """Start a server; return after how many seconds it answers, its file read."""
    began = time.perf_counter()
    await asyncio.to_thread(server.start)
    return time.perf_counter() - began


async def _first_after(accepted: dict[str, float], moment: float) -> float:
    """Return when the first job after a moment was accepted."""
    give_up = time.perf_counter() + GIVE_UP_SECONDS
    while time.perf_counter() < give_up:
        later = [at for at in accepted.values() if at > moment]
        if later:
            return min(later)
        await asyncio.sleep(0.01)
    raise RuntimeError(f"no job was accepted within {GIVE_UP_SECONDS} s")


async def _submit(servers: Servers, accepted: dict[str, float], over: asyncio.Event) -> None:
    """Submit one job after the other and retry, as clients do after a 503."""
    url = f"http://127.0.0.1:{servers.port}/v1/jobs"
    headers = {"Authorization": f"Bearer {servers.key}"}
    body = {"model": MODEL, "prompt": "Tell me about the river.", "max_tokens": 64}
    job = {"url": "/v1/completions", "body": body}
    async with httpx2.AsyncClient(trust_env=False, timeout=10) as http:
        while not over.is_set():
            with suppress(httpx2.TransportError):
                answer = await http.post(url, json=job, headers=headers)
                if answer.status_code == 202:
                    accepted[answer.json()["id"]] = time.perf_counter()
                else:
                    await asyncio.sleep(0.05)


async def _missing(server: LocalRedis, servers: Servers, jobs: list[str]) -> int:
    """Return how many of these jobs Redis does not have."""
    settings = servers.settings.model_copy(
        update={"redis": servers.settings.redis.model_copy(update={"url": SecretStr(server.url)})}
    )
    store = open_store(settings)
    found = 0
    for first in range(0, len(jobs), 500):
        keys = [store.keys.job(job) for job in jobs[first : first + 500]]
        found += await store.redis.exists(*keys)
    await store.close()
    return len(jobs) - found
