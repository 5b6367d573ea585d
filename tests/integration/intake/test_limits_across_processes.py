"""Rate limits across API processes: 200 clients on two processes never exceed the limit."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from accounts.caller import Limits
from core.settings.tree import Settings
from jobs.model_registry import ModelRegistry, ServedModel
from jobs.store.budget_reservations import ACCOUNT
from jobs.store.job_store import JobStore
from jobs.store.rate_limits import RATE_PARTS
from tests.conftest import settings_for
from tests.support.api_fleet import ApiFleet
from tests.support.bucket import Bucket
from tests.support.http_client import Answer, request
from tests.support.jobs import QUEUE
from tests.support.keys import make_several, sqlite_in
from tests.support.processes import pipeline
from tests.support.redis_server import RedisServer

CLIENTS = 200
EACH = 3
KEY, WHOLE = 40, 60
JOB = {"url": "/v1/completions", "body": {"model": QUEUE, "prompt": "hi", "max_tokens": 5}}


@pytest.fixture
def settings(redis_server: RedisServer, tmp_path: Path) -> Settings:
    return settings_for(redis_server, database=sqlite_in(tmp_path))


@pytest.fixture
async def store(store: JobStore) -> JobStore:
    model = ServedModel(QUEUE, 4096, "by hand", 1)
    await ModelRegistry(store.redis, store.keys).register(model)
    return store


@dataclass
class Seen:
    """The answers to the clients of one key."""

    key_id: str = ""
    accepted: list[str] = field(default_factory=list)
    refused: list[Answer] = field(default_factory=list)


async def clients(ports: list[int], keys: list[str]) -> dict[str, Seen]:
    """Submit from all clients concurrently, half on each process, each key on both."""
    seen = {key: Seen() for key in keys}

    async def one(number: int) -> None:
        key = keys[number // len(ports) % len(keys)]
        for _ in range(EACH):
            answer = await request(ports[number % len(ports)], "POST", "/v1/jobs", key, JOB)
            if answer.status == 202:
                seen[key].accepted.append(answer.json["id"])
            else:
                seen[key].refused.append(answer)

    await asyncio.gather(*(one(number) for number in range(CLIENTS)))
    return seen


def check_refusals(seen: Seen) -> None:
    for answer in seen.refused:
        assert (answer.status, answer.json["code"]) == (429, "rate-limited"), answer
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert "key-requests" in answer.headers["ratelimit"]


async def check_exact(store: JobStore, name: str, limit: int, ids: list[str], account: str) -> None:
    """Check that each accepted request fitted, and that the bucket counts exactly those."""
    times = sorted([(await store.get(job_id, account)).created for job_id in ids])
    came_back = (times[-1] - times[0]) * limit // 60_000
    assert len(times) <= limit + came_back
    bucket = Bucket(limit)
    for now in times:
        assert bucket.wait(1, now) == 0, "one too many"
        bucket.take(1, now)
    redis: Any = store.redis
    kept = await redis.hgetall(name)
    assert int(kept[b"level"]) == bucket.look(int(kept[b"at"])) * RATE_PARTS


async def test_two_processes_let_through_exactly_the_limit_and_never_one_more(
    settings: Settings, store: JobStore, tmp_path: Path
) -> None:
    fields = {"limits": Limits(requests_per_minute=KEY)}
    whole = {"account_limits": Limits(requests_per_minute=WHOLE)}
    wanted = [("acme", {**fields, **whole}), ("acme", {**fields, **whole}), ("other", fields)]
    keys = await asyncio.to_thread(make_several, settings, *wanted)
    with pipeline(settings, tmp_path) as running:
        for _ in range(2):
            await asyncio.to_thread(running.api)
        fleet = ApiFleet(running)
        seen = await clients([fleet.port(), fleet.port()], keys)
    first, second, other = (seen[key] for key in keys)
    await _check_all(store, [first, second], other)


async def _check_all(store: JobStore, both: list[Seen], other: Seen) -> None:
    for one in (*both, other):
        check_refusals(one)
        job = await store.get(one.accepted[0], "other" if one is other else "acme")
        one.key_id = await _key_of(store, job.id)
    together = [job_id for one in both for job_id in one.accepted]
    # The minute's worth passes, and what comes back meanwhile.
    assert len(together) >= WHOLE
    assert len(other.accepted) >= KEY
    account = store.keys.rate("acme", ACCOUNT, "requests")
    await check_exact(store, account, WHOLE, together, "acme")
    for one in both:
        name = store.keys.rate("acme", one.key_id, "requests")
        await check_exact(store, name, KEY, one.accepted, "acme")
    name = store.keys.rate("other", other.key_id, "requests")
    await check_exact(store, name, KEY, other.accepted, "other")


async def _key_of(store: JobStore, job_id: str) -> str:
    redis: Any = store.redis
    found = await redis.hget(store.keys.job(job_id), "key_id")
    return str(found.decode())
