"""The largest batch: read in bounded memory, and its one broken line found."""

import asyncio
from pathlib import Path

import psutil
import pytest

from jobs.model_registry import ModelRegistry, ServedModel
from jobs.store.store_factory import open_store
from tests.conftest import settings_for
from tests.support.batches import create, line, read, until
from tests.support.keys import make_key, sqlite_in
from tests.support.processes import connect, pipeline
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

pytestmark = [pytest.mark.timeout(300)]

REQUESTS = 50_000
BROKEN = 31_337
MOST_BYTES = 300_000_000
MODEL = "m"


async def test_one_broken_line_of_fifty_thousand_is_found_in_bounded_memory(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = settings_for(
        redis_server,
        database=sqlite_in(tmp_path),
        files={"url": f"file://{tmp_path}/files"},
        batches={"poll_seconds": 0.05},
    )
    key = make_key(settings)
    store = open_store(settings)
    await ModelRegistry(store.redis, store.keys).register(ServedModel(MODEL, 4096, "none", 1))
    content = b"".join(
        line(f"r{number}", MODEL, prompt="w" * 900)
        if number != BROKEN
        else b'{"custom_id": "r31337", "method": "POST"\n'
        for number in range(1, REQUESTS + 1)
    )
    with pipeline(settings, tmp_path) as running:
        api = await asyncio.to_thread(running.api)
        feeder = running.feeder()
        processes = [psutil.Process(one.pid) for one in (api, feeder)]
        heaviest = 0
        async with connect(api, key, timeout=120) as client:
            made = await create(client, content)

            async def validated() -> bool:
                nonlocal heaviest
                heaviest = max(heaviest, *(one.memory_info().rss for one in processes))
                return bool((await read(client, made["id"]))["status"] != "validating")

            await eventually(validated, timeout=120)
            batch = await until(client, made["id"])
        assert batch["status"] == "failed"
        (complaint,) = batch["errors"]["data"]
        assert (complaint["line"], complaint["code"]) == (BROKEN, "invalid_json_line")
        assert batch["request_counts"]["total"] == REQUESTS
        assert heaviest < MOST_BYTES, f"{heaviest >> 20} MiB"
    await store.close()
