"""Faults on real vLLM: greedy text is identical to that of an uninterrupted run."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from jobs.result import JobResult
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.transitions import Submission
from jobs.stream.event_hub import EventHub
from tests.conftest import settings_for
from tests.support.following import follow_all, ids_of, run_jobs, text_of
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.jobs import submission
from tests.support.machine import is_over
from tests.support.processes import Pipeline, pipeline
from tests.support.redis_server import RedisServer
from tests.support.simulated import client
from tests.support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

JOBS = 32
TOKENS = 400


def story(number: int, **extra: object) -> Submission:
    """Return a greedy chat job that runs to its limit."""
    content = f"Tell me a long story about river number {number}."
    body = {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "temperature": 0,
        **extra,
    }
    return submission(queue="penstock-tiny", url="/v1/chat/completions", body=body)


class Case:
    """A pipeline whose first worker, the heir, outlives every test."""

    def __init__(self, running: Pipeline, store: JobStore, hub: EventHub) -> None:
        self.running = running
        self.heir = running.processes[1]
        self.store = store
        self.hub = hub
        self.queue = running.settings.engine.served_name

    async def begin(self, jobs: Sequence[Submission]) -> asyncio.Task[list[JobResult]]:
        """Submit jobs and return once all of them are in mid-stream."""
        for job in jobs:
            await self.store.submit(job)
        following = asyncio.create_task(follow_all(self.hub, jobs, 120))

        async def in_mid_stream() -> bool:
            records = [await self.store.get(job.id, "acme") for job in jobs]
            return all(0 < record.output_tokens < TOKENS for record in records)

        await eventually(in_mid_stream, timeout=30)
        return following


@pytest.fixture(scope="module")
def running(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    worker = {"drain_seconds": 0.2}
    settings = settings_for(redis_server, worker=worker, engine={"slots": JOBS})
    with pipeline(settings, tmp_path_factory.mktemp("vllm")) as started:
        started.control()
        started.worker()
        yield started


@pytest.fixture
async def case(running: Pipeline) -> AsyncIterator[Case]:
    async with client(running.settings) as (store, hub):
        yield Case(running, store, hub)


def identical(expected: Sequence[JobResult], got: Sequence[JobResult]) -> None:
    """Each token and each character is the same."""
    for one, other in zip(expected, got, strict=True):
        assert other.status == "completed"
        assert ids_of(one) == ids_of(other)
        assert text_of(one) == text_of(other)
        assert len(ids_of(other)) == TOKENS


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_generations_go_on_in_mid_stream_on_another_worker(case: Case, number: int) -> None:
    victim = await asyncio.to_thread(case.running.worker)
    jobs = [story(i) for i in range(JOBS)]
    uninterrupted = await run_jobs(case.store, case.hub, [story(i) for i in range(JOBS)])
    case.heir.signal(signal.SIGSTOP)  # so that every job starts on the victim
    following = await case.begin(jobs)
    case.heir.signal(signal.SIGCONT)
    began = time.monotonic()
    victim.signal(number)
    code = await asyncio.to_thread(victim.wait)
    if number == signal.SIGTERM:
        assert code == 0
        assert not is_over(began, 5)
    identical(uninterrupted, await following)
    records = [await case.store.get(job.id, "acme") for job in jobs]
    moved = [record for record in records if record.fence == 2]
    assert moved
    if number == signal.SIGTERM:
        assert all(record.attempt == 1 for record in records)
    for job in jobs:
        types = [event.type for event in await case.store.read_log(job.id, 0)]
        assert "restarted" not in types, "it goes on where it was"
    await check_jobs(case.store, [job.id for job in jobs])
    await check_nothing_left(case.store, case.queue)


async def test_cancel_in_mid_stream_frees_the_engine_within_steps(case: Case) -> None:
    """All slots are taken, so the next job runs in the slot of a cancelled one."""
    jobs = [story(i, max_tokens=3 * TOKENS) for i in range(JOBS)]
    following = await case.begin(jobs)
    cancelled, others = jobs[: JOBS // 2], jobs[JOBS // 2 :]
    before = []
    for job in cancelled:
        before.append((await case.store.get(job.id, "acme")).output_tokens)
        await case.store.cancel(job.id, "acme")
    after = [story(i, max_tokens=4) for i in range(4)]
    results = await run_jobs(case.store, case.hub, after)
    assert all(result.status == "completed" for result in results)
    records = [await case.store.get(job.id, "acme") for job in others]
    assert all(record.status is Status.IN_PROGRESS for record in records), "no slot came free"
    results = await following
    assert [result.status for result in results[: JOBS // 2]] == ["cancelled"] * (JOBS // 2)
    for job, tokens in zip(cancelled, before, strict=True):
        assert (await case.store.get(job.id, "acme")).output_tokens - tokens < TOKENS // 2
    assert [result.status for result in results[JOBS // 2 :]] == ["completed"] * (JOBS // 2)
    await check_jobs(case.store, [job.id for job in jobs])
    await check_nothing_left(case.store, case.queue)
