"""Rate limits: the script's arithmetic against exact fractions, on virtual time."""

import asyncio
import itertools
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts.caller import NO_LIMITS, Limits
from accounts.quota import RateRules, quota_of
from core.errors import LimitTooSmall, RateLimited
from jobs.fairness import estimated_tokens
from jobs.status import Status
from jobs.store.budget_reservations import ACCOUNT
from jobs.store.job_store import JobStore
from jobs.store.rate_limits import ADDRESS, RATE_PARTS, Quota, RateLimitStatus
from jobs.store.store_factory import open_store
from jobs.store.transitions import Ending, LogAppend, Submission
from tests.conftest import settings_for
from tests.support.bucket import Bucket
from tests.support.jobs import QUEUE, submission
from tests.support.redis_server import RedisServer
from tests.support.virtual_time import VirtualTime

KEYS = ("one", "two")
#: 7 and 17 do not divide a minute, so a bucket's level is never a whole millisecond.
REQUESTS = st.sampled_from([0, 0, 1, 3, 7, 60])
TOKENS = st.sampled_from([0, 0, 300, 1017, 5000])
RULES = st.builds(
    RateRules,
    request_burst_ms=st.sampled_from([1, 1_000, 7_777, 60_000, 300_000]),
    token_burst_ms=st.sampled_from([10_001, 60_000, 300_000]),
    per_address=REQUESTS,
)
LIMITS = st.builds(Limits, requests_per_minute=REQUESTS, tokens_per_minute=TOKENS)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(0, 40_000), st.none()),
        st.tuples(st.just("set back"), st.integers(0, 90_000), st.none()),
        st.tuples(st.just("submit"), st.sampled_from(KEYS), st.integers(1, 400)),
        st.tuples(st.just("repeat"), st.integers(0, 9), st.none()),
        st.tuples(st.just("end"), st.integers(0, 900), st.none()),
        st.tuples(st.just("cancel"), st.none(), st.none()),
    ),
    max_size=25,
)


class Play:
    """One history, played on the real scripts and on exact buckets."""

    _accounts = itertools.count()

    def __init__(
        self,
        store: JobStore,
        clock: VirtualTime,
        limits: dict[str, Limits],
        whole: Limits,
        rules: RateRules,
    ) -> None:
        self.store, self.clock = store, clock
        number = next(self._accounts)
        self.account, address = f"a{number}", f"10.{number // 256}.{number % 256}.1"
        self.quotas = {
            key: quota_of(self.account, key, limits[key], whole, rules, address) for key in KEYS
        }
        self.buckets = {
            (rate.scope, rate.kind): Bucket(rate.limit, rate.burst_ms)
            for quota in self.quotas.values()
            for rate in quota.rates
        }
        self.accepted: list[tuple[Submission, int]] = []
        self.waiting: list[tuple[Submission, int]] = []

    def needs(self, quota: Quota, tokens: int) -> list[tuple[Bucket, int]]:
        return [
            (self.buckets[rate.scope, rate.kind], 1 if rate.kind == "requests" else tokens)
            for rate in quota.rates
        ]

    def check_standings(self, quota: Quota, told: Any) -> None:
        expected = []
        for rate in quota.rates:
            bucket = self.buckets[rate.scope, rate.kind]
            level = bucket.look(self.clock.now)
            left = max(0, (bucket.holds - level) // 1)
            reset = -(-(level * RATE_PARTS) // bucket.limit)
            expected.append(RateLimitStatus(rate, left, reset))
        assert list(told) == expected

    async def submit(self, key: str, tokens: int) -> None:
        quota = self.quotas[key]
        job = submission(self.account, tokens=tokens, key_id=key, quota=quota)
        cost = estimated_tokens(job.spec.body, len(orjson.dumps(job.spec.body)))
        needs = self.needs(quota, cost)
        waits = [bucket.wait(units, self.clock.now) for bucket, units in needs]
        try:
            accepted = await self.store.submit(job)
        except LimitTooSmall:
            assert any(units > bucket.holds for bucket, units in needs)
        except RateLimited as refused:
            self.check_refusal(refused, max(waits), quota)
        else:
            assert not any(waits), "one too many"
            for bucket, units in needs:
                bucket.take(units, self.clock.now)
            self.check_standings(quota, accepted.rate_limits)
            self.accepted.append((job, cost))
            self.waiting.append((job, cost))

    def check_refusal(self, refused: RateLimited, wait: int, quota: Quota) -> None:
        assert wait > 0, "one too few"
        assert refused.retry_after_seconds == wait / 1000
        self.check_standings(quota, refused.rate_limits)

    async def repeat(self, number: int) -> None:
        if self.accepted:
            job, _ = self.accepted[number % len(self.accepted)]
            again = await self.store.submit(job)
            self.check_standings(job.quota, again.rate_limits)

    def settle(self, job: Submission, cost: int, took: int) -> None:
        for rate in job.quota.rates:
            if rate.kind == "tokens":
                self.buckets[rate.scope, rate.kind].take(took - cost, self.clock.now)

    async def end(self, took: int) -> None:
        for claimed in await self.store.claim(QUEUE, "w", 1):
            job, cost = next(one for one in self.waiting if one[0].id == claimed.id)
            self.waiting.remove((job, cost))
            step = LogAppend(
                claimed.id, claimed.fence, claimed.seq, [], took, 0, 0, Ending(Status.COMPLETED)
            )
            assert await self.store.append([step]) == ["finished"]
            self.settle(job, cost, took)

    async def cancel(self) -> None:
        if self.waiting:
            job, cost = self.waiting.pop()
            assert await self.store.cancel(job.id, job.account) == "cancelled"
            self.settle(job, cost, 0)

    async def step(self, verb: str, first: Any, second: Any) -> None:
        match verb:
            case "wait":
                await self.clock.advance(first)
            case "set back":
                await self.clock.advance(-first)
            case "submit":
                await self.submit(first, second)
            case "repeat":
                await self.repeat(first)
            case "end":
                await self.end(first)
            case "cancel":
                await self.cancel()

    async def check_left(self) -> None:
        """Check that each bucket in Redis equals the model's and expires."""
        redis: Any = self.store.redis
        for (scope, kind), bucket in self.buckets.items():
            owner = "" if scope.startswith(ADDRESS) else self.account
            name = self.store.keys.rate(owner, scope, kind)
            kept = await redis.hgetall(name)
            if not kept:
                assert bucket.look(self.clock.now) == 0
                continue
            passed = max(0, self.clock.now - int(kept[b"at"]))
            level = max(0, int(kept[b"level"]) - passed * bucket.limit)
            assert level == bucket.look(self.clock.now) * RATE_PARTS
            assert await redis.pttl(name) > 0


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_what_passes_is_what_exact_arithmetic_lets_pass(
    kind: str, request: pytest.FixtureRequest
) -> None:
    server: RedisServer = request.getfixturevalue(f"{kind}_server")
    with asyncio.Runner() as runner:
        settings = settings_for(server, queue={"max_queued": 10_000})
        store = runner.run(_open(settings))
        clock = VirtualTime(store)

        @hypothesis_settings(
            max_examples=300, deadline=None, suppress_health_check=list(HealthCheck)
        )
        @given(one=LIMITS, two=LIMITS, whole=LIMITS, rules=RULES, steps=STEPS)
        def play(
            one: Limits, two: Limits, whole: Limits, rules: RateRules, steps: list[Any]
        ) -> None:
            game = Play(store, clock, {"one": one, "two": two}, whole, rules)
            runner.run(_play(game, steps))

        try:
            play()
        finally:
            runner.run(store.close())


async def _open(settings: Any) -> JobStore:
    return open_store(settings)


async def _play(game: Play, steps: list[Any]) -> None:
    await game.clock.set(1_800_000_000_000)
    for step in steps:
        await game.step(*step)
    while game.waiting:
        await game.cancel()
    await game.check_left()


async def test_an_idle_minute_brings_everything_back_and_no_more(store: JobStore) -> None:
    clock = VirtualTime(store)
    await clock.set(clock.now)
    quota = quota_of("acme", "k", Limits(requests_per_minute=5), NO_LIMITS)

    async def passes() -> int:
        count = 0
        while True:
            try:
                await store.submit(submission(key_id="k", quota=quota))
            except RateLimited:
                return count
            count += 1

    assert await passes() == 5
    await clock.advance(11_999)
    assert await passes() == 0
    await clock.advance(1)
    assert await passes() == 1
    await clock.advance(60_000)
    assert await passes() == 5
    await clock.advance(3_600_000)
    assert await passes() == 5, "what was not used is not saved up"


async def test_a_burst_bounds_what_passes_at_once_and_not_the_rate(store: JobStore) -> None:
    clock = VirtualTime(store)
    await clock.set(clock.now)
    rules = RateRules(request_burst_ms=5_000)
    quota = quota_of("acme", "k", Limits(requests_per_minute=60), NO_LIMITS, rules)

    waits: set[float] = set()

    async def passes() -> int:
        count = 0
        while True:
            try:
                await store.submit(submission(key_id="k", quota=quota))
            except RateLimited as refused:
                waits.add(refused.retry_after_seconds)
                return count
            count += 1

    assert await passes() == 5
    in_a_minute = 0
    for _ in range(60):
        await clock.advance(1_000)
        in_a_minute += await passes()
    assert in_a_minute == 60
    assert waits == {1}
    await clock.advance(3_600_000)
    assert await passes() == 5, "what was not used is not saved up"


async def test_a_request_for_more_tokens_than_a_burst_never_passes(store: JobStore) -> None:
    rules = RateRules(token_burst_ms=6_000)
    quota = quota_of("acme", "k", Limits(tokens_per_minute=1_000), NO_LIMITS, rules)
    with pytest.raises(LimitTooSmall, match="the 100 at once of 1000 tokens a minute"):
        await store.submit(submission(tokens=200, quota=quota))


async def test_the_bucket_of_an_address_is_shared_by_all_accounts_behind_it(
    store: JobStore,
) -> None:
    clock = VirtualTime(store)
    await clock.set(clock.now)
    rules = RateRules(per_address=2)

    def job(account: str, address: str) -> Submission:
        quota = quota_of(account, "k", NO_LIMITS, NO_LIMITS, rules, address)
        return submission(account, key_id="k", quota=quota)

    await store.submit(job("one", "2001:db8:0:1::5"))
    accepted = await store.submit(job("two", "2001:db8:0:1:ffff::7"))
    assert [status.remaining for status in accepted.rate_limits] == [0]
    with pytest.raises(RateLimited, match="2 requests a minute of this address") as refused:
        await store.submit(job("three", "2001:db8:0:1::9"))
    assert refused.value.retry_after_seconds == 30
    await store.submit(job("three", "2001:db8:0:2::9"))
    await store.submit(job("three", "192.0.2.1"))


async def test_a_changed_limit_holds_from_the_next_request_on(store: JobStore) -> None:
    clock = VirtualTime(store)
    await clock.set(clock.now)
    few, many = (quota_of("acme", "k", Limits(requests_per_minute=n), NO_LIMITS) for n in (2, 10))
    for _ in range(2):
        await store.submit(submission(key_id="k", quota=few))
    with pytest.raises(RateLimited):
        await store.submit(submission(key_id="k", quota=few))
    accepted = await store.submit(submission(key_id="k", quota=many))
    assert accepted.rate_limits[0].remaining == 7
    with pytest.raises(RateLimited) as refused:
        await store.submit(submission(key_id="k", quota=few))
    assert refused.value.retry_after_seconds == 60


async def test_the_bucket_of_an_account_is_shared_by_its_keys_and_nobody_else(
    store: JobStore,
) -> None:
    clock = VirtualTime(store)
    await clock.set(clock.now)
    whole = Limits(requests_per_minute=2)
    for key in ("a", "b"):
        await store.submit(submission(key_id=key, quota=quota_of("acme", key, NO_LIMITS, whole)))
    with pytest.raises(RateLimited, match="of this account"):
        await store.submit(submission(key_id="c", quota=quota_of("acme", "c", NO_LIMITS, whole)))
    other = submission("other", key_id="a", quota=quota_of("other", "a", NO_LIMITS, whole))
    assert (await store.submit(other)).rate_limits[0].rate.scope == ACCOUNT


async def test_a_job_that_took_more_than_was_estimated_is_charged_in_the_end(
    store: JobStore,
) -> None:
    clock = VirtualTime(store)
    await clock.set(clock.now)
    quota = quota_of("acme", "k", Limits(tokens_per_minute=1000), NO_LIMITS)
    await store.submit(submission(key_id="k", tokens=10, quota=quota))
    (job,) = await store.claim(QUEUE, "w", 1)
    step = LogAppend(job.id, job.fence, job.seq, [], 1500, 0, 0, Ending(Status.COMPLETED))
    assert await store.append([step]) == ["finished"]
    with pytest.raises(RateLimited) as refused:
        await store.submit(submission(key_id="k", tokens=10, quota=quota))
    # 500 over the limit and the next one's own: 30 s and a little.
    assert 30 < refused.value.retry_after_seconds < 32


async def test_keys_without_limits_leave_no_trace(store: JobStore) -> None:
    job = submission(key_id="k", quota=quota_of("acme", "k", NO_LIMITS, NO_LIMITS))
    assert job.quota.script_args == b""
    accepted = await store.submit(job)
    assert accepted.rate_limits == ()
    redis: Any = store.redis
    assert await redis.keys(f"{store.keys.prefix}:rate:*") == []
    assert await redis.hmget(store.keys.job(job.id), "group", "rated") == [None, None]
