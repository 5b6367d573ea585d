"""API processes that are killed, lose Redis, or have clients that read slowly or disconnect."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.api_case import Case, case, check_stream, settings_of
from tests.support.http_client import Seen, connected, follow, request
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.processes import PipelineProcess
from tests.support.redis_server import RedisServer
from tests.support.simulated import MODEL
from tests.support.waiting import eventually

STREAMS = 200


async def test_streams_of_a_killed_api_process_go_on_at_another_complete(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = settings_of(redis_server, tmp_path, slots=STREAMS, step_seconds=0.02)
    async with case(settings, tmp_path, apis=2) as pipe:
        victim = pipe.fleet.processes[0]
        jobs = [await pipe.submit(f"stream {i}", 150) for i in range(STREAMS)]
        seen = [Seen(job_id) for job_id, _ in jobs]

        def first_victim_then_others(one: Seen) -> Any:
            return lambda: victim.settings.api.port if not one.connections else pipe.fleet.port()

        following = [
            asyncio.create_task(follow(first_victim_then_others(one), pipe.key, one))
            for one in seen
        ]

        async def all_open() -> bool:
            return all(len(one.events) > 2 for one in seen)

        await eventually(all_open, timeout=30)
        victim.signal(signal.SIGKILL)
        async with asyncio.timeout(80):
            await asyncio.gather(*following)
        assert sum(one.connections > 1 for one in seen) > STREAMS * 0.9, "they were cut off"
        for one, (_, body) in zip(seen, jobs, strict=True):
            check_stream(one, body)
        await check_jobs(pipe.store, [job_id for job_id, _ in jobs])
        await check_nothing_left(pipe.store, MODEL)


async def test_a_terminated_api_process_hands_its_streams_on_and_leaves(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = settings_of(redis_server, tmp_path, slots=50, step_seconds=0.02)
    async with case(settings, tmp_path, apis=2) as pipe:
        victim = pipe.fleet.processes[0]
        jobs = [await pipe.submit(f"stream {i}", 200) for i in range(50)]
        seen = [Seen(job_id) for job_id, _ in jobs]
        following = [asyncio.create_task(follow(pipe.fleet.port, pipe.key, one)) for one in seen]

        async def all_open() -> bool:
            return all(one.events for one in seen)

        await eventually(all_open, timeout=30)
        victim.signal(signal.SIGTERM)
        code = await asyncio.to_thread(victim.wait, 10)
        assert code == 0, "an orderly end"
        async with asyncio.timeout(60):
            await asyncio.gather(*following)
        for one, (_, body) in zip(seen, jobs, strict=True):
            check_stream(one, body)
        assert "Traceback" not in victim.output()


@pytest.mark.parametrize("own_server", ["redis"], indirect=True)
@pytest.mark.parametrize("redis_away", [False, True])
async def test_a_terminated_api_process_ends_by_itself_whatever_its_clients_and_redis_do(
    own_server: RedisServer, tmp_path: Path, redis_away: bool
) -> None:
    settings = settings_of(own_server, tmp_path, slots=64, step_seconds=0.002)
    async with case(settings, tmp_path, apis=1) as pipe:
        victim = pipe.fleet.processes[0]
        port = victim.settings.api.port
        jobs = [(await pipe.submit(f"job {i}", 20_000))[0] for i in range(4)]
        opened, told = 0, False

        async def come_and_go(job_id: str) -> None:
            nonlocal opened
            path = f"/v1/jobs/{job_id}/stream"
            with suppress(OSError, EOFError, TimeoutError):
                while True:
                    async with connected(port, "GET", path, pipe.key) as (_, _, reader):
                        opened += 1
                        await reader.readuntil(b"event: delta")
                        if told:
                            await reader.read()

        async def wait_for_all_of_it(job_id: str) -> None:
            with suppress(OSError, EOFError, TimeoutError):
                await request(port, "GET", f"/v1/jobs/{job_id}?wait=60", pipe.key)

        with ExitStack() as deaf:
            for job_id in jobs * 5:
                deaf.enter_context(reads_nothing(port, f"/v1/jobs/{job_id}/stream", pipe.key))
            clients = [asyncio.create_task(come_and_go(job_id)) for job_id in jobs * 25]
            clients += [asyncio.create_task(wait_for_all_of_it(job_id)) for job_id in jobs]

            async def in_full_swing() -> bool:
                return opened > 1000 and await pipe.tokens(jobs[0]) > 2_000

            await eventually(in_full_swing, timeout=60)
            if redis_away:
                own_server.signal(signal.SIGSTOP)
            told = True
            victim.signal(signal.SIGTERM)
            try:
                assert await asyncio.to_thread(victim.wait, 13) == 0
            finally:
                own_server.revive()
            async with asyncio.timeout(10):
                await asyncio.gather(*clients)
        assert "graceful shutdown exceeded" not in victim.output()
        assert "Traceback" not in victim.output()


@contextmanager
def reads_nothing(port: int, path: str, key: str) -> Iterator[None]:
    """Open a stream and leave it unread; with small segments the kernel holds little of it."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        connection.connect(("127.0.0.1", port))
        head = f"GET {path} HTTP/1.1\r\nHost: penstock\r\nAuthorization: Bearer {key}\r\n\r\n"
        connection.sendall(head.encode())
        yield


@pytest.mark.parametrize("own_server", ["redis"], indirect=True)
async def test_while_redis_is_away_the_api_says_when_to_come_back_and_streams_resume(
    own_server: RedisServer, tmp_path: Path
) -> None:
    settings = settings_of(own_server, tmp_path, slots=32)
    async with case(settings, tmp_path, apis=1) as pipe:
        port = pipe.fleet.port()
        jobs = [await pipe.submit(f"job {i}", 1000) for i in range(32)]
        seen = [Seen(job_id) for job_id, _ in jobs]
        following = [asyncio.create_task(follow(pipe.fleet.port, pipe.key, one)) for one in seen]

        async def all_open() -> bool:
            return all(one.events for one in seen)

        await eventually(all_open)
        await asyncio.to_thread(own_server.stop, signal.SIGKILL)
        body = {"url": "/v1/completions", "body": {"model": MODEL, "prompt": "x"}}
        for method, path, sent in (
            ("POST", "/v1/jobs", body),
            ("GET", f"/v1/jobs/{jobs[0][0]}", None),
            ("GET", f"/v1/jobs/{jobs[0][0]}/stream", None),
            ("GET", "/v1/jobs", None),
            ("POST", f"/v1/jobs/{jobs[0][0]}/cancel", None),
            ("GET", "/ready", None),
        ):
            answer = await request(port, method, path, pipe.key, sent)
            assert answer.status == 503, (method, path, answer)
            assert float(answer.headers["retry-after"]) > 0
        assert (await request(port, "GET", "/health", pipe.key)).status == 200
        await asyncio.to_thread(own_server.start)
        async with asyncio.timeout(60):
            await asyncio.gather(*following)
        for one, (_, sent) in zip(seen, jobs, strict=True):
            check_stream(one, sent)
        await check_jobs(pipe.store, [job_id for job_id, _ in jobs])
        await check_nothing_left(pipe.store, MODEL)


async def test_clients_that_do_not_read_or_vanish_cost_no_memory_and_no_job(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    stream = {"send_timeout_seconds": 2.0}
    settings = settings_of(redis_server, tmp_path, slots=16, step_seconds=0.0, stream=stream)
    async with case(settings, tmp_path, apis=1) as pipe:
        api = pipe.fleet.processes[0]
        jobs = [await pipe.submit(f"job {i}", 3000) for i in range(16)]
        before = rss(api)
        async with AsyncExitStack() as open_streams:
            for job_id, _ in jobs * 8:
                opened = connected(pipe.fleet.port(), "GET", f"/v1/jobs/{job_id}/stream", pipe.key)
                status, _, reader = await open_streams.enter_async_context(opened)
                assert status == 200
                reader._transport.pause_reading()  # type: ignore[attr-defined]
            for job_id, _ in jobs * 4:
                path = f"/v1/jobs/{job_id}/stream"
                async with connected(pipe.fleet.port(), "GET", path, pipe.key):
                    pass

            async def all_ended() -> bool:
                records = [await pipe.store.get(job_id, "acme") for job_id, _ in jobs]
                return all(record.status.is_terminal for record in records)

            await eventually(all_ended, timeout=90)

            async def cut() -> bool:
                return await streams(pipe, api) == 0

            await eventually(cut, timeout=30)
        assert rss(api) - before < 60_000_000, f"{(rss(api) - before) >> 20} MiB more"
        one = await follow(pipe.fleet.port, pipe.key, Seen(jobs[0][0]))
        check_stream(one, jobs[0][1])
        await check_jobs(pipe.store, [job_id for job_id, _ in jobs])


def rss(process: PipelineProcess) -> int:
    """Return a process's resident size."""
    return int(psutil.Process(process.pid).memory_info().rss)


async def streams(pipe: Case, api: PipelineProcess) -> int:
    """Return how many streams a process has open."""
    answer = await request(api.settings.api.port, "GET", "/metrics", pipe.key)
    lines = answer.body.decode().splitlines()
    return int(
        float(next(n for n in lines if n.startswith("penstock_sse_connections ")).split()[1])
    )
