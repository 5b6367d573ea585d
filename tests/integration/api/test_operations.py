"""Health, readiness, metrics, breakers, shutdown, and a Redis that goes away."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from core.settings.tree import Settings
from intake.permissions import TABLE
from jobs.model_registry import ModelRegistry, ServedModel
from jobs.store.job_store import JobStore
from jobs.store.store_factory import open_store
from tests.conftest import settings_for
from tests.integration.api.conftest import (
    MODEL,
    Hand,
    RunningApi,
    answering,
    chat_body,
    chat_job,
    read_stream,
    submit,
)
from tests.support.keys import sqlite_in
from tests.support.machine import is_over
from tests.support.redis_server import RedisServer
from tests.support.redis_server import running as redis_running
from tests.support.sse import parse_sse
from tests.support.waiting import eventually

CHAT = "/v1/chat/completions"


@pytest.fixture
async def stranger(api: RunningApi) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=api.url, timeout=20) as opened:
        yield opened


async def test_health_and_metrics_need_no_key(stranger: httpx2.AsyncClient) -> None:
    assert (await stranger.get("/health")).json() == {"status": "ok"}
    assert (await stranger.get("/ready")).json() == {"status": "ready"}
    metrics = await stranger.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert "penstock_sse_connections" in metrics.text


async def test_submissions_refusals_and_streams_are_counted(client: httpx2.AsyncClient) -> None:
    async def value(line: str) -> float:
        text = (await client.get("/metrics")).text
        found = [row for row in text.splitlines() if row.startswith(line + " ")]
        return float(found[0].split()[-1]) if found else 0.0

    accepted = f'penstock_jobs_submitted_total{{model="{MODEL}",tier="flex"}}'
    refused = 'penstock_jobs_refused_total{code="model-not-found"}'
    before = await value(accepted), await value(refused)
    job_id = await submit(client, service_tier="flex")
    await client.post("/v1/jobs", json=chat_job(body=chat_body(model="nope")))
    assert (await value(accepted), await value(refused)) == (before[0] + 1, before[1] + 1)
    async with client.stream("GET", f"/v1/jobs/{job_id}/stream"):
        assert await value("penstock_sse_connections") == 1

    async def closed() -> bool:
        return await value("penstock_sse_connections") == 0

    await eventually(closed)


async def test_breakers_are_what_the_workers_say(
    stranger: httpx2.AsyncClient, store: JobStore
) -> None:
    empty = (await stranger.get("/circuit-breaker/status")).json()
    none = {"open": 0, "half_open": 0, "closed": 0}
    counts = {"workers": none, "failures": 0, "successes": 0}
    assert empty == {"object": "list", "state": "unknown", "counts": counts, "data": []}
    for worker, state, successes in (("w1", "closed", 40), ("w2", "open", 2)):
        breaker = {"state": state, "failures": 5, "successes": successes}
        description = {
            "id": worker, "queue": MODEL, "state": "ready", "breaker": breaker,
            "running": 0, "slots": 4, "engine": "by hand",
        }  # fmt: skip
        await store.renew(MODEL, worker, 4, orjson.dumps(description), [])
    found = (await stranger.get("/circuit-breaker/status")).json()
    assert found["state"] == "open"
    assert found["counts"] == {
        "workers": {"open": 1, "half_open": 0, "closed": 1}, "failures": 10, "successes": 42,
    }  # fmt: skip
    assert {row["id"]: row["breaker"]["state"] for row in found["data"]} == {
        "w1": "closed", "w2": "open",
    }  # fmt: skip


async def test_a_worker_that_missed_its_heartbeats_is_not_called_ready(
    stranger: httpx2.AsyncClient, store: JobStore, settings: Settings
) -> None:
    description = {"id": "w1", "queue": MODEL, "state": "ready", "breaker": {"state": "closed"}}
    await store.renew(MODEL, "w1", 4, orjson.dumps(description), [])

    async def state() -> str:
        rows: list[dict[str, str]] = (await stranger.get("/circuit-breaker/status")).json()["data"]
        return rows[0]["state"]

    assert await state() == "ready"
    missed = 3 * settings.lease.seconds - 3 * settings.lease.heartbeat_seconds
    await store.redis.pexpire(store.keys.worker("w1"), int(missed * 1000))
    assert await state() == "silent"


async def test_the_openapi_document_describes_every_route_and_its_problems(
    stranger: httpx2.AsyncClient,
) -> None:
    document = (await stranger.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            if path.startswith("/v1/") and not path.startswith("/v1/auth/"):
                assert "401" in operation["responses"], where
                assert operation["security"], where
            if "requestBody" in operation:
                content = operation["requestBody"]["content"]
                if "multipart/form-data" in content:
                    assert content["multipart/form-data"]["schema"]["properties"], where
                    continue
                schema = content["application/json"]["schema"]
                assert schema["$ref"].rpartition("/")[2] in schemas, where
    described = set(document["paths"])
    routes = {route.partition(" ")[2].replace(":path}", "}") for route in TABLE}
    assert described == routes - {"/openapi.json", "/docs", "/docs/assets/{name}", "/redoc"}
    referred = str(document).count("#/components/schemas/")
    assert referred > 40
    for name in set(_references(document)):
        assert name in schemas, name


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and value.startswith("#/components/schemas/"):
                yield value.rpartition("/")[2]
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


# --- shutting down --------------------------------------------------------------------


async def test_shutdown_ends_job_streams_at_once_and_lets_answers_finish(
    client: httpx2.AsyncClient, hand: Hand, api: RunningApi
) -> None:
    watched = await submit(client)
    job = await hand.take()
    await hand.say(job, "one")
    call = asyncio.create_task(client.post(CHAT, json=chat_body()))
    second = await hand.take()
    poll = asyncio.create_task(client.get(f"/v1/jobs/{watched}", params={"wait": 30}))
    got = ""
    async with client.stream("GET", f"/v1/jobs/{watched}/stream") as response:
        async for chunk in response.aiter_text():
            got += chunk
            if "one" in got:
                api.begin_stop()
    assert parse_sse(got)[-1].json["code"] == "shutting-down"
    assert (await poll).json()["status"] == "in_progress"
    await hand.answer(second, "still here")
    answer = await call
    assert answer.json()["choices"][0]["message"]["content"] == "still here"
    started = time.monotonic()
    await asyncio.to_thread(api.stop)
    assert not is_over(started, 10)


async def test_shutdown_does_not_wait_for_ever(
    client: httpx2.AsyncClient,
    hand: Hand,
    api: RunningApi,
    store: JobStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("intake.lifetime.request_lifetime.GRACE_SECONDS", 0.3)
    call = asyncio.create_task(client.post(CHAT, json=chat_body()))
    whole = await hand.take()
    body = chat_body(stream=True)
    reading = asyncio.create_task(read_stream(client, CHAT, "POST", json=body))
    streamed = await hand.take()
    await hand.say(streamed, "a")
    api.begin_stop()
    answer = await call
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
    assert answer.headers["retry-after"] == "1"
    _, events = await reading
    assert events[-2].json["error"]["code"] == "shutting_down"
    assert events[-1].data == "[DONE]"
    await asyncio.to_thread(api.stop)
    # The whole answer will be asked for again; the stream can be resumed.
    assert (await store.get(whole.id, "acme")).cancel_requested
    assert not (await store.get(streamed.id, "acme")).cancel_requested


# --- Redis goes away ------------------------------------------------------------------


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_running("redis", tmp_path / "redis", aof=True) as server:
        yield server


@pytest.fixture
def settings(request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path: Path) -> Settings:
    server = redis_server
    if "own_redis" in request.fixturenames:
        server = request.getfixturevalue("own_redis")
    return settings_for(
        server,
        redis={"url": server.url, "prefix": "away", "timeout_seconds": 1},
        api={"port": 0},
        database=sqlite_in(tmp_path),
        stream={"ping_seconds": 0.5},
    ).model_copy(deep=True)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[JobStore]:
    opened = open_store(settings)
    await opened.redis.flushdb()
    await ModelRegistry(opened.redis, opened.keys).register(ServedModel(MODEL, 4096, "by hand", 1))
    yield opened
    await opened.close()


async def test_without_redis_it_says_come_back_and_recovers(
    client: httpx2.AsyncClient, own_redis: RedisServer, hand: Hand
) -> None:
    job_id = await submit(client)
    own_redis.stop()
    for method, path, body in (
        ("POST", "/v1/jobs", chat_job()),
        ("POST", CHAT, chat_body()),
        ("GET", f"/v1/jobs/{job_id}", None),
        ("GET", f"/v1/jobs/{job_id}/stream", None),
        ("GET", "/v1/jobs", None),
        ("GET", "/v1/dead-letter", None),
        ("GET", "/ready", None),
        ("GET", "/circuit-breaker/status", None),
    ):
        response = await client.request(method, path, json=body)
        assert response.status_code == 503, f"{method} {path}: {response.text}"
        assert int(response.headers["retry-after"]) >= 1
    assert (await client.get("/v1/models")).status_code == 200  # remembered
    assert (await client.get("/health")).status_code == 200
    own_redis.start()

    async def ready() -> bool:
        return (await client.get("/ready")).status_code == 200

    await eventually(ready)
    async with answering(hand, "hi", jobs=1):
        done = await client.get(f"/v1/jobs/{job_id}", params={"wait": 15})
    assert done.json()["status"] == "completed"


async def test_a_stream_sits_out_a_redis_restart(
    client: httpx2.AsyncClient, own_redis: RedisServer, hand: Hand
) -> None:
    job_id = await submit(client)
    job = await hand.take()
    await hand.say(job, "one")
    reading = asyncio.create_task(read_stream(client, f"/v1/jobs/{job_id}/stream"))

    async def open_streams() -> bool:
        return "penstock_sse_connections 1.0" in (await client.get("/metrics")).text

    await eventually(open_streams)
    own_redis.stop()
    own_redis.start()
    await hand.answer(job, " two")
    _, events = await reading
    text = "".join(event.json["text"] for event in events if event.event == "delta")
    assert text == "one two"
    assert [int(event.id) for event in events[:-1]] == [1, 2, 3, 4, 5]


async def test_the_first_call_without_redis_is_refused_in_shape(
    start_api: Callable[[], RunningApi], own_redis: RedisServer, keys: Any
) -> None:
    own_redis.stop()
    api = start_api()
    async with httpx2.AsyncClient(base_url=api.url, timeout=20) as client:
        headers = {"Authorization": f"Bearer {keys.acme}"}
        for path in ("/v1/models", "/ready"):
            assert (await client.get(path, headers=headers)).status_code == 503
    own_redis.start()
