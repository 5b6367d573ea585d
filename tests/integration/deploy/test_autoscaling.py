"""KEDA's reads and decisions on a real queue while a real worker empties it.

KEDA's Redis scaler asks for the type of the key and counts it with the command of that type.
"""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from core.settings.tree import Settings
from jobs.model_registry import ModelRegistry
from jobs.status import Status
from jobs.store.worker_transitions import LOADING_EXPIRE_MS
from tests.conftest import settings_for
from tests.support.following import run_jobs
from tests.support.keda import Policy
from tests.support.keys import make_key, sqlite_in
from tests.support.manifests import Manifests
from tests.support.processes import connect, pipeline
from tests.support.redis_server import RedisServer
from tests.support.simulated import client, generation, simulated_settings
from tests.support.waiting import eventually
from workers.engines.simulated import MAX_MODEL_LEN

SLOTS = 8
JOBS = 20
#: One command, as the scaler runs it: between two commands the key could appear.
COUNT = """
local counts = {zset = 'ZCARD', set = 'SCARD', list = 'LLEN', hash = 'HLEN', none = 'LLEN'}
return redis.call(counts[redis.call('TYPE', KEYS[1]).ok], KEYS[1])
"""
MODEL = "penstock-tiny"


class Keda:
    """Reads a ScaledObject's triggers and joins them by its formula, as KEDA does."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        (scaled,) = Manifests("dev").of("ScaledObject").values()
        self._redis = redis
        policy = Policy.of(scaled["spec"])
        self._policy = replace(policy, target=float(settings.engine.slots))
        default = Settings(_env_file=None).redis.prefix
        self._lists = {
            trigger["name"]: trigger["metadata"]["listName"].replace(
                f"{default}:", f"{settings.redis.prefix}:", 1
            )
            for trigger in scaled["spec"]["triggers"]
        }

    async def read(self) -> dict[str, int]:
        """Return each trigger's metric."""
        return {name: await self._count(key) for name, key in self._lists.items()}

    async def _count(self, key: str) -> int:
        return int(await self._redis.eval(COUNT, 1, key))

    def replicas(self, metrics: dict[str, int]) -> int:
        """Return what the autoscaler asks for."""
        return self._policy.replicas(metrics)

    async def wanted(self) -> int:
        """Return what the autoscaler asks for now."""
        return self.replicas(await self.read())


async def test_the_autoscaler_sees_every_job_from_submit_to_end(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    engine = {
        "kind": "simulated",
        "served_name": MODEL,
        "slots": SLOTS,
        "simulated": {"step_base_seconds": 0.02},
    }
    settings = settings_for(redis_server, engine=engine)
    async with client(settings) as (store, hub):
        keda = Keda(store.redis, settings)
        assert await keda.wanted() == 0, "nothing is asked for"

        first = generation("the first", tokens=8)._replace(queue=MODEL)
        await store.submit(first)
        assert await keda.read() == {"queued": 1, "running": 0, "loading": 0}
        assert await keda.wanted() == 1, "one job starts a worker"

        jobs = [generation(f"job {i}", tokens=60)._replace(queue=MODEL) for i in range(JOBS)]
        with pipeline(settings, tmp_path) as running:
            running.control()
            following = asyncio.create_task(run_jobs(store, hub, jobs, timeout=60))

            async def waiting() -> bool:
                return (await keda.read())["queued"] == JOBS + 1

            await eventually(waiting)
            assert await keda.wanted() == 3

            running.worker()

            async def full() -> dict[str, Any] | None:
                metrics = await keda.read()
                return metrics if metrics["running"] == SLOTS and metrics["queued"] else None

            metrics = await eventually(full, timeout=30)
            assert metrics["loading"] == 0, "it is loaded"
            assert metrics["queued"] + metrics["running"] <= JOBS + 1

            seen = []
            while not following.done():
                seen.append(await keda.read())
                await asyncio.sleep(0.01)
            results = await following
            assert {result.status for result in results} == {Status.COMPLETED}
            emptied = [metrics for metrics in seen if not metrics["queued"] and metrics["running"]]
            assert emptied, "the queue is empty while jobs still run"
            assert all(keda.replicas(metrics) >= 1 for metrics in emptied)

            async def idle() -> bool:
                return await keda.wanted() == 0

            await eventually(idle)


async def test_a_declared_model_is_woken_though_redis_never_heard_of_it(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """A new region, or a Redis that was lost, while the model is scaled to zero."""
    settings = settings_for(
        redis_server,
        engine={"kind": "simulated", "served_name": MODEL, "slots": SLOTS},
        control={"models": {MODEL: {"max_model_len": 999}}},
        database=sqlite_in(tmp_path),
    )
    job = {"url": "/v1/completions", "body": {"model": MODEL, "prompt": "hi", "max_tokens": 8}}
    async with client(settings) as (store, _):
        keda, models = Keda(store.redis, settings), ModelRegistry(store.redis, store.keys)
        with pipeline(settings, tmp_path) as running:
            running.control()
            api = running.api()
            async with connect(api, make_key(settings)) as http:

                async def taken() -> dict[str, Any] | None:
                    answer = await http.post("/v1/jobs", json=job)
                    accepted: dict[str, Any] = answer.json()
                    return accepted if answer.status_code == 202 else None

                await eventually(taken)
                await store.redis.delete(store.keys.models, store.keys.queues)

                async def known_again() -> bool:
                    return [(m.name, m.max_model_len) for m in await models.list_models()] == [
                        (MODEL, 999)
                    ]

                await eventually(known_again)
                assert await keda.wanted() == 1
                last = await eventually(taken)
                running.worker()
                ended = (await http.get(f"/v1/jobs/{last['id']}?wait=30")).json()
                assert ended["status"] == "completed"
                assert (await models.get(MODEL)).max_model_len == MAX_MODEL_LEN, "the worker's"


async def test_jobs_that_no_worker_may_take_ask_for_no_worker(redis_server: RedisServer) -> None:
    """An account at its cap has its further jobs parked: more workers would not run them sooner."""
    settings = simulated_settings(redis_server)
    async with client(settings) as (store, _):
        keda = Keda(store.redis, settings)
        for i in range(5):
            job = generation(f"job {i}")._replace(queue=MODEL, max_running=2)
            await store.submit(job)
        claimed = await store.claim(MODEL, "w1", 5)
        assert len(claimed) == 2
        assert await keda.read() == {"queued": 0, "running": 2, "loading": 0}


async def test_a_worker_that_loads_its_model_is_kept_and_a_killed_one_is_forgotten(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """A job starts a worker and is cancelled while the model loads: nothing scales it to zero."""
    loads_long = {"start_seconds": 600.0}
    engine = {"kind": "simulated", "served_name": MODEL, "slots": SLOTS, "simulated": loads_long}
    settings = settings_for(redis_server, engine=engine)
    async with client(settings) as (store, _):
        keda = Keda(store.redis, settings)
        job = generation("cancelled soon", tokens=8)._replace(queue=MODEL)
        await store.submit(job)
        with pipeline(settings, tmp_path) as running:
            worker = running.begin_worker()

            async def loading() -> bool:
                return await keda.read() == {"queued": 1, "running": 0, "loading": 1}

            await eventually(loading, timeout=30)
            assert await keda.wanted() == 1, "a worker that loads is no further work"
            await store.cancel(job.id, job.account)
            assert await keda.read() == {"queued": 0, "running": 0, "loading": 1}
            assert await keda.wanted() == 1
            assert (await store.observe(MODEL)).loading == 1
            worker.kill()
        expires_ms = await store.redis.pttl(store.keys.loading(MODEL))
        assert 0 < expires_ms <= LOADING_EXPIRE_MS
