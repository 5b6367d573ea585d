"""Workers that are killed, stopped or drained: no job is lost or run twice."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from jobs.events import EventType
from jobs.status import Status
from tests.support.following import follow_all, run_jobs
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.jobs import dead_letters
from tests.support.machine import is_over
from tests.support.processes import pipeline
from tests.support.redis_server import RedisServer
from tests.support.simulated import (
    MODEL,
    check_text,
    client,
    generation,
    simulated_settings,
    under_way,
    until_running,
)
from tests.support.waiting import eventually

JOBS = 300


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
async def test_a_signalled_workers_jobs_go_on_elsewhere(
    redis_server: RedisServer, tmp_path: Path, number: int
) -> None:
    settings = simulated_settings(redis_server, slots=32, worker={"drain_seconds": 0.1})
    with pipeline(settings, tmp_path) as running:
        running.control()
        victim, heir = running.worker(), running.worker()
        async with client(settings) as (store, hub):
            # Different lengths, so that some jobs still run when the signal comes.
            jobs = [generation(f"job {i}", tokens=100 + 37 * i % 200) for i in range(JOBS)]
            following = asyncio.create_task(run_jobs(store, hub, jobs, timeout=90))
            await until_running(store, 33)
            began = time.monotonic()
            victim.signal(number)
            code = await asyncio.to_thread(victim.wait)
            if number == signal.SIGTERM:
                assert code == 0
                assert not is_over(began, 5), "a drain ends within 5 s"
                names = await store.redis.zrange(store.keys.part(MODEL, "workers"), 0, -1)
                left = [name for name in names if f"-{victim.pid}-".encode() in name]
                assert left == [], "it is off the list of workers"
            check_text(jobs, await following)
            await check_jobs(store, [job.id for job in jobs])
            await check_nothing_left(store, MODEL)
            records = [await store.get(job.id, "acme") for job in jobs]
            handed_over = [record for record in records if record.fence > 1]
            assert handed_over, "the signal hit running jobs"
            if number == signal.SIGTERM:
                assert all(record.attempt == 1 for record in records), "a drain counts no attempt"
        assert heir.running


@pytest.mark.parametrize("same", [True, False], ids=["same weights", "other weights"])
async def test_a_text_is_continued_only_by_the_weights_that_began_it(
    redis_server: RedisServer, tmp_path: Path, same: bool
) -> None:
    settings = simulated_settings(redis_server, slots=4, worker={"drain_seconds": 0.0})
    with pipeline(settings, tmp_path) as running:
        running.control()
        first = running.begin_worker(model="weights-a")
        first.wait_until_ready()
        async with client(settings) as (store, hub):
            (worker,) = await store.redis.zrange(store.keys.part(MODEL, "workers"), 0, -1)
            (weights,) = await store.worker_weights(MODEL)
            heir = running.begin_worker(model="weights-a" if same else "weights-b")
            heir.wait_until_ready()
            alive = await store.worker_weights(MODEL)
            assert weights in alive
            assert len(alive) == (1 if same else 2), "a mixed fleet is seen"

            jobs = [generation(f"job {i}", tokens=1500) for i in range(8)]  # four at each worker
            for job in jobs:
                await store.submit(job)

            async def begun() -> bool:
                records = [await store.get(job.id, "acme") for job in jobs]
                return all(record.output_tokens > 5 for record in records)

            await eventually(begun)
            records = [await store.get(job.id, "acme") for job in jobs]
            moved = [
                job
                for job, record in zip(jobs, records, strict=True)
                if record.worker == worker.decode()
            ]
            first.signal(signal.SIGTERM)
            assert await asyncio.to_thread(first.wait) == 0
            assert len(moved) == 4
            results = await follow_all(hub, moved, 90)

            check_text(moved, results)
            (ended_with,) = {(await store.get(job.id, "acme")).weights for job in moved}
            assert {result.weights for result in results} == {ended_with}
            assert (ended_with == weights) is same
            for job in moved:
                kinds = [event.type for event in await store.read_log(job.id, 0)]
                assert kinds.count(EventType.STARTED) == 2
                assert kinds.count(EventType.RESTARTED) == (0 if same else 1)


async def test_a_stopped_worker_that_wakes_up_finds_its_jobs_gone(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = simulated_settings(redis_server, slots=16)
    with pipeline(settings, tmp_path) as running:
        running.control()
        frozen = running.worker()
        async with client(settings) as (store, hub):
            jobs = [generation(f"job {i}", tokens=4000) for i in range(16)]
            for job in jobs:
                await store.submit(job)
            following = asyncio.create_task(run_jobs(store, hub, jobs, timeout=90))

            async def begun() -> bool:
                records = [await store.get(job.id, "acme") for job in jobs]
                return all(record.output_tokens > 0 for record in records)

            await eventually(begun)
            frozen.signal(signal.SIGSTOP)
            running.worker()

            async def taken_over() -> bool:
                records = [await store.get(job.id, "acme") for job in jobs]
                return all(record.fence == 2 for record in records)

            await eventually(taken_over, timeout=20)
            frozen.signal(signal.SIGCONT)
            check_text(jobs, await following)
            await check_jobs(store, [job.id for job in jobs])

            async def noticed() -> bool:
                return frozen.output().count("lease_lost") == 16

            await eventually(noticed)
            more = [generation(f"after {i}") for i in range(32)]
            check_text(more, await run_jobs(store, hub, more))
            await check_nothing_left(store, MODEL)


async def test_a_dead_engine_ends_the_worker_and_no_job(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = simulated_settings(redis_server, slots=32)
    with pipeline(settings, tmp_path) as running:
        running.control()
        victim, _ = running.worker(), running.worker()
        async with client(settings) as (store, hub):
            jobs = [generation(f"job {i}", tokens=150) for i in range(100)]
            jobs.append(generation("[[fault:die-once=10]]", tokens=150))
            check_text(jobs, await run_jobs(store, hub, jobs, timeout=90))
            await check_jobs(store, [job.id for job in jobs])
            await check_nothing_left(store, MODEL)

            async def one_left() -> bool:
                codes = [process.exit_code for process in running.processes[1:]]
                return sorted(code is None for code in codes) == [False, True]

            await eventually(one_left)
        dead = next(p for p in running.processes[1:] if p.exit_code is not None)
        assert dead.exit_code != 0, "so that the orchestrator restarts it"
        assert victim.name == "worker"


async def test_a_hung_engine_is_noticed_and_its_jobs_go_on(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = simulated_settings(redis_server, slots=4, worker={"hang_seconds": 1.5})
    with pipeline(settings, tmp_path) as running:
        running.control()
        hung = running.worker()
        async with client(settings) as (store, hub):
            jobs = [generation("[[fault:hang-once=5]]", tokens=60) for _ in range(2)]
            following = asyncio.create_task(run_jobs(store, hub, jobs, timeout=60))
            assert await asyncio.to_thread(hung.wait) != 0
            running.worker()
            check_text(jobs, await following)
            await check_jobs(store, [job.id for job in jobs])
            await check_nothing_left(store, MODEL)


@pytest.mark.parametrize("own_server", ["redis"], indirect=True)
async def test_a_worker_whose_jobs_wait_for_redis_is_not_hung(
    own_server: RedisServer, tmp_path: Path
) -> None:
    """Redis is away for longer than `hang_seconds`; the engine was well all the time."""
    settings = simulated_settings(
        own_server, slots=8, step_seconds=0.01, worker={"hang_seconds": 1.0}
    )
    with pipeline(settings, tmp_path) as running:
        running.control()
        worker = running.worker()
        async with client(settings) as (store, hub):
            jobs = [generation(f"job {i}", tokens=100) for i in range(16)]
            following = await under_way(store, hub, jobs, running=8)
            await asyncio.to_thread(own_server.stop, signal.SIGKILL)

            async def waited_long() -> bool:  # at most ten a second
                return worker.output().count("heartbeat_failed_store_unavailable") >= 50

            await eventually(waited_long, timeout=30)
            await asyncio.to_thread(own_server.start)
            check_text(jobs, await following)
            await check_jobs(store, [job.id for job in jobs])
            await check_nothing_left(store, MODEL)
        assert worker.running, worker.output()[-3000:]
        assert "no engine step" not in worker.output()


async def test_a_job_that_kills_every_worker_is_dead_lettered(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = simulated_settings(redis_server, retry={"max_lone_stops": 3})
    with pipeline(settings, tmp_path) as running:
        running.control()
        async with client(settings) as (store, _):
            poison = generation("[[fault:exit=0]]")
            await store.submit(poison)
            for _ in range(4):  # once as any job, and three times alone
                await asyncio.to_thread(running.begin_worker().wait)

            async def failed() -> bool:
                return (await store.get(poison.id, "acme")).status is Status.FAILED

            await eventually(failed, timeout=20)
            error = (await store.get(poison.id, "acme")).error
            assert error is not None
            assert error["code"] == "poison-job"
            assert [job.id for job in await dead_letters(store, "acme")] == [poison.id]
            await check_jobs(store, [poison.id])
            await check_nothing_left(store, MODEL)


async def test_a_failing_engine_stops_claiming_is_probed_and_recovers(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    breaker = {"failures": 3, "cooldown_seconds": 0.5}
    retry = {"base_seconds": 0.05, "cap_seconds": 0.1, "max_attempts": 5}
    settings = simulated_settings(redis_server, breaker=breaker, retry=retry)
    with pipeline(settings, tmp_path) as running:
        running.control()
        worker = running.worker()
        async with client(settings) as (store, hub):
            jobs = [generation(f"[[fault:error-once=2]] {i}") for i in range(6)]
            check_text(jobs, await run_jobs(store, hub, jobs, timeout=30))
            assert "breaker_probes" in worker.output()
            await check_jobs(store, [job.id for job in jobs])
            await check_nothing_left(store, MODEL)


async def test_a_frozen_worker_does_not_take_its_own_pause_for_a_hang_of_the_engine(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    lease = {"seconds": 120}
    settings = simulated_settings(redis_server, worker={"hang_seconds": 3.0}, lease=lease)
    with pipeline(settings, tmp_path) as running:
        running.control()
        worker = running.worker()
        async with client(settings) as (store, hub):
            # Frozen during a step of 5.5 s, so that the engine is silent before and after.
            job = generation("[[fault:slow=5.5]]", tokens=1)
            following = await under_way(store, hub, [job], 1)
            worker.signal(signal.SIGSTOP)
            await asyncio.sleep(4)  # longer than a hang
            worker.signal(signal.SIGCONT)
            check_text([job], await following)
        assert worker.running, worker.output()[-3000:]
        assert "no engine step" not in worker.output()
