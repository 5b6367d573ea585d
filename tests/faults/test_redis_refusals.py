"""Redis refuses commands in every way that can be produced: no process ends, all go on after."""

import asyncio
from pathlib import Path

import pytest

from tests.support.http_client import request
from tests.support.keys import make_key, sqlite_in
from tests.support.processes import pipeline
from tests.support.redis_faults import FAULTS, administrator
from tests.support.redis_server import RedisServer
from tests.support.simulated import MODEL, simulated_settings
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(400)

JOB = {
    "url": "/v1/completions",
    "body": {"model": MODEL, "prompt": "x", "max_tokens": 4, "ignore_eos": True},
}


async def test_no_process_ends_whatever_redis_answers(
    own_server: RedisServer, tmp_path: Path
) -> None:
    settings = simulated_settings(own_server, database=sqlite_in(tmp_path))
    async with administrator(own_server) as admin:
        with pipeline(settings, tmp_path) as running:
            key = make_key(settings)
            for begin in (running.control, running.ledger, running.feeder, running.begin_webhooks):
                begin()
            await asyncio.to_thread(running.worker)
            port = (await asyncio.to_thread(running.api)).settings.api.port

            async def unready() -> list[str]:
                processes = running.processes
                asked = (asyncio.to_thread(process.ready) for process in processes)
                ready = await asyncio.gather(*asked)
                return [p.name for p, good in zip(processes, ready, strict=True) if not good]

            async def all_ready() -> bool:
                return not await unready()

            async def none_ready() -> bool:
                return len(await unready()) == len(running.processes)

            async def completes() -> bool:
                answer = await request(port, "POST", "/v1/jobs", key, JOB, Prefer="wait=10")
                return answer.status == 200 and answer.json["status"] == "completed"

            await eventually(all_ready, timeout=60)
            for fault in FAULTS:
                await fault.begin(admin)
                await eventually(none_ready, timeout=30)
                refused = await request(port, "POST", "/v1/jobs", key, JOB)
                assert refused.status == 503, (fault.name, refused.json)
                assert int(refused.headers["retry-after"]) > 0
                await fault.end(admin)
                await eventually(all_ready, timeout=30)
                await eventually(completes, timeout=30)
                ended = [p.name for p in running.processes if not p.running]
                assert not ended, (fault.name, ended)
