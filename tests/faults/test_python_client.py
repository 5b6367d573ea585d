"""The Python client reads whole streams and results while the API processes are killed."""

import asyncio
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from penstock import AsyncPenstock, JobEvent, JobInfo, Penstock, RetryPolicy
from tests.support.api_case import Case, case, settings_of
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.simulated import MODEL
from tests.support.waiting import eventually
from workers.engines.simulated_text import expected

TOKENS = 400
STREAMS = 8
#: Long enough for an API process that starts on a busy machine.
PATIENT = RetryPolicy(max_retries=100, max_reconnects=100, first_seconds=0.2, longest_seconds=1.0)


def body(name: str) -> dict[str, Any]:
    return {"model": MODEL, "prompt": name, "max_tokens": TOKENS, "ignore_eos": True}


async def test_streams_and_results_are_whole_although_each_api_process_is_killed(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = settings_of(redis_server, tmp_path, slots=STREAMS * 2, step_seconds=0.02)
    async with case(settings, tmp_path, apis=2) as pipe:
        first, second = pipe.fleet.processes
        proxy = Proxy(first.settings.api.port)
        proxy.start()
        with ExitStack() as stack:
            stack.callback(proxy.stop)
            seen: dict[str, list[JobEvent]] = {f"stream {n}": [] for n in range(STREAMS)}
            following = [
                asyncio.create_task(_follow(proxy.port, pipe.key, name, events))
                for name, events in seen.items()
            ]
            running = asyncio.create_task(asyncio.to_thread(_run, proxy.port, pipe.key))

            async def everybody_has(tokens: int) -> bool:
                return all(len(_token_ids(events)) >= tokens for events in seen.values())

            await eventually(lambda: everybody_has(5), timeout=60)
            proxy.retarget(second.settings.api.port)
            first.signal(signal.SIGKILL)
            await eventually(lambda: everybody_has(60), timeout=60)
            # Now the API is away until another process has started.
            second.signal(signal.SIGTERM)
            await asyncio.to_thread(second.wait, 20)
            assert not pipe.fleet.processes
            proxy.retarget((await asyncio.to_thread(pipe.running.api)).settings.api.port)
            async with asyncio.timeout(90):
                jobs = [*await asyncio.gather(*following), await running]
        for name, events in seen.items():
            _check(name, events)
        assert jobs[-1].text == expected(body("run")).text
        await _check_store(pipe, [job.id for job in jobs])


async def _follow(port: int, key: str, name: str, events: list[JobEvent]) -> JobInfo:
    """Submit a job, keep its events, and return it."""
    async with AsyncPenstock(f"http://127.0.0.1:{port}", key, retries=PATIENT) as client:
        job = await client.submit(body(name), url="/v1/completions")
        async for event in client.stream(job):
            events.append(event)  # noqa: PERF401 - the test looks at them meanwhile
        return await client.get(job)


def _run(port: int, key: str) -> JobInfo:
    with Penstock(f"http://127.0.0.1:{port}", key, retries=PATIENT) as client:
        return client.run(body("run"), url="/v1/completions", max_seconds=100)


def _check(name: str, events: list[JobEvent]) -> None:
    """Check that each event is there once, in order, and that the text is whole."""
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert "".join(event.text for event in events) == expected(body(name)).text
    assert _token_ids(events) == expected(body(name)).token_ids
    assert (events[-1].type, events[-1].data["status"]) == ("finished", "completed")


def _token_ids(events: list[JobEvent]) -> tuple[int, ...]:
    return tuple(token for event in events for token in event.data.get("token_ids", ()))


async def _check_store(pipe: Case, jobs: list[str]) -> None:
    await check_jobs(pipe.store, jobs)
    await check_nothing_left(pipe.store, MODEL)
