"""Access checks: milliseconds that a key, its scopes and its limits add to a submission."""

import time
from statistics import median

import orjson

from accounts.caller import Limits, Role
from bench.figure import Figure, interleaved, rounded
from bench.loads.http_client import HttpConnection
from bench.loads.submissions import known_model
from bench.servers.pipeline_servers import ACCOUNT, Servers, make_key, pipeline
from core.runtime.child_process import free_port
from jobs.store.job_store import JobStore

MODEL = "penstock-tiny"
ROUNDS, REQUESTS = 7, 300
#: Every limit is checked and none is reached.
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
    """Measure one request at a time, so that no queue forms in the API."""
    async with pipeline(worker=False) as servers, known_model(servers) as store:
        scopes = {"models": [MODEL], "routes": ["jobs"], "networks": ["127.0.0.0/8"]}
        key = await make_key(
            servers.settings, role=Role.MEMBER, limits=LIMITS, account_limits=LIMITS, **scopes
        )
        sides = await _sides(servers, store, key)
    added = median(a - b for a, b in zip(sides["checked"], sides["unchecked"], strict=True))
    return Figure(
        "access_checks",
        round(added, 3),
        "ms",
        must=1.0,
        aim=0.3,
        higher=False,
        compared_with="the same API without checks: no key, scopes, rates or caps",
        details={f"{name}_ms": rounded(values, 3) for name, values in sides.items()}
        | {"key_scopes": sorted(scopes), "account": ACCOUNT},
    )


async def _sides(servers: Servers, store: JobStore, key: str) -> dict[str, list[float]]:
    port = free_port()
    health = f"http://127.0.0.1:{port}/health"
    servers.start(
        "unchecked", "bench.baselines.unchecked_api", health, PENSTOCK_API__PORT=str(port)
    )

    async def side(at: int) -> float:
        times = await _times(at, key)
        await store.redis.delete(store.keys.tickets(MODEL))
        return median(times)

    async def checked() -> float:
        return await side(servers.port)

    async def unchecked() -> float:
        return await side(port)

    await checked()
    await unchecked()
    return await interleaved(ROUNDS, checked=checked, unchecked=unchecked)


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
