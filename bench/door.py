"""The front door: what a key, its scopes and its limits add to a submission."""

import time
from statistics import median

import orjson

from accounts.caller import Limits, Role
from bench.figures import Figure, interleaved, rounded
from bench.http_client import HttpConnection
from bench.servers import ACCOUNT, Servers, make_key, pipeline
from bench.submit import known_model
from core.runtime.child_process import free_port
from jobs.store.job_store import JobStore

MODEL = "penstock-tiny"
ROUNDS, REQUESTS = 7, 300
#: All of them are checked, and none is ever reached.
LIMITS = Limits(
    requests_per_minute=10_000_000,
    tokens_per_minute=1_000_000_000,
    max_running=100_000,
    max_queued=100_000,
)
BODY = orjson.dumps(
    {
        "url": "/v1/completions",
        "body": {"model": MODEL, "prompt": "Tell me about the river.", "max_tokens": 64},
    }
)


async def measure() -> Figure:
    """Measure one client after the other, so that nothing else waits in between."""
    async with pipeline(worker=False) as servers, known_model(servers) as store:
        scopes = {"models": [MODEL], "routes": ["jobs"], "networks": ["127.0.0.0/8"]}
        key = await make_key(
            servers.settings, role=Role.MEMBER, limits=LIMITS, account_limits=LIMITS, **scopes
        )
        sides = await _sides(servers, store, key)
    added = median(a - b for a, b in zip(sides["door"], sides["doorless"], strict=True))
    return Figure(
        "door",
        round(added, 3),
        "ms",
        must=1.0,
        aim=0.3,
        higher=False,
        compared_with="the same API that lets anybody in: no key, scopes, rates or caps",
        details={f"{name}_ms": rounded(values, 3) for name, values in sides.items()}
        | {"key_scopes": sorted(scopes), "account": ACCOUNT},
    )


async def _sides(servers: Servers, store: JobStore, key: str) -> dict[str, list[float]]:
    port = free_port()
    health = f"http://127.0.0.1:{port}/health"
    servers.start("doorless", "bench.doorless", health, PENSTOCK_API__PORT=str(port))

    async def side(at: int) -> float:
        spent = await _times(at, key)
        await store.redis.delete(store.keys.tickets(MODEL))
        return median(spent)

    async def door() -> float:
        return await side(servers.port)

    async def doorless() -> float:
        return await side(port)

    await door()
    await doorless()
    return await interleaved(ROUNDS, door=door, doorless=doorless)


async def _times(port: int, key: str) -> list[float]:
    connection = await HttpConnection(port, key).open()
    spent = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        status = await connection.post("/v1/jobs", BODY)
        spent.append((time.perf_counter() - began) * 1000)
        assert status == 202, status
    connection.close()
    return spent
