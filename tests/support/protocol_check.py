"""Compares a real Redis with `protocol_model`, and brings all jobs to an end."""

from collections import Counter
from typing import Any

import orjson
import pytest

from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.queue_control import ModeChange, QueueMode
from jobs.store.transitions import Ending, LogAppend
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.jobs import QUEUE
from tests.support.protocol_model import Model, ModelJob


async def check_agreement(store: JobStore, model: Model) -> None:
    """Fail where a record, a log, a set, a counter or the outbox differs from the model."""
    redis: Any = store.redis
    keys, jobs = store.keys, model.by_id()
    everybody = sorted({who for job in jobs for who in (job.account, job.group) if who})
    names = ("ready", "apart", "running", "delayed", "deadlines", "waiting", "running_by")
    pipe: Any = redis.pipeline(transaction=True)
    for name in names[:5]:
        pipe.zrange(keys.part(QUEUE, name), 0, -1)
    for name in names[5:]:
        pipe.hgetall(keys.part(QUEUE, name))
    for who in everybody:
        pipe.zrange(keys.part(QUEUE, f"parked:{who}"), 0, -1)
    pipe.smembers(keys.part(QUEUE, "parked_accounts"))
    pipe.llen(keys.tickets(QUEUE))
    pipe.xrange(keys.outbox)
    pipe.zrange(keys.dead, 0, -1)
    for job in jobs:
        pipe.hgetall(keys.job(job.id))
        pipe.xrange(keys.log(job.id))
    found = await pipe.execute()
    ready, apart, running, delayed, deadlines, waiting, running_by = found[:7]
    parked, rest = found[7 : 7 + len(everybody)], found[7 + len(everybody) :]
    assert _ids(ready) == [job.id for job in model.at("ready")], "order"
    assert _ids(apart) == [job.id for job in model.at("apart")]
    assert set(_ids(running)) == {job.id for job in model.at("running")}
    assert set(_ids(delayed)) == {job.id for job in model.at("delayed")}
    assert set(_ids(deadlines)) == {job.id for job in jobs if _limited(job)}
    assert _counts(waiting) == model.waiting()
    assert _counts(running_by) == model.running_by()
    for who, ids in zip(everybody, parked, strict=True):
        assert _ids(ids) == [job.id for job in model.parked(who)]
    assert set(_ids(rest[0])) == {job.parked_by for job in model.at("parked")}
    assert rest[1] == model.tickets
    used = Counter(fields[b"job"].decode() for _, fields in rest[2])
    assert used == Counter(job.id for job in jobs if job.terminal) + model.forgotten
    assert set(_ids(rest[3])) == {job.id for job in jobs if job.dead}
    for job, record, log in zip(jobs, rest[4::2], rest[5::2], strict=True):
        _check_job(job, record, log)


async def settle(store: JobStore, model: Model) -> None:
    """Check that working workers finish every job after any history."""
    redis: Any = store.redis
    ids = {job.id: job.account for job in model.jobs.values()}
    await store.control.change_mode(QUEUE, ModeChange.to(QueueMode.OPEN), "test")
    for _ in range(20 * model.limits.max_attempts):
        for name in ("running", "delayed"):
            for job_id in await redis.zrange(store.keys.part(QUEUE, name), 0, -1):
                await redis.zadd(store.keys.part(QUEUE, name), {job_id: 1})
        await store.sweep(QUEUE)
        for job in await store.claim(QUEUE, "last", 64):
            done = Ending(Status.COMPLETED)
            step = LogAppend(job.id, job.fence, job.seq, [], 3, 0, job.output_tokens, done)
            assert await store.append([step]) == ["finished"]
    for account in sorted(set(ids.values())):
        own = [job_id for job_id, owner in ids.items() if owner == account]
        await check_jobs(store, own, account)
    await check_nothing_left(store, QUEUE)


def _ids(raw: Any) -> list[str]:
    return [item.decode() for item in raw]


def _counts(raw: dict[bytes, bytes]) -> Counter[str]:
    return Counter({name.decode(): int(n) for name, n in raw.items()}) - Counter()


def _limited(job: ModelJob) -> bool:
    if job.status == "in_progress":
        return True
    waits = job.start_by is not None and not job.started
    return job.status == "queued" and (waits or job.deadline is not None)


def _check_job(job: ModelJob, record: dict[bytes, bytes], log: list[Any]) -> None:
    assert record[b"status"].decode() == job.status
    assert int(record[b"fence"]) == job.fence
    assert int(record[b"failures"]) == job.failures
    marks = [int(record.get(name, 0)) for name in (b"deaths", b"kills", b"losses")]
    assert marks == [job.deaths, job.kills, job.losses]
    assert record.get(b"apart", b"").decode() == job.apart
    assert bool(int(record.get(b"lone", 0))) == job.lone
    assert int(record[b"seq"]) == job.seq == len(log)
    assert [int(seq.partition(b"-")[0]) for seq, _ in log] == list(range(1, len(log) + 1))
    assert int(record.get(b"output", 0)) == len(job.tokens)
    assert float(record[b"virtual_start"]) == pytest.approx(job.virtual_start, abs=0.1)
    assert bool(record[b"watch"]) == job.watched
    events = [orjson.loads(fields[b"d"]) for _, fields in log]
    assert sum("status" in event for event in events) == int(job.terminal)
    assert not job.terminal or "status" in events[-1]
    ids: list[int] = []
    for (_, fields), event in zip(log, events, strict=True):
        if fields[b"t"] == b"restarted":
            ids.clear()
        ids += event.get("token_ids", [])
    assert ids == job.tokens
