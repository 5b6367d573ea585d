"""The Lua scripts agree with `tests.support.protocol_model` in random histories.

Hypothesis plays clients, workers (fresh, stale, repeating themselves), the sweeper, the broker
and the clock, and shrinks any disagreement to the shortest history that shows it.
"""

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from core.errors import EngineError
from jobs.blame import Blame, Occupancy
from jobs.status import Status
from jobs.store.transitions import Ending, LogAppend
from tests.support.jobs import QUEUE, delta
from tests.support.protocol_check import check_agreement, settle
from tests.support.protocol_clients import PICK, Clients, Hand
from tests.support.protocol_model import ModelJob
from tests.support.redis_server import RedisServer

ENDS = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


class ProtocolMachine(Clients):
    """Adds the workers, time, the broker and the sweeper."""

    # --- workers ----------------------------------------------------------------------

    @rule(
        n=st.integers(1, 4),
        occupancy=st.sampled_from([Occupancy.EMPTY, *Occupancy]),
    )
    def claim(self, n: int, occupancy: Occupancy) -> None:
        before = {job.id: job.watched for job in self.model.jobs.values()}
        taken = len(self.do(self.redis.rpop(self.keys.tickets(QUEUE), n)) or [])
        self.model.tickets -= taken
        expected = self.model.claim(n, occupancy=occupancy)
        claimed = self.do(self.store.claim_for(QUEUE, "w", n, occupancy)).jobs
        assert [job.id for job in claimed] == [job.id for job in expected]
        for job, model in zip(claimed, expected, strict=True):
            assert (job.fence, job.attempt) == (model.fence, model.failures + 1)
            assert (job.seq, job.output_tokens) == (model.seq, len(model.tokens))
            assert (job.watched, job.apart) == (before[job.id], model.apart)
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
        step = LogAppend(
            job.id, hand.claimed.fence, after, events, 3, 0, output, Ending(end) if end else None
        )
        for _ in range(1 + repeat):
            expected = self.model.append(
                job, hand.claimed.fence, after, tokens, restart=restart, end=end or ""
            )
            answer = self.do(self.store.append([step]))[0]
            assert answer == expected
            if answer != "lost":
                hand.written, hand.output = after + len(events), output

    @precondition(lambda self: self.model.at("running"))
    @rule(number=PICK)
    def the_holder_of_a_lease_ends_its_job(self, number: int) -> None:
        running = self.model.at("running")
        job = running[number % len(running)]
        assert self.do(self.store.finish(job.id, job.fence, Ending(Status.COMPLETED)))
        assert self.model.finish(job, job.fence, Status.COMPLETED)

    @precondition(lambda self: self.hands)
    @rule(number=st.integers(0, 9), end=st.sampled_from(ENDS))
    def finish(self, number: int, end: Status) -> None:
        if (held := self.hand(number)) is not None:
            hand, job = held
            expected = self.model.finish(job, hand.claimed.fence, end)
            assert self.do(self.store.finish(job.id, hand.claimed.fence, Ending(end))) == expected

    @precondition(lambda self: self.hands)
    @rule(
        number=st.integers(0, 9),
        delayed=st.booleans(),
        counted=st.booleans(),
        blame=st.sampled_from([Blame.NONE, *Blame]),
    )
    def requeue(self, number: int, delayed: bool, counted: bool, blame: Blame) -> None:
        if (held := self.hand(number)) is not None:
            hand, job = held
            fence = hand.claimed.fence
            expected = self.model.requeue(job, fence, delayed=delayed, counted=counted, blame=blame)
            seconds = 900.0 if delayed else 0.0
            answer = self.do(
                self.store.requeue(
                    job.id,
                    fence,
                    EngineError("boom"),
                    delay_seconds=seconds,
                    counted=counted,
                    blame=blame,
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

    @rule()
    def the_worker_is_not_heard_of(self) -> None:
        self.do(self.redis.zadd(self.part("workers"), {"w": 1}, xx=True))
        self.model.worker_lives = False

    @precondition(lambda self: self.model.at("apart"))
    @rule(number=PICK)
    def a_suspected_job_has_waited_long(self, number: int) -> None:
        waiting = self.model.at("apart")
        job = waiting[number % len(waiting)]
        self.do(self.redis.hset(self.keys.job(job.id), "queued", 1))
        job.overdue = True

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
        ready = len(self.model.at("ready")) + len(self.model.at("apart"))
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
        lambda: ProtocolMachine(server),  # a factory will do
        settings=hypothesis_settings(
            max_examples=40,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
