"""What a worker says about a failure: its cause, and whether a job is alone in its engine."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from core.errors import EngineDead
from core.settings.tree import Settings
from jobs.blame import Apart, Blame, Occupancy
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.transitions import ClaimedJob
from tests.support.invariants import check_jobs
from tests.support.redis_server import RedisServer
from tests.support.simulated import MODEL, client, generation, simulated_settings
from tests.support.waiting import eventually
from workers.circuit_breaker import CircuitBreaker
from workers.engines.simulated import SimulatedEngine
from workers.runner import Runner


class Ticket:
    """A ticket that needs no acknowledgement."""

    def done(self) -> None:
        """Do nothing."""


class SlowToDrop(SimulatedEngine):
    """An engine that drops a generation only when it is let."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.engine)
        self.may_drop = asyncio.Event()

    async def abort(self, generation_id: str) -> None:
        await self.may_drop.wait()
        await super().abort(generation_id)


@asynccontextmanager
async def runner_of(
    settings: Settings, store: JobStore, engine: SimulatedEngine
) -> AsyncIterator[Runner]:
    """Run the part of a worker between its claims and its engine."""
    breaker = CircuitBreaker(settings.breaker, time.monotonic)
    runner = Runner(
        store,
        engine,
        breaker,
        settings,
        "w1",
        room_changed=lambda: None,
        fatal=lambda _error: None,
    )
    await engine.start(runner)
    writing = asyncio.create_task(runner.writer.run())
    try:
        yield runner
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await engine.close()


async def claim(store: JobStore, runner: Runner) -> ClaimedJob:
    """Claim the next job and start it."""
    claimed = await store.claim_for(MODEL, "w1", 1, runner.occupancy)
    (job,) = claimed.jobs
    runner.start(job, Ticket())
    return job


async def released(runner: Runner) -> None:
    async def empty() -> bool:
        return not len(runner.attempts)

    await eventually(empty)


async def works(engine: SimulatedEngine) -> None:
    async def running() -> bool:
        return engine.load().running > 0

    await eventually(running)


async def marks(store: JobStore, job_id: str) -> tuple[str, int, int]:
    """Return how a job runs next, and the stops that are held against it."""
    found = await store._read.hmget(store.keys.job(job_id), "apart", "kills", "losses")
    return (found[0] or b"").decode(), int(found[1] or 0), int(found[2] or 0)


@pytest.mark.parametrize("outside", [True, False])
async def test_an_engine_that_was_killed_from_outside_is_a_stop_of_unknown_cause(
    redis_server: RedisServer, outside: bool
) -> None:
    settings = simulated_settings(redis_server)
    async with client(settings) as (store, _):
        job = generation("[[fault:hang=0]]")
        await store.submit(job)
        (first,) = await store.claim(MODEL, "w0", 1)
        await store.requeue(first.id, first.fence, None, blame=Blame.ENGINE)
        engine = SimulatedEngine(settings.engine)
        async with runner_of(settings, store, engine) as runner:
            await claim(store, runner)
            await works(engine)
            runner.dead(EngineDead("gone", from_outside=outside))
            await released(runner)
        assert await marks(store, job.id) == (Apart.ALONE, int(not outside), int(outside))


async def test_a_job_that_was_claimed_while_the_engine_died_has_nothing_to_do_with_it(
    redis_server: RedisServer,
) -> None:
    settings = simulated_settings(redis_server)
    async with client(settings) as (store, _):
        victim, late = generation("[[fault:die=0]]"), generation("late")
        await store.submit(late)
        (first,) = await store.claim(MODEL, "w0", 1)
        await store.requeue(first.id, first.fence, None, blame=Blame.ENGINE)
        (alone,) = await store.claim(MODEL, "w1", 1)
        await store.submit(victim)
        async with runner_of(settings, store, SimulatedEngine(settings.engine)) as runner:
            await claim(store, runner)

            async def dying() -> bool:
                return runner.dying

            await eventually(dying)
            runner.start(alone, Ticket())  # its claim was under way
            await released(runner)
        assert await marks(store, late.id) == (Apart.START, 0, 0)
        assert (await store.get(late.id, "acme")).failures == 0


async def test_the_first_failure_of_the_engine_is_repeated_apart_before_one_counts(
    redis_server: RedisServer,
) -> None:
    retry = {"base_seconds": 0.001, "max_attempts": 2}
    settings = simulated_settings(redis_server, retry=retry)
    async with client(settings) as (store, _):
        job = generation("[[fault:error=0]]")
        await store.submit(job)
        async with runner_of(settings, store, SimulatedEngine(settings.engine)) as runner:
            for failures, apart in ((0, Apart.NONE), (1, Apart.START), (2, Apart.START)):
                await store.redis.zadd(store.keys.part(MODEL, "delayed"), {job.id: 1}, xx=True)
                await store.sweep(MODEL)
                assert (await claim(store, runner)).apart is apart
                await released(runner)
                assert (await store.get(job.id, "acme")).failures == failures
        record = await store.get(job.id, "acme")
        assert record.status is Status.FAILED
        assert record.error is not None
        assert record.error["code"] == "engine-error"
        await check_jobs(store, [job.id])


async def test_no_job_is_alone_while_the_engine_works_on_one_that_has_ended(
    redis_server: RedisServer,
) -> None:
    settings = simulated_settings(redis_server)
    async with client(settings) as (store, _):
        job = generation("[[fault:stall=0]]")
        await store.submit(job)
        engine = SlowToDrop(settings)
        async with runner_of(settings, store, engine) as runner:
            seen = [runner.occupancy]
            await claim(store, runner)
            seen.append(runner.occupancy)
            assert seen == [Occupancy.EMPTY, Occupancy.BUSY]

            await works(engine)
            runner.cancel(job.id)
            await released(runner)
            seen.append(runner.occupancy)
            assert seen[-1] is Occupancy.BUSY
            assert runner.seconds_silent() == 0.0, "from now on"

            async def silent() -> bool:
                return runner.seconds_silent() > 0.05

            await eventually(silent)
            engine.may_drop.set()

            async def alone() -> bool:
                return runner.occupancy is Occupancy.EMPTY

            await eventually(alone)
            assert runner.seconds_silent() == 0.0
