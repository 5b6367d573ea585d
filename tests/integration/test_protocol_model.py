"""The Lua scripts on a real Redis against `tests.support.protocol_model`, whatever the order.

Hypothesis plays clients, workers (fresh, stale, repeating themselves), the sweeper, the broker
and the clock, and shrinks any disagreement to the shortest history that shows it.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobs.connection import connect
from jobs.errors import EngineError, IdempotencyMismatch, JobConflict, QueueFull
from jobs.fairness import ServiceTier
from jobs.open import open_celery
from jobs.state import Status
from jobs.store import Append, Claimed, Ending, JobStore, Submission
from jobs.tickets import ticket_template
from tests.conftest import settings_for
from tests.support.jobs import QUEUE, delta, submission
from tests.support.protocol_check import check_agreement, settle
from tests.support.protocol_model import Limits, Model, ModelJob
from tests.support.redis_server import RedisServer

T = TypeVar("T")

LIMITS = Limits(max_queued=10, max_per_account=6, max_attempts=4)
ACCOUNTS = ("a", "b", "c")
CAPS = {"a": 0, "b": 1, "c": 1}
WEIGHTS = {"a": 1.0, "b": 2.0, "c": 0.5}
#: A client's limit in time: none mostly, or one that passes later, or one that has passed.
LIMIT = st.sampled_from([*[None] * 6, False, False, True])
LATER = 4_000_000_000_000  # a time that does not come
PICK = st.integers(0, 999)
ENDS = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
_tickets: list[str] = []


@dataclass
class Hand:
    """A worker's hold on a job, which may have gone stale."""

    claimed: Claimed
    written: int
    output: int


class ProtocolMachine(RuleBasedStateMachine):
    """Every rule does one thing to Redis and to the model, and compares the answers."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        queue = {
            "max_queued": LIMITS.max_queued,
            "max_queued_per_account": LIMITS.max_per_account,
            "ageing_seconds": 3600,
        }
        retry = {"max_attempts": LIMITS.max_attempts, "base_seconds": 900, "cap_seconds": 900}
        settings = settings_for(server, queue=queue, retry=retry)
        if not _tickets:
            _tickets.append(ticket_template(open_celery(settings)))
        self.store = JobStore(connect(settings.redis), settings, _tickets[0])
        self.redis: Any = self.store.redis
        self.keys = self.store.keys
        self.model = Model(LIMITS)
        self.submitted: list[Submission] = []
        self.hands: list[Hand] = []
        self.token = 0

    def do(self, work: Awaitable[T]) -> T:
        async def doing() -> T:
            return await work

        return self.runner.run(doing())

    def pick(self, number: int) -> ModelJob:
        return self.model.by_id()[number % len(self.model.jobs)]

    def part(self, name: str) -> str:
        return self.keys.part(QUEUE, name)

    @initialize(accounts=st.lists(st.sampled_from(ACCOUNTS), min_size=4, max_size=8))
    def begin(self, accounts: list[str]) -> None:
        """Start with a backlog, so that short histories are about more than an empty queue."""
        for account in accounts:
            self.submit_one(account, ServiceTier.DEFAULT, 1, "", None, None, False)

    # --- clients ----------------------------------------------------------------------

    @rule(
        account=st.sampled_from(ACCOUNTS),
        tier=st.sampled_from(list(ServiceTier)),
        tokens=st.integers(1, 3),
        key=st.sampled_from(["", "", "k1", "k2"]),
        start_by=LIMIT,
        deadline=LIMIT,
        watched=st.booleans(),
    )
    def submit(self, **fields: Any) -> None:
        self.submit_one(**fields)

    def submit_one(
        self,
        account: str,
        tier: ServiceTier,
        tokens: int,
        key: str,
        start_by: bool | None,
        deadline: bool | None,
        watched: bool,
    ) -> None:
        times = {None: None, False: LATER, True: 1}
        job = submission(
            account,
            tier=tier,
            tokens=tokens,
            weight=WEIGHTS[account],
            max_running=CAPS[account],
            idempotency_key=key,
            start_by=times[start_by],
            deadline=times[deadline],
            watcher="api" if watched else "",
        )
        record = ModelJob(
            job.id, account, tier.rank, CAPS[account], 0, 0, 0, start_by, deadline, watched
        )
        expected = self.model.admit(record, key, (tier, tokens))
        try:
            accepted = self.do(self.store.submit(job))
        except IdempotencyMismatch:
            assert expected == "mismatch"
        except QueueFull as full:
            what = "queue-full" if "the queue" in str(full) else "account-full"
            assert expected == what
        else:
            assert expected == ("replayed" if accepted.replayed else "accepted")
            if accepted.replayed:
                assert accepted.id == self.model.keys[account, key][1]
            else:
                score = self.do(self.redis.hget(self.keys.job(job.id), "score"))
                self.model.accept(record, key, (tier, tokens), float(score))
                self.submitted.append(job)

    @precondition(lambda self: self.submitted)
    @rule(number=PICK)
    def submit_again_after_a_lost_answer(self, number: int) -> None:
        job = self.submitted[number % len(self.submitted)]
        if job.id in self.model.jobs:
            assert not self.do(self.store.submit(job)).replayed

    @precondition(lambda self: self.model.jobs)
    @rule(number=PICK)
    def cancel(self, number: int) -> None:
        job = self.pick(number)
        assert self.do(self.store.cancel(job.id, job.account)) == self.model.cancel(job)

    @precondition(lambda self: self.model.jobs)
    @rule(number=PICK)
    def delete(self, number: int) -> None:
        job = self.pick(number)
        deleted = self.model.delete(job)
        try:
            self.do(self.store.delete(job.id, job.account))
        except JobConflict:
            assert not deleted
        else:
            assert deleted

    @precondition(lambda self: self.model.jobs)
    @rule(number=PICK)
    def watch(self, number: int) -> None:
        job = self.pick(number)
        status, seq = self.do(self.store.watch(job.id, job.account, "api"))
        assert (status, seq) == (job.status, job.seq)
        job.watched = job.watched or not job.terminal

    # --- workers ----------------------------------------------------------------------

    @rule(n=st.integers(1, 4))
    def claim(self, n: int) -> None:
        before = {job.id: job.watched for job in self.model.jobs.values()}
        taken = len(self.do(self.redis.rpop(self.keys.tickets(QUEUE), n)) or [])
        self.model.tickets -= taken
        expected = self.model.claim(n)
        claimed = self.do(self.store.claim(QUEUE, "w", n))
        assert [job.id for job in claimed] == [job.id for job in expected]
        for job, model in zip(claimed, expected, strict=True):
            assert (job.fence, job.attempt) == (model.fence, model.failures + 1)
            assert (job.seq, job.output_tokens) == (model.seq, len(model.tokens))
            assert job.watched == before[job.id]
            self.hands.append(Hand(job, job.seq, job.output_tokens))

    def hand(self, number: int) -> tuple[Hand, ModelJob] | None:
        found = self.hands[-1 - number % len(self.hands)]
        job = self.model.jobs.get(found.claimed.id)
        return None if job is None else (found, job)

    @precondition(lambda self: self.hands)
    @rule(
        number=st.integers(0, 9),
        count=st.integers(0, 3),
        restart=st.integers(0, 5).map(lambda n: n == 0),
        end=st.sampled_from([None, None, None, *ENDS]),
        skip=st.integers(0, 5).map(lambda n: n == 0),
        repeat=st.booleans(),
    )
    def append(
        self, number: int, count: int, restart: bool, end: Status | None, skip: bool, repeat: bool
    ) -> None:
        held = self.hand(number)
        if held is None:
            return
        hand, job = held
        tokens = list(range(self.token, self.token + count))
        self.token += count
        output = count if restart else hand.output + count
        events = [("restarted", b"{}")] * restart
        events += [("delta", delta(tokens))] if tokens else []
        after = hand.written + 7 * skip
        step = Append(
            job.id, hand.claimed.fence, after, events, 3, 0, output, Ending(end) if end else None
        )
        for _ in range(1 + repeat):
            expected = self.model.append(
                job, hand.claimed.fence, after, tokens, restart=restart, end=end or ""
            )
            answer = self.do(self.store.append("w", [step]))[0]
            assert answer == expected
            if answer != "lost":
                hand.written, hand.output = after + len(events), output

    @precondition(lambda self: self.hands)
    @rule(number=st.integers(0, 9), end=st.sampled_from(ENDS))
    def finish(self, number: int, end: Status) -> None:
        if (held := self.hand(number)) is not None:
            hand, job = held
            expected = self.model.finish(job, hand.claimed.fence, end)
            assert self.do(self.store.finish(job.id, hand.claimed.fence, Ending(end))) == expected

    @precondition(lambda self: self.hands)
    @rule(number=st.integers(0, 9), delayed=st.booleans(), counted=st.booleans())
    def requeue(self, number: int, delayed: bool, counted: bool) -> None:
        if (held := self.hand(number)) is not None:
            hand, job = held
            fence = hand.claimed.fence
            expected = self.model.requeue(job, fence, delayed=delayed, counted=counted)
            seconds = 900.0 if delayed else 0.0
            answer = self.do(
                self.store.requeue(
                    job.id, fence, EngineError("boom"), delay_seconds=seconds, counted=counted
                )
            )
            assert answer == expected

    @precondition(lambda self: self.hands)
    @rule(numbers=st.sets(st.integers(0, 9), min_size=1, max_size=4))
    def renew(self, numbers: set[int]) -> None:
        held = [hand for number in numbers if (hand := self.hand(number)) is not None]
        pairs = {(job.id, hand.claimed.fence): job for hand, job in held}
        expected = self.model.renew([(job, fence) for (_, fence), job in pairs.items()])
        assert self.do(self.store.renew(QUEUE, "w", 4, b"{}", list(pairs))) == expected

    # --- time, the broker and the sweeper ---------------------------------------------

    @precondition(lambda self: self.model.at("running"))
    @rule(number=PICK, which=st.sampled_from(["running", "deadlines"]))
    def a_lease_or_the_run_limit_passes(self, number: int, which: str) -> None:
        running = self.model.at("running")
        job = running[number % len(running)]
        self.do(self.redis.zadd(self.part(which), {job.id: 1}, xx=True))
        job.lease_over |= which == "running"
        job.run_over |= which == "deadlines"

    @precondition(lambda self: self.model.at("delayed"))
    @rule(number=PICK)
    def a_retry_falls_due(self, number: int) -> None:
        delayed = self.model.at("delayed")
        job = delayed[number % len(delayed)]
        self.do(self.redis.zadd(self.part("delayed"), {job.id: 1}, xx=True))
        job.retry_due = True

    @precondition(lambda self: self.model.jobs)
    @rule(number=PICK, which=st.sampled_from(["start_by", "deadline"]))
    def a_clients_limit_passes(self, number: int, which: str) -> None:
        job = self.pick(number)
        if job.terminal or getattr(job, which) is not False:
            return
        setattr(job, which, True)
        self.do(self.redis.hset(self.keys.job(job.id), which, 1))
        if which == "deadline" or not job.started:
            self.do(self.redis.zadd(self.part("deadlines"), {job.id: 1}, xx=True))

    @rule(lost=st.booleans())
    def a_ticket_is_lost_or_doubled(self, lost: bool) -> None:
        name = self.keys.tickets(QUEUE)
        if lost and self.do(self.redis.rpop(name)) is not None:
            self.model.tickets -= 1
        elif not lost:
            self.do(self.redis.lpush(name, self.do(self.redis.lindex(name, 0)) or b"{}"))
            self.model.tickets += 1

    @rule()
    def sweep(self) -> None:
        self.model.sweep()
        self.do(self.store.sweep(QUEUE))
        ready = len(self.model.at("ready"))
        assert self.do(self.redis.llen(self.keys.tickets(QUEUE))) >= ready

    @precondition(lambda self: any(job.terminal for job in self.model.jobs.values()))
    @rule(number=PICK)
    def retention_passes(self, number: int) -> None:
        ended = [job for job in self.model.by_id() if job.terminal]
        job = ended[number % len(ended)]
        member = f"{job.account} {job.id}"
        self.do(self.redis.zadd(f"{self.keys.prefix}:purge", {member: 1}, xx=True))
        assert self.do(self.store.purge()) == 1
        self.model.delete(job)

    # --- what must hold after every step ----------------------------------------------

    @invariant()
    def redis_agrees_with_the_model(self) -> None:
        self.do(check_agreement(self.store, self.model))

    def teardown(self) -> None:
        try:
            self.do(settle(self.store, self.model))
        finally:
            self.do(self.store.close())
            self.runner.close()


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_the_scripts_keep_the_protocol_in_every_order(
    kind: str, request: pytest.FixtureRequest
) -> None:
    server: RedisServer = request.getfixturevalue(f"{kind}_server")
    run_state_machine_as_test(
        lambda: ProtocolMachine(server),  # type: ignore[arg-type]  # a factory will do
        settings=hypothesis_settings(
            max_examples=40,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
