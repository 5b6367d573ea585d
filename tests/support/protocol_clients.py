"""The clients' half of the state machine of `tests/integration/jobs/test_protocol_model.py`.

Invariant: a history depends on Hypothesis's choices alone, or it could neither replay nor
shrink it. So ids, which order equal scores, are chosen too, and no lease expires by itself.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from accounts.caller import Limits as KeyLimits
from accounts.quota import quota_of
from core.errors import IdempotencyMismatch, InvalidJob, JobConflict, QueueDraining, QueueFull
from core.redis.client import connect
from jobs.broker.tickets import ticket_template
from jobs.fairness import ServiceTier
from jobs.store.job_store import JobStore
from jobs.store.queue_control import CLOSE, DRAIN, PAUSE, RESUME, ModeChange
from jobs.store.store_factory import open_celery
from jobs.store.transitions import ClaimedJob, Submission
from tests.conftest import settings_for
from tests.support.jobs import QUEUE, submission
from tests.support.protocol_model import Limits, Model, ModelJob
from tests.support.redis_server import RedisServer

T = TypeVar("T")

LIMITS = Limits(max_queued=(10, 10, 8), max_per_account=6, max_attempts=4)
ACCOUNTS = ("a", "b", "c")
CAPS = {"a": 0, "b": 1, "c": 2}
#: Limits of keys on running and waiting jobs; the empty name is a key without limits.
KEYS = {"": (0, 0), "one": (1, 3), "two": (2, 0), "few": (0, 2)}
WEIGHTS = {"a": 1.0, "b": 2.0, "c": 0.5}
#: The accounts and keys of a history's first jobs, chosen so that caps are soon reached.
CALLERS = [("a", "one"), ("a", "two"), ("b", ""), ("c", ""), ("c", "one"), ("c", "one")]
#: A client's deadline: mostly none, or one in the future, or one in the past.
LIMIT = st.sampled_from([*[None] * 6, False, False, True])
LATER = 4_000_000_000_000  # a time in the far future
PICK = st.integers(0, 999)
_tickets: list[str] = []
_WHOSE = {"queue": "queue", "account's": "account", "key's": "key"}


@dataclass
class Hand:
    """A worker's lease on a job; it may have expired."""

    claimed: ClaimedJob
    written: int
    output: int


class Clients(RuleBasedStateMachine):
    """Each rule makes one call on Redis and on the model, and compares the answers."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        queue = {
            "max_queued": LIMITS.max_queued[0],
            "shed_default_at": 1.0,
            "shed_flex_at": 0.8,
            "max_queued_per_account": LIMITS.max_per_account,
            "ageing_seconds": 3600,
            "apart_wait_seconds": 3600,
        }
        retry = {"max_attempts": LIMITS.max_attempts, "base_seconds": 900, "cap_seconds": 900}
        lease = {"seconds": 900}
        settings = settings_for(server, queue=queue, retry=retry, lease=lease)
        if not _tickets:
            _tickets.append(ticket_template(open_celery(settings)))
        self.store = JobStore(connect(settings.redis), settings, _tickets[0])
        self.redis: Any = self.store.redis
        self.keys = self.store.keys
        self.model = Model(LIMITS)
        self.submitted: list[Submission] = []
        self.hands: list[Hand] = []
        self.token = 0
        self.made = 0

    def do(self, work: Awaitable[T]) -> T:
        async def doing() -> T:
            return await work

        return self.runner.run(doing())

    def pick(self, number: int) -> ModelJob:
        return self.model.by_id()[number % len(self.model.jobs)]

    def part(self, name: str) -> str:
        return self.keys.part(QUEUE, name)

    @initialize(callers=st.lists(st.sampled_from(CALLERS), min_size=4, max_size=8))
    def begin(self, callers: list[tuple[str, str]]) -> None:
        """Start with a backlog, so that short histories do not only test an empty queue."""
        self.do(self.redis.sadd(self.keys.queues, QUEUE))
        for account, through in callers:
            self.submit_one(account, through, ServiceTier.DEFAULT, 1, "", None, None, False, 0)

    # --- clients ----------------------------------------------------------------------

    @rule(
        account=st.sampled_from(ACCOUNTS),
        through=st.sampled_from(list(KEYS)),
        tier=st.sampled_from(list(ServiceTier)),
        tokens=st.integers(1, 3),
        key=st.sampled_from(["", "", "k1", "k2"]),
        start_by=LIMIT,
        deadline=LIMIT,
        watched=st.booleans(),
        stamp=st.integers(0, 2),
    )
    def submit(self, **fields: Any) -> None:
        self.submit_one(**fields)

    def submit_one(
        self,
        account: str,
        through: str,
        tier: ServiceTier,
        tokens: int,
        key: str,
        start_by: bool | None,
        deadline: bool | None,
        watched: bool,
        stamp: int,
    ) -> None:
        times = {None: None, False: LATER, True: 1}
        running, queued = KEYS[through]
        own = KeyLimits(max_running=running, max_queued=queued)
        new = submission(
            account,
            tier=tier,
            tokens=tokens,
            weight=WEIGHTS[account],
            max_running=CAPS[account],
            idempotency_key=key,
            start_by=times[start_by],
            deadline=times[deadline],
            watcher="api" if watched else "",
            quota=quota_of(account, through, own, KeyLimits()),
        )
        self.made += 1
        job = new._replace(id=f"job_{stamp}{self.made:031x}")
        record = ModelJob(
            job.id, account, tier.rank, CAPS[account], 0, 0, 0, start_by, deadline, watched
        )
        if through:
            record.group, record.group_cap = f"{account}/{through}", running
        expected = self.model.admit(record, key, (tier, tokens), queued)
        try:
            accepted = self.do(self.store.submit(job))
        except IdempotencyMismatch:
            assert expected == "mismatch"
        except InvalidJob:
            assert expected == "past"
        except QueueFull as full:
            self.check_full(full, expected)
        except QueueDraining:
            assert expected == "draining"
        else:
            assert expected == ("replayed" if accepted.replayed else "accepted")
            if accepted.replayed:
                assert accepted.id == self.model.keys[account, key][1]
            else:
                score, share = self.do(self.redis.hmget(self.keys.job(job.id), ["score", "share"]))
                record.estimate, record.weight = float(share.split()[0]), WEIGHTS[account]
                self.model.accept(record, key, (tier, tokens), float(score))
                self.submitted.append(job)

    def check_full(self, full: QueueFull, expected: str) -> None:
        assert f"{_WHOSE[str(full).split()[1]]}-full" == expected
        assert full.retry_after_seconds > 0

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

    @rule(change=st.sampled_from([*[RESUME] * 6, PAUSE, DRAIN, CLOSE, ModeChange(runs=True)]))
    def an_operator_changes_what_the_queue_does(self, change: ModeChange) -> None:
        before, now = self.do(self.store.control.change_mode(QUEUE, change, "test"))
        assert before == self.model.mode
        assert now == change.applied(before)
        self.model.mode = now

    @rule(sure=st.integers(0, 9).map(lambda n: n == 0))
    def an_operator_purges_the_queue(self, sure: bool) -> None:
        if sure:
            assert self.do(self.store.control.purge(QUEUE)) == (self.model.purge(), True)

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
