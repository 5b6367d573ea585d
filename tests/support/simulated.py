"""Pipelines on the simulated engine: many jobs, scripted faults, exactly known answers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from core.settings.tree import Settings
from jobs.result import JobResult
from jobs.store.job_store import JobStore
from jobs.store.store_factory import open_store
from jobs.store.transitions import Submission
from jobs.stream.event_hub import EventHub
from tests.conftest import settings_for
from tests.support.following import follow_all, ids_of, text_of
from tests.support.jobs import submission
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually
from workers.engines.simulated_text import expected

MODEL = "sim"


def simulated_settings(
    server: RedisServer, *, slots: int = 16, step_seconds: float = 0.002, **groups: Any
) -> Settings:
    """Return settings for a worker on the simulated engine, faults allowed."""
    engine = {
        "kind": "simulated",
        "served_name": MODEL,
        "slots": slots,
        "simulated": {"step_base_seconds": step_seconds, "faults": True},
    }
    return settings_for(server, engine=engine, **groups)


def generation(prompt: str, tokens: int = 40, account: str = "acme", **fields: Any) -> Submission:
    """Return a job whose answer `check_text` can compute; it runs to its limit."""
    body = {"prompt": prompt, "max_tokens": tokens, "ignore_eos": True, **fields.pop("extra", {})}
    return submission(account, queue=MODEL, body=body, **fields)


async def until_running(store: JobStore, count: int) -> None:
    """Wait until `count` jobs are running."""

    async def busy() -> bool:
        return await store.redis.zcard(store.keys.running(MODEL)) >= count

    await eventually(busy)


async def under_way(
    store: JobStore, hub: EventHub, jobs: Sequence[Submission], running: int, seconds: float = 90
) -> asyncio.Task[list[JobResult]]:
    """Submit jobs and follow them as clients do; return when `running` of them run."""
    for job in jobs:
        await store.submit(job)
    following = asyncio.create_task(follow_all(hub, jobs, seconds))
    await until_running(store, running)
    return following


def check_text(jobs: Sequence[Submission], results: Sequence[JobResult]) -> None:
    """Check that each completed job delivered exactly the output of an uninterrupted run."""
    for job, result in zip(jobs, results, strict=True):
        assert result.status == "completed", (result.status, result.error)
        for index in result.choices:
            script = expected(job.spec.body, index)
            assert tuple(ids_of(result, index)) == script.token_ids
            assert text_of(result, index) == script.text


@asynccontextmanager
async def client(settings: Settings) -> AsyncIterator[tuple[JobStore, EventHub]]:
    """Open a store and a hub, as an API process has them."""
    store = open_store(settings)
    hub = EventHub(store, settings.stream)
    await hub.start()
    try:
        yield store, hub
    finally:
        await hub.close()
        await store.close()
