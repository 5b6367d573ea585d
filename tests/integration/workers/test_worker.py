"""A real Celery worker process on the simulated engine, from ticket to finished job."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from core.settings.tree import Settings
from jobs.broker.tickets import TASK_NAME
from jobs.fairness import ServiceTier
from jobs.model_registry import ModelRegistry
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.queue_control import ModeChange, QueueMode
from jobs.store.store_factory import open_celery
from jobs.stream.event_hub import EventHub
from tests.support.following import follow, follow_all, run_jobs
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.jobs import dead_letters
from tests.support.processes import Pipeline, PipelineProcess, pipeline
from tests.support.redis_server import RedisServer
from tests.support.simulated import MODEL, check_text, client, generation, simulated_settings
from tests.support.waiting import eventually


@pytest.fixture(scope="module", params=["redis", "valkey"])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    server: RedisServer = request.getfixturevalue(f"{request.param}_server")
    retry = {"base_seconds": 0.05, "cap_seconds": 0.2}
    breaker = {"failures": 100}
    settings = simulated_settings(server, retry=retry, breaker=breaker)
    with pipeline(settings, tmp_path_factory.mktemp("worker")) as started:
        started.control()
        started.worker()
        yield started


@pytest.fixture
def settings(running: Pipeline) -> Settings:
    return running.settings


@pytest.fixture
def worker(running: Pipeline) -> PipelineProcess:
    return running.processes[1]


async def test_jobs_stream_to_their_end_and_leave_nothing(settings: Settings) -> None:
    async with client(settings) as (store, hub):
        jobs = [generation(f"job {i}", tokens=30) for i in range(100)]
        check_text(jobs, await run_jobs(store, hub, jobs))
        await check_jobs(store, [job.id for job in jobs])
        await check_nothing_left(store, MODEL)


async def test_unwatched_jobs_are_written_in_few_events(settings: Settings) -> None:
    async with client(settings) as (store, hub):
        job = generation("without watchers", tokens=200)
        await store.submit(job)

        async def done() -> bool:
            return (await store.get(job.id, "acme")).status.is_terminal

        await eventually(done)
        events = await follow(hub, job.id)
        assert len([e for e in events if e.type == "delta"]) < 40
        await check_jobs(store, [job.id])


async def test_a_late_watcher_gets_everything_then_the_live_rest(settings: Settings) -> None:
    async with client(settings) as (store, hub):
        job = generation("late", tokens=300)
        await store.submit(job)

        async def begun() -> bool:
            return (await store.get(job.id, "acme")).output_tokens > 20

        await eventually(begun)
        events = await follow(hub, job.id)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        half = events[len(events) // 2].seq
        assert await follow(hub, job.id, after=half) == events[half:]


async def test_two_choices_are_two_texts(settings: Settings) -> None:
    async with client(settings) as (store, hub):
        job = generation("twice", extra={"n": 2})
        (result,) = await run_jobs(store, hub, [job])
        assert set(result.choices) == {0, 1}
        check_text([job], [result])


async def test_cancel_stops_a_running_job_within_a_step(settings: Settings) -> None:
    async with client(settings) as (store, hub):
        job = generation("endless", tokens=20_000)
        await store.submit(job)

        async def begun() -> bool:
            return (await store.get(job.id, "acme")).output_tokens > 0

        await eventually(begun)
        before = (await store.get(job.id, "acme")).output_tokens
        assert await store.cancel(job.id, "acme") == "cancelling"
        events = await follow(hub, job.id)
        record = await store.get(job.id, "acme")
        assert record.status is Status.CANCELLED
        # At most what one coalescing interval makes; nothing like the 20,000 asked for.
        assert record.output_tokens - before < 200
        assert events[-1].type == "finished"
        await check_jobs(store, [job.id])
        await check_nothing_left(store, MODEL)


async def test_one_bad_job_fails_alone_and_names_the_field(settings: Settings) -> None:
    async with client(settings) as (store, hub):
        jobs = [generation(f"good {i}") for i in range(10)]
        bad = generation("bad", extra={"best_of": 5})
        results = await run_jobs(store, hub, [*jobs, bad])
        check_text(jobs, results[:-1])
        error = results[-1].error
        assert error is not None
        assert (error["code"], error["param"]) == ("invalid-job", "best_of")
        assert (await store.get(bad.id, "acme")).failures == 0, "not retried"


async def test_a_failed_attempt_continues_where_it_failed(settings: Settings) -> None:
    async with client(settings) as (store, hub):
        job = generation("[[fault:error-once=7]] then fine", tokens=30)
        (result,) = await run_jobs(store, hub, [job])
        check_text([job], [result])
        record = await store.get(job.id, "acme")
        assert (record.fence, record.failures) == (2, 0), "the first failure is not counted"
        await check_jobs(store, [job.id])


async def test_a_job_that_always_fails_becomes_a_dead_letter(settings: Settings) -> None:
    async with client(settings) as (store, hub):
        job = generation("[[fault:error=0]]")
        (result,) = await run_jobs(store, hub, [job])
        assert result.status == "failed"
        assert job.id in [dead.id for dead in await dead_letters(store, "acme")]
        assert (await store.get(job.id, "acme")).failures == settings.retry.max_attempts
        await check_jobs(store, [job.id])


async def test_what_cannot_be_continued_restarts_and_says_so(settings: Settings) -> None:
    async with client(settings) as (store, hub):
        job = generation("[[fault:restart]] [[fault:error-once=7]]", tokens=30)
        await store.submit(job)
        events = await follow(hub, job.id)
        assert "restarted" in [event.type for event in events]
        assert (await store.get(job.id, "acme")).output_tokens == 30
        await check_jobs(store, [job.id])


async def test_a_deadline_ends_a_running_job(settings: Settings) -> None:
    async with client(settings) as (store, hub):
        seconds, micros = await store.redis.time()
        soon = seconds * 1000 + micros // 1000 + 300
        job = generation("slow", tokens=20_000, deadline=soon)
        (result,) = await run_jobs(store, hub, [job])
        assert result.status == "expired"
        await check_jobs(store, [job.id])


@pytest.mark.parametrize(
    "garbage",
    [
        b"this is not json",
        b"\xff\xfe\x00",
        b"{}",
        b"[]",
        b"null",
        b'{"body": "e30=", "properties": {}}',
        json.dumps({"body": "", "headers": {}, "properties": {"delivery_tag": "x"}}).encode(),
    ],
)
async def test_garbage_on_the_queue_is_buried_and_disturbs_nothing(
    settings: Settings, garbage: bytes
) -> None:
    async with client(settings) as (store, hub):
        before = await store.redis.llen(store.keys.dead_tickets)
        await store.redis.lpush(store.keys.tickets(MODEL), garbage)
        jobs = [generation(f"after garbage {i}") for i in range(5)]
        check_text(jobs, await run_jobs(store, hub, jobs))

        async def buried() -> bool:
            return await store.redis.llen(store.keys.dead_tickets) == before + 1

        await eventually(buried)


@pytest.mark.parametrize(
    ("task", "args"), [(TASK_NAME, [99]), (TASK_NAME, []), ("foreign.task", [1])]
)
async def test_foreign_messages_on_the_queue_are_buried(
    settings: Settings, task: str, args: list[int]
) -> None:
    async with client(settings) as (store, hub):
        before = await store.redis.llen(store.keys.dead_tickets)
        app = open_celery(settings)
        await asyncio.to_thread(
            app.send_task, task, args=args, queue=store.keys.tickets(MODEL), ignore_result=True
        )
        jobs = [generation(f"after foreign {i}") for i in range(3)]
        check_text(jobs, await run_jobs(store, hub, jobs))

        async def buried() -> bool:
            return await store.redis.llen(store.keys.dead_tickets) == before + 1

        await eventually(buried)


async def test_a_ticket_sent_by_celery_itself_is_the_same_ticket(settings: Settings) -> None:
    """The scripts' tickets equal those of Celery's `apply_async`."""
    async with client(settings) as (store, hub):
        job = generation("by celery")
        await store.submit(job)
        await store.redis.delete(store.keys.tickets(MODEL))
        app = open_celery(settings)
        queue = store.keys.tickets(MODEL)
        await asyncio.to_thread(app.send_task, TASK_NAME, args=[1], queue=queue)
        check_text([job], await run_jobs(store, hub, [job]))


async def test_duplicate_and_surplus_tickets_run_nothing_twice(settings: Settings) -> None:
    async with client(settings) as (store, hub):
        jobs = [generation(f"dup {i}") for i in range(20)]
        for job in jobs:
            await store.submit(job)
            for ticket in await store.redis.lrange(store.keys.tickets(MODEL), 0, 3):
                await store.redis.lpush(store.keys.tickets(MODEL), ticket)
        check_text(jobs, await run_jobs(store, hub, jobs))
        await check_jobs(store, [job.id for job in jobs])

        async def drained() -> bool:
            return await store.redis.llen(store.keys.tickets(MODEL)) == 0

        await eventually(drained)


async def test_priority_overtakes_a_backlog(settings: Settings) -> None:
    async with client(settings) as (store, hub):
        backlog = [generation(f"bulk {i}", 100, tier=ServiceTier.FLEX) for i in range(150)]
        for job in backlog:
            await store.submit(job)
        urgent = generation("urgent", 10, tier=ServiceTier.PRIORITY)
        (result,) = await run_jobs(store, hub, [urgent])
        assert result.status == "completed"
        assert await store.redis.zcard(store.keys.queued(MODEL)) > 50
        check_text(backlog, await run_jobs(store, hub, backlog))


async def test_acknowledged_tickets_leave_no_trace(settings: Settings) -> None:
    async with client(settings) as (store, hub):
        await run_jobs(store, hub, [generation(f"t {i}") for i in range(20)])
        unacked = f"{settings.redis.prefix}:unacked"

        async def clean() -> bool:
            return await store.redis.hlen(unacked) == 0

        await eventually(clean)


async def test_the_worker_says_what_it_is(settings: Settings, worker: PipelineProcess) -> None:
    base = f"http://127.0.0.1:{worker.settings.worker.health_port}"

    def get(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(base + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    assert (await asyncio.to_thread(get, "/health"))[0] == 200
    assert (await asyncio.to_thread(get, "/ready"))[0] == 200
    assert (await asyncio.to_thread(get, "/nothing"))[0] == 404
    _, text = await asyncio.to_thread(get, "/metrics")
    for name in ("jobs_ended_total", "queue_wait_seconds", "step_events", "tokens_total"):
        assert f"penstock_{name}" in text
    async with client(settings) as (store, hub):
        assert isinstance(hub, EventHub)
        models = await ModelRegistry(store.redis, store.keys).list_models()
        assert [(model.name, model.engine) for model in models] == [(MODEL, "simulated")]
        names: Any = await store.redis.zrange(store.keys.part(MODEL, "workers"), 0, -1)
        description = json.loads(await store.redis.get(store.keys.worker(names[0].decode())) or "")
        assert description["state"] == "ready"
        assert description["breaker"]["state"] == "closed"


async def test_prompts_and_outputs_never_reach_the_log(
    settings: Settings, worker: PipelineProcess
) -> None:
    async with client(settings) as (store, hub):
        secret = "xyzzy-plugh-4711"
        jobs = [generation(secret), generation(f"{secret} [[fault:error=0]]")]
        results = await run_jobs(store, hub, jobs)
        assert secret not in worker.output()
        words = "".join(results[0].choices[0].text)[:40]
        assert words not in worker.output()


async def test_a_paused_queue_is_left_alone_within_a_second_and_no_ticket_is_lost(
    settings: Settings,
) -> None:
    async with client(settings) as (store, hub):
        before = await run_jobs(store, hub, [generation("before", tokens=5)])
        assert before[0].status == "completed"
        await store.control.change_mode(MODEL, ModeChange.to(QueueMode.PAUSED), "test")
        jobs = [generation(f"paused {i}", tokens=5) for i in range(40)]
        for job in jobs:
            await store.submit(job)
        counted = await commands(store)
        await asyncio.sleep(1.5)  # long enough for a claim, a heartbeat and a sweep
        state = await store.observe(MODEL)
        assert (sum(state.ready.values()), state.running) == (40, 0)
        # Tickets are neither taken and dropped nor made anew all the time.
        assert await commands(store) - counted < 100
        await store.control.change_mode(MODEL, ModeChange.to(QueueMode.OPEN), "test")
        check_text(jobs, await follow_all(hub, jobs, 20))
        await check_jobs(store, [job.id for job in jobs])


async def test_a_worker_that_missed_the_note_pauses_by_its_heartbeat(settings: Settings) -> None:
    async with client(settings) as (store, hub):
        await store.redis.hset(store.keys.part(MODEL, "mode"), "mode", "paused")
        job = generation("later", tokens=5)
        await store.submit(job)
        await asyncio.sleep(1.5)
        assert (await store.get(job.id, "acme")).status is Status.QUEUED
        await store.redis.hset(store.keys.part(MODEL, "mode"), "mode", "open")
        check_text([job], await follow_all(hub, [job], 20))


async def commands(store: JobStore) -> int:
    """Return how many tickets were ever taken from lists."""
    stats: Any = await store.redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("rpop", "lpush"))
