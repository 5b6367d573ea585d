"""A pipeline with API processes, whose jobs are submitted and followed over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.settings.tree import Settings
from jobs.store.job_store import JobStore
from jobs.stream.event_hub import EventHub
from tests.support.api_fleet import ApiFleet
from tests.support.http_client import Seen, numbers, submit
from tests.support.keys import make_key, sqlite_in
from tests.support.processes import Pipeline, pipeline
from tests.support.redis_server import RedisServer
from tests.support.simulated import MODEL, client, simulated_settings
from workers.engines.simulated_text import expected


@dataclass
class Case:
    """A pipeline with a worker, and API processes with one key."""

    running: Pipeline
    fleet: ApiFleet
    key: str
    store: JobStore
    hub: EventHub

    async def submit(self, name: str, tokens: int, **fields: Any) -> tuple[str, dict[str, Any]]:
        """Submit one job over HTTP; returns its id and body."""
        body = {"model": MODEL, "prompt": name, "max_tokens": tokens, "ignore_eos": True}
        asked = {"url": "/v1/completions", "body": body, **fields}
        job_id, _ = await submit(self.fleet.port, self.key, asked, name)
        return job_id, body

    async def tokens(self, job_id: str) -> int:
        return (await self.store.get(job_id, "acme")).output_tokens


@asynccontextmanager
async def case(settings: Settings, directory: Path, apis: int) -> AsyncIterator[Case]:
    """Run a pipeline with one worker and some API processes."""
    with pipeline(settings, directory) as running:
        key = make_key(settings)
        running.control()
        await asyncio.to_thread(running.worker)
        for _ in range(apis):
            await asyncio.to_thread(running.api)
        async with client(settings) as (store, hub):
            yield Case(running, ApiFleet(running), key, store, hub)


def settings_of(server: RedisServer, directory: Path, **groups: Any) -> Settings:
    """Return settings with a database in the test's own directory."""
    return simulated_settings(server, database=sqlite_in(directory), **groups)


def check_stream(seen: Seen, body: dict[str, Any]) -> None:
    """Check that the client has each event once, in order, and the whole text."""
    assert numbers(seen.events) == list(range(1, len(seen.events) + 1))
    deltas = [event.json for event in seen.events if event.event == "delta"]
    assert "".join(delta["text"] for delta in deltas) == expected(body).text
    ids = [token for delta in deltas for token in delta["token_ids"]]
    assert tuple(ids) == expected(body).token_ids
    assert [event.event for event in seen.events][-1] == "finished"
