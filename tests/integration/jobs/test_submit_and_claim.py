"""Submit, order and claim on a real Redis and a real Valkey."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from accounts.caller import Limits
from accounts.quota import quota_of
from core.errors import IdempotencyMismatch, JobGone, JobNotFound, QueueFull
from core.settings.tree import Settings
from jobs.fairness import ServiceTier
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.rate_limits import Quota
from jobs.store.store_factory import open_store
from tests.conftest import settings_for
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.jobs import QUEUE, complete, submission
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually


async def test_a_submitted_job_is_read_back_and_claimed_once(store: JobStore) -> None:
    accepted = await store.submit(submission())
    job = await store.get(accepted.id, "acme")
    assert (job.status, job.attempt) == (Status.QUEUED, 0)
    assert (await store.place(job)).position == 1
    first, second = await asyncio.gather(*(store.claim(QUEUE, w, 1) for w in ("w1", "w2")))
    assert len(first) + len(second) == 1
    await complete(store, (first + second)[0])
    await check_jobs(store, [accepted.id])
    await check_nothing_left(store, QUEUE)


async def test_the_arguments_and_rows_of_scripts_are_in_the_right_order(store: JobStore) -> None:
    """Each value written by Python is found under Lua's name, and the reverse."""
    now = int((await store.redis.time())[0]) * 1000
    given = submission(
        "acme",
        key_id="key_7",
        weight=2.5,
        max_running=11,
        start_by=now + 3_600_000,
        deadline=now + 7_200_000,
        watcher="hub_1",
    )
    accepted = await store.submit(given)
    raw: Any = await store.redis.hgetall(store.keys.job(given.id))
    record = {name.decode(): value.decode() for name, value in raw.items()}
    assert {name: record[name] for name in ("account", "queue", "key_id", "watch", "cap")} == {
        "account": "acme",
        "queue": QUEUE,
        "key_id": "key_7",
        "watch": "hub_1",
        "cap": "11",
    }
    assert (int(record["start_by"]), int(record["deadline"])) == (given.start_by, given.deadline)
    assert json.loads(record["body"]) == given.spec.body
    assert json.loads(record["spec"])["url"] == given.spec.url
    (claimed,) = await store.claim(QUEUE, "w1", 1)
    job = await store.get(given.id, "acme")
    assert claimed.spec == job.spec == given.spec
    for name in ("id", "fence", "attempt", "seq", "output_tokens", "account", "created", "queued"):
        assert getattr(claimed, name) == getattr(job, name), name
    assert (claimed.fence, claimed.attempt, claimed.seq, claimed.watched) == (1, 1, 1, True)
    assert (claimed.created, claimed.input_tokens) == (accepted.created, None)
    assert given.deadline is not None
    assert claimed.now == job.claimed < claimed.run_deadline <= given.deadline
    await complete(store, claimed)


async def test_many_workers_never_share_a_job(store: JobStore) -> None:
    ids = {(await store.submit(submission())).id for _ in range(200)}
    claims = await asyncio.gather(*(store.claim(QUEUE, f"w{i}", 7) for i in range(40)))
    claimed = [job.id for batch in claims for job in batch]
    assert len(claimed) == len(set(claimed)) == 200
    assert set(claimed) == ids


async def test_foreign_and_unknown_jobs_look_alike(store: JobStore) -> None:
    accepted = await store.submit(submission("acme"))
    messages = []
    for job_id, account in ((accepted.id, "other"), ("job_none", "acme")):
        with pytest.raises(JobNotFound) as caught:
            await store.get(job_id, account)
        messages.append(str(caught.value).replace(job_id, "ID"))
    assert messages[0] == messages[1]


async def test_a_repeated_submit_of_the_same_job_is_accepted_once(store: JobStore) -> None:
    job = submission()
    await store.submit(job)
    await store.submit(job)
    assert len(await store.claim(QUEUE, "w1", 5)) == 1


async def test_one_idempotency_key_makes_one_job(store: JobStore) -> None:
    jobs = [submission(idempotency_key="k1") for _ in range(20)]
    answers = await asyncio.gather(*(store.submit(job) for job in jobs))
    assert len({answer.id for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    with pytest.raises(IdempotencyMismatch):
        await store.submit(submission(prompt="another", idempotency_key="k1"))
    other = await store.submit(submission("other", prompt="another", idempotency_key="k1"))
    assert not other.replayed, "keys are the account's own"


async def test_a_full_queue_refuses_and_says_when_to_come_back(redis_server: RedisServer) -> None:
    settings = settings_for(redis_server, queue={"max_queued": 3, "max_queued_per_account": 2})
    store = open_store(settings)
    for account in ("a", "a", "b"):
        await store.submit(submission(account))
    with pytest.raises(QueueFull, match="the queue is full") as refused:
        await store.submit(submission("c"))
    assert refused.value.retry_after_seconds >= 1
    await complete(store, (await store.claim(QUEUE, "w1", 3))[2])
    await store.submit(submission("a"))
    await store.submit(submission("a"))
    with pytest.raises(QueueFull, match="account's share"):
        await store.submit(submission("a"))
    await store.close()


async def test_tiers_come_in_order(store: JobStore) -> None:
    for tier in (ServiceTier.FLEX, ServiceTier.DEFAULT, ServiceTier.PRIORITY):
        await store.submit(submission(tier=tier))
    claimed = await store.claim(QUEUE, "w1", 3)
    assert [job.spec.service_tier for job in claimed] == ["priority", "default", "flex"]


async def test_a_thousand_jobs_of_one_account_do_not_delay_anothers(store: JobStore) -> None:
    await asyncio.gather(*(store.submit(submission("busy")) for _ in range(1000)))
    await store.claim(QUEUE, "w1", 100)
    quiet = await store.submit(submission("quiet"))
    nexts = await store.claim(QUEUE, "w1", 2)
    assert quiet.id in [job.id for job in nexts]


async def test_shares_follow_weights(store: JobStore) -> None:
    for _ in range(300):
        await store.submit(submission("heavy", weight=3.0))
        await store.submit(submission("light", weight=1.0))
    claimed = Counter(job.account for job in await store.claim(QUEUE, "w1", 200))
    assert abs(claimed["heavy"] - 150) <= 2


async def test_shares_are_counted_in_tokens_not_in_jobs(store: JobStore) -> None:
    for _ in range(200):
        await store.submit(submission("long", tokens=900))
        await store.submit(submission("short", tokens=100))
    claimed = Counter(job.account for job in await store.claim(QUEUE, "w1", 100))
    assert claimed["short"] > 4 * claimed["long"]


async def test_a_lower_tier_that_waited_too_long_gets_its_turn(redis_server: RedisServer) -> None:
    settings = settings_for(redis_server, queue={"ageing_seconds": 0.001, "ageing_every": 4})
    store = open_store(settings)
    flex = [(await store.submit(submission("f", tier=ServiceTier.FLEX))).id for _ in range(5)]
    for _ in range(40):
        await store.submit(submission("p", tier=ServiceTier.PRIORITY))
    await store.redis.ping()
    claimed = [job.id for job in await store.claim(QUEUE, "w1", 16)]
    assert sum(job_id in flex for job_id in claimed) == 4
    await store.close()


async def test_a_fresh_lower_tier_does_not_push_in(store: JobStore) -> None:
    await store.submit(submission("f", tier=ServiceTier.FLEX))
    for _ in range(30):
        await store.submit(submission("p", tier=ServiceTier.PRIORITY))
    claimed = await store.claim(QUEUE, "w1", 30)
    assert {job.account for job in claimed} == {"p"}


async def test_an_account_at_its_cap_waits_without_blocking_others(store: JobStore) -> None:
    capped = [(await store.submit(submission("capped", max_running=2))).id for _ in range(6)]
    free = await store.submit(submission("free"))
    claimed = await store.claim(QUEUE, "w1", 10)
    assert sorted(Counter(job.account for job in claimed).items()) == [("capped", 2), ("free", 1)]
    assert await store.claim(QUEUE, "w1", 10) == []
    done = [free.id]
    waiting = claimed
    while waiting:
        await complete(store, waiting[0])
        done.append(waiting[0].id)
        waiting = waiting[1:] + await store.claim(QUEUE, "w1", 10)
        assert sum(job.account == "capped" for job in waiting) <= 2
    assert set(done) == {*capped, free.id}
    await check_jobs(store, capped, "capped")
    await check_nothing_left(store, QUEUE)


async def test_a_job_that_did_not_start_in_time_expires_uncharged(store: JobStore) -> None:
    seconds, micros = await store.redis.time()
    soon = seconds * 1000 + micros // 1000 + 300
    late = await store.submit(submission(start_by=soon))

    async def expired() -> bool:
        await store.claim(QUEUE, "w1", 0)
        await store.sweep(QUEUE)
        return (await store.get(late.id, "acme")).status is Status.EXPIRED

    await eventually(expired)
    job = await store.get(late.id, "acme")
    assert job.output_tokens == 0
    assert job.error is not None
    assert job.error["code"] == "deadline-exceeded"
    await check_jobs(store, [late.id])
    await check_nothing_left(store, QUEUE)


async def test_every_submit_pushes_one_real_celery_message(store: JobStore) -> None:
    await store.submit(submission())
    await store.submit(submission())
    raw = await store.redis.lrange(store.keys.tickets(QUEUE), 0, -1)
    tickets = [json.loads(item) for item in raw]
    assert len({ticket["properties"]["delivery_tag"] for ticket in tickets}) == 2
    for ticket in tickets:
        assert ticket["headers"]["task"] == "penstock.run_one"
        assert ticket["properties"]["delivery_info"]["routing_key"] == store.keys.tickets(QUEUE)


async def test_listing_pages_from_new_to_old(store: JobStore) -> None:
    ids = [(await store.submit(submission())).id for _ in range(7)]
    seen: list[str] = []
    before: str | None = None
    while page := await store.list_jobs("acme", limit=3, before=before, status=None):
        seen += [job.id for job in page]
        before = page[-1].id
    assert seen == sorted(ids, reverse=True)


async def test_past_its_retention_a_job_is_gone_not_unknown(redis_server: RedisServer) -> None:
    store = open_store(settings_for(redis_server, retention={"seconds": 1}))
    accepted = await store.submit(submission())
    await complete(store, (await store.claim(QUEUE, "w1", 1))[0])

    async def gone() -> bool:
        await store.purge()
        try:
            await store.get(accepted.id, "acme")
        except JobGone:
            return True
        return False

    await eventually(gone)
    assert await store.list_jobs("acme", limit=5, before=None, status=None) == []
    with pytest.raises(JobNotFound):
        await store.get(accepted.id, "other")
    await store.close()


async def test_position_and_eta_follow_the_queue(store: JobStore, settings: Settings) -> None:
    for _ in range(5):
        await store.submit(submission())
    await store.renew(QUEUE, "w1", 2, b"{}", [])
    for job in await store.claim(QUEUE, "w1", 3):
        await complete(store, job)
    jobs = await store.list_jobs("acme", limit=10, before=None, status=Status.QUEUED)
    places = sorted([await store.place(job) for job in jobs], key=lambda place: place.position or 0)
    assert [place.position for place in places] == [1, 2]
    assert all(place.eta is not None for place in places)
    assert settings.redis.prefix == store.keys.prefix


async def test_room_of_an_account_goes_to_another_key_when_the_next_job_s_key_is_full(
    store: JobStore,
) -> None:
    whole = Limits(max_running=2)
    one = quota_of("acme", "one", Limits(max_running=1), whole)
    free = quota_of("acme", "free", Limits(), whole)

    async def add(quota: Quota) -> str:
        return (await store.submit(submission(quota=quota))).id

    first, second, third, fourth = [await add(quota) for quota in (one, free, one, free)]
    running = {job.id: job for job in await store.claim(QUEUE, "w1", 4)}
    assert set(running) == {first, second}
    await complete(store, running[second])
    # The third is next but its key is full: the account's free slot must be used.
    assert [job.id for job in await store.claim(QUEUE, "w1", 4)] == [fourth]
    await complete(store, running[first])
    assert [job.id for job in await store.claim(QUEUE, "w1", 4)] == [third]
