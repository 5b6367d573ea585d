"""Checks the invariants of `docs/architecture.md` in Redis; every fault test ends with them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from jobs.result import fold
from jobs.store.job_store import JobStore
from jobs.store.usage_outbox import UsageEntry


async def check_jobs(
    store: JobStore,
    ids: Iterable[str],
    account: str = "acme",
    recorded: Sequence[Any] | None = None,
) -> None:
    """Check that each job has one end, a whole log, and one usage entry that agrees.

    `recorded` are the ledger's rows, where a ledger has emptied the outbox.
    """
    redis: Any = store.redis
    entries = await redis.xrange(store.keys.outbox)
    usage: list[Any] = [UsageEntry.from_stream(entry_id, raw) for entry_id, raw in entries]
    usage += recorded or []
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
    """Check that an empty queue has no lease, slot, counter or parked job left."""
    redis, keys = store.redis, store.keys
    assert await redis.zcard(keys.queued(queue)) == 0, "ready set not empty"
    assert await redis.zcard(keys.running(queue)) == 0, "lease left"
    for part in ("apart", "delayed", "deadlines"):
        assert await redis.zcard(keys.part(queue, part)) == 0, f"{part} not empty"
    assert await redis.scard(keys.part(queue, "lone")) == 0, "a job is left as running apart"
    waiting = await redis.hgetall(keys.part(queue, "waiting"))
    assert all(int(n) == 0 for n in waiting.values()), f"waiting count leaked: {waiting}"
    assert await redis.hlen(keys.part(queue, "running_by")) == 0, "running count leaked"
    assert await redis.scard(keys.part(queue, "parked_accounts")) == 0, "parked job left"


#: Keys that stay when all jobs have ended; `{q}` is the queue. Their number is bounded by the
#: number of queues, accounts and workers, and by retention, but for the outbox (until archived).
PERMANENT = (
    "q:{q}:fair", "q:{q}:waiting", "q:{q}:service", "q:{q}:workers", "q:{q}:slots", "queues",
    "models", "totals", "outbox", "purge", "dead", "dead:tickets", "ticket:seq",
    "unacked", "unacked_index", "sweeper", "callers",
)  # fmt: skip


async def check_only_known_keys(store: JobStore, queue: str) -> None:
    """Check that keys without a TTL are known permanent ones or those of waiting tickets."""
    redis: Any = store.redis
    prefix = store.keys.prefix
    known = {f"{prefix}:{name.format(q=queue)}" for name in PERMANENT}
    strange = []
    async for raw in redis.scan_iter(match=f"{prefix}:*", count=1000):
        key = raw.decode()
        lists = key.startswith(f"{prefix}:account:") and key.endswith((":jobs", ":dead"))
        if key not in known and not lists and await redis.ttl(key) == -1:
            strange.append(key)
    assert not strange, f"keys without a TTL: {sorted(strange)[:10]} of {len(strange)}"


async def check_tickets_gone(store: JobStore, queue: str) -> None:
    """Check that surplus tickets were taken; dead workers leave at most one per slot."""
    assert await store.redis.llen(store.keys.tickets(queue)) == 0, "tickets left"


def check_memory(pids: Iterable[int], most_bytes: int) -> dict[int, int]:
    """Check each process's resident memory; return the sizes."""
    import psutil

    sizes = {pid: int(psutil.Process(pid).memory_info().rss) for pid in pids}
    heavy = {pid: size for pid, size in sizes.items() if size > most_bytes}
    assert not heavy, f"processes over {most_bytes >> 20} MiB: {heavy}"
    return sizes
