"""The invariants of `docs/architecture.md`, read from Redis; every fault test ends here."""

from collections import Counter
from collections.abc import Iterable

from jobs.outbox import UsageEntry
from jobs.result import fold
from jobs.store import JobStore


async def check_jobs(store: JobStore, ids: Iterable[str], account: str = "acme") -> None:
    """Each accepted job has one end, a whole log, and one usage entry that says the same."""
    entries = await store.redis.xrange(store.keys.outbox)
    usage = [UsageEntry.from_stream(entry_id, raw) for entry_id, raw in entries]
    count = Counter(entry.job_id for entry in usage)
    by_id = {entry.job_id: entry for entry in usage}
    for job_id in ids:
        job = await store.get(job_id, account)
        assert job.status.is_terminal, f"{job_id} is {job.status}"
        log = await store.read_log(job_id, 0)
        assert [event.seq for event in log] == list(range(1, job.seq + 1)), f"hole in {job_id}"
        ends = [event for event in log if event.type == "finished"]
        assert len(ends) == 1, f"{job_id} ended {len(ends)} times"
        assert log[-1] is ends[0], f"{job_id} has events after its end"
        result = fold(log)
        assert result.status == job.status
        delivered = sum(choice.token_count for choice in result.choices.values())
        assert delivered == job.output_tokens, f"{job_id}: {delivered} in log"
        assert count[job_id] == 1, f"{job_id} has {count[job_id]} usage entries"
        entry = by_id[job_id]
        assert (entry.status, entry.output_tokens) == (job.status, job.output_tokens)


async def check_nothing_left(store: JobStore, queue: str) -> None:
    """No lease, place, counter or parked job is left in a queue that has emptied."""
    redis, keys = store.redis, store.keys
    assert await redis.zcard(keys.queued(queue)) == 0, "ready set not empty"
    assert await redis.zcard(keys.running(queue)) == 0, "lease left"
    for part in ("delayed", "deadlines"):
        assert await redis.zcard(keys.part(queue, part)) == 0, f"{part} not empty"
    waiting = await redis.hgetall(keys.part(queue, "waiting"))
    assert all(int(n) == 0 for n in waiting.values()), f"waiting count leaked: {waiting}"
    assert await redis.hlen(keys.part(queue, "running_by")) == 0, "running count leaked"
    assert await redis.scard(keys.part(queue, "parked_accounts")) == 0, "parked job left"
