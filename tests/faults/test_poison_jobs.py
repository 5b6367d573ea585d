"""One job that stops each worker that runs it, or fails always, among jobs of other accounts."""

import asyncio
from pathlib import Path

import pytest

from tests.support.following import follow_all, run_jobs
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.processes import pipeline
from tests.support.redis_server import RedisServer
from tests.support.simulated import MODEL, check_text, client, generation, simulated_settings

KINDS = ["exit", "segv", "die", "hang", "stall"]


@pytest.mark.parametrize("kind", KINDS)
async def test_one_poison_job_fails_and_all_others_complete(
    redis_server: RedisServer, tmp_path: Path, kind: str
) -> None:
    # Short only where it is needed: on a busy machine a healthy engine may be silent for a while.
    worker = {"hang_seconds": 1.5} if kind in {"hang", "stall"} else {}
    settings = simulated_settings(redis_server, slots=16, worker=worker)
    accounts = [f"account-{number}" for number in range(10)]
    with pipeline(settings, tmp_path) as running:
        running.control()
        workers = [running.worker(), running.worker()]
        async with client(settings) as (store, hub):
            poison = generation(f"[[fault:{kind}=0]]", account=accounts[0])
            jobs = [
                generation(f"job {i}", tokens=20 + 7 * i % 50, account=accounts[i % 10])
                for i in range(250)
            ]
            for job in [*jobs[:60], poison, *jobs[60:]]:
                await store.submit(job)
            following = asyncio.create_task(follow_all(hub, [*jobs, poison], 120))
            while not following.done():
                for process in [one for one in workers if one.exit_code is not None]:
                    workers.remove(process)
                    workers.append(await asyncio.to_thread(running.worker))
                await asyncio.wait([following], timeout=0.1)
            *results, last = following.result()
            check_text(jobs, results)
            assert last.status == "failed"
            assert last.error is not None
            assert last.error["code"] == "poison-job"
            fence = (await store.get(poison.id, poison.account)).fence
            assert fence == 2, "it ran twice, so it stopped two workers"
            for job in jobs:
                record = await store.get(job.id, job.account)
                assert (record.failures, record.attempt) == (0, 1)
            for account in accounts:
                own = [job.id for job in [*jobs, poison] if job.account == account]
                await check_jobs(store, own, account)
            await check_nothing_left(store, MODEL)


async def test_failing_jobs_of_one_account_do_not_open_the_breaker(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    retry = {"base_seconds": 0.05, "cap_seconds": 0.1}
    breaker = {"failures": 3, "cooldown_seconds": 300}
    settings = simulated_settings(redis_server, slots=8, retry=retry, breaker=breaker)
    with pipeline(settings, tmp_path) as running:
        running.control()
        worker = running.worker()
        async with client(settings) as (store, hub):
            bad = [generation("[[fault:error=0]]", account="bad") for _ in range(15)]
            failed = await run_jobs(store, hub, bad, timeout=60)
            assert [result.status for result in failed] == ["failed"] * len(bad)
            more = [generation("[[fault:error=0]]", account="bad") for _ in range(15)]
            failing = asyncio.create_task(run_jobs(store, hub, more, timeout=60))
            good = [generation(f"job {i}", account="good") for i in range(40)]
            for job in good:
                check_text([job], await run_jobs(store, hub, [job], timeout=5))
            assert [result.status for result in await failing] == ["failed"] * len(bad)
            assert "breaker_probes" in worker.output(), "the engine was asked instead"
            await check_jobs(store, [job.id for job in bad], "bad")
            await check_nothing_left(store, MODEL)
